"""The topologies of a sweep, as text for people and as plain data."""

from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table

from harness.spec import TrialSpec
from harness.topology import OWN_EDGES, depends_on_seed
from sweeps.language.sweep_spec import SweepSpec
from sweeps.wording import counted, say


@dataclass(frozen=True, slots=True)
class Agent:
    """One agent in a drawing."""

    agent_id: int
    role: str | None
    """Name of the role. None in a timing, whose agents read random tokens."""
    tool: str | None
    level: int
    """Level, from 1. Agents on one level do not read each other within a round."""
    reads: tuple[int, ...]
    """Agents whose answers it reads in the same round."""
    reads_of_last_round: tuple[int, ...]
    """Agents whose answers of the previous round it reads. Empty if there is one round."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """Who reads whom in some of the trials of a sweep."""

    workload: str
    team: str | None
    """The label of the trials' own team. None for the workload's."""
    topology: str
    rounds: int
    seed: int | None
    """Seed of a topology that depends on it. None for any other."""
    agents: tuple[Agent, ...]

    @property
    def title(self) -> str:
        """One line that distinguishes the drawing from the others."""
        counts = f"{counted(len(self.agents), 'agent')}, {counted(self.rounds, 'round')}"
        seed = "" if self.seed is None else f", seed {self.seed}"
        graph = f"team {self.team}" if self.topology == OWN_EDGES else self.topology
        team = f", team {self.team}" if self.team and self.topology != OWN_EDGES else ""
        return f"{graph}, {counts}{seed}, {self.workload}{team}"

    def listed(self, agent_ids: tuple[int, ...]) -> str:
        """Return the agents' ids, or the names of their roles where each role is one agent."""
        if self.topology == OWN_EDGES:
            return ", ".join(str(self.agents[agent_id - 1].role) for agent_id in agent_ids) or "-"
        return " ".join(map(str, agent_ids)) or "-"


def draw_topologies(sweep: SweepSpec) -> dict[Drawing, list[str]]:
    """Return each distinct drawing of a sweep with the ids of its trials. Trials without agents' turns have none."""
    trials: dict[Drawing, list[str]] = {}
    for trial in sweep.trials:
        if trial.workload.converses:
            trials.setdefault(_draw(trial), []).append(trial.trial_id)
    return trials


def print_topologies(sweep: SweepSpec, console: Console) -> None:
    """Print a paragraph per drawing, with its agents level by level."""
    drawings = draw_topologies(sweep)
    for index, (drawing, trial_ids) in enumerate(drawings.items()):
        if index:
            console.print()
        say(console, f"{drawing.title} ({counted(len(trial_ids), 'trial')})")
        several = drawing.rounds > 1
        last_round = ["of the last round"] if several else []
        table = Table("level", "agent", "role", "tool", "reads", *last_round, box=None, pad_edge=False)
        for agent in sorted(drawing.agents, key=lambda agent: (agent.level, agent.agent_id)):
            history = [drawing.listed(agent.reads_of_last_round)] if several else []
            cells = (agent.role or "-", agent.tool or "-", drawing.listed(agent.reads))
            table.add_row(str(agent.level), str(agent.agent_id), *cells, *history)
        console.print(table, highlight=False)
    if not drawings:
        say(console, "no agents: none of the trials has any take turns")


def topologies_document(sweep: SweepSpec) -> list[dict[str, object]]:
    """Return the drawings as plain data, each with the ids of its trials."""
    return [{**asdict(drawing), "trial_ids": trial_ids} for drawing, trial_ids in draw_topologies(sweep).items()]


def _draw(trial: TrialSpec) -> Drawing:
    topology, roles = trial.graph, trial.roles
    level_of = {agent_id: index for index, level in enumerate(topology.levels(), start=1) for agent_id in level}
    agents = tuple(
        Agent(
            agent_id,
            role=roles[agent_id - 1].name if roles else None,
            tool=roles[agent_id - 1].tool if roles else None,
            level=level_of[agent_id],
            reads=topology.read_by(agent_id),
            reads_of_last_round=topology.remembered_by(agent_id) if trial.rounds > 1 else (),
        )
        for agent_id in range(1, trial.agents + 1)
    )
    seed = trial.seed if depends_on_seed(trial.topology) else None
    team = trial.team.label if trial.team is not None else None
    return Drawing(trial.workload.name, team, trial.topology, trial.rounds, seed, agents)
