"""TrialSpec: everything that defines one trial, as pure data.

Two trials with equal specs give equal answers. The place where a trial runs (host, device, replica) is not part of the
spec. ``identity.py`` says which specs are the same trial.
"""

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from harness.agents import Role, Team, built_in_label, revised_prompts, roles_for
from harness.extensions import UnknownNameError
from harness.identity import identity_of
from harness.methods import find_method, parameters_key
from harness.topology import BUILT_IN, OWN_EDGES, Topology, build_topology, check_agents
from harness.workloads.base import Workload
from harness.workloads.recall import RecallSpec
from kvcomm_core.config import MethodConfig, require, require_choice, shown

DTypeName = Literal["auto", "float32", "bfloat16", "float16"]
WeightsName = Literal["model", "int8"]
AnswersName = Literal["own", "dense"]

_ONLY_GRADED = ("rounds", "answers", "until_kl", "until_accuracy")
"""Fields that a trial without graded items may not set, even in a sweep that has others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialSpec:
    """One trial: a method on a workload with a number of agents. A sweep file may set any field."""

    __pydantic_config__ = {"extra": "forbid", "strict": True}  # noqa: RUF012 - read by pydantic, not a field

    model: str = "embedded"
    """``embedded``, ``coder``, a Hub id (``@`` and a branch, tag or commit may follow), a local folder, a ``.gguf``
    file, or ``random:<shape>``."""

    dtype: DTypeName = "auto"
    """Dtype of weights and KV. ``auto`` is bfloat16 on a GPU and float32 on a CPU."""

    weights: WeightsName = "model"
    """Weights of the linear layers: as the model has them, or ``int8``, quantised while loading, with which a CPU is
    faster and answers differ. ``int8`` needs a CPU and a model without experts. Norms, the embedding, activations
    between the layers and KV keep ``dtype``."""

    method: str = "dense"
    """The way to obtain a prompt's KV: a name of ``harness/methods.py``, one that an installed package announces, or
    ``module:Class``."""

    parameters: MethodConfig = field(default_factory=MethodConfig)
    """Parameters of the method, by default its defaults. A sweep file and a record have them under the method's own
    name."""

    workload: Workload = field(default_factory=RecallSpec)
    """The source of the items."""

    team: Team | None = None
    """The roles of the agents, as data: a sweep file names the team's file. None for the workload's own team."""

    topology: str = "fully_connected"
    """Who reads whom: a name of ``harness/named_topologies.py``, one that an installed package announces, or
    ``module:function``. Timings are ``fully_connected``. A trial whose team has edges of its own has the topology
    ``team``."""

    agents: int = 3
    """Number of agents, including the decision agent, as the paper's tables count. At least 2, or 1 with topology
    ``single``; the number of roles of a team with edges of its own. ``blend`` has no agents; ``contexts`` and
    ``proximity`` use only the prompts of their roles."""

    rounds: int = 1
    """Rounds of conversation per item. In each round every agent takes a turn. From the second round on it also
    reads answers of the round before, as the topology says. The last answer of the decision agent is graded. At
    least 1."""

    seed: int = 0
    """Seed of generated items and of every random choice. Not negative."""

    max_new_tokens: int = 64
    """Maximum length of an agent's answer, in tokens, unless its role has its own. At least 1. Timings set the length
    of answers elsewhere."""

    batch_size: int = 1
    """Number of items that move through the agents together. They see the anchor pools as they were when the batch
    began, so this changes what is reused. At least 1."""

    wave: int | None = None
    """Number of items that pass through ``batch_size`` rows before all rows are empty again, after a first wave of
    ``batch_size`` items: each item moves on by itself, publishes its anchors when it ends, and leaves its row to the
    next item, which sees them. At least ``batch_size``; checkpoints lie between waves. None: the items of a batch take
    their turns in step, and wait for the longest answer. See ``harness/trials/schedules.py``."""

    shards: int = 1
    """Number of parts that the items are divided into. Each part runs with its own pools on any free replica, so the
    trial ends sooner and reuses less. At least 1, and at most the number of items; see ``harness/trials/shards.py``."""

    fidelity: float = 0.0
    """Share of the turns, 0 to 1, that are compared with a dense turn on the same prompt, outside the timed part and
    only if they reuse more than a fallback's exact prefix. The comparison covers next token, greedy answer, keys and
    values."""

    until_kl: float | None = None
    """The trial ends once it knows its mean next-token KL to this many nats, instead of taking all items; see
    ``harness/until.py``. Above 0; it needs ``fidelity`` and one shard. None for all items. ``dense`` takes all items,
    since other trials are compared with it."""

    until_accuracy: float | None = None
    """The same for the trial's own accuracy, in percentage points."""

    answers: AnswersName = "own"
    """The answers that other agents read. ``own`` are those that the method decodes. ``dense`` are those of dense turns
    on the same prompts: every method then reads the same prompts and is compared with the same dense turns, which a
    cache keeps. The last answer of the decision agent is always the method's own."""

    def __post_init__(self) -> None:
        require(bool(self.model.strip()), "model", self.model, "a model name")
        self._set_parameters()
        self._check_graph()
        require(self.rounds >= 1, "rounds", self.rounds, "1 or more")
        require(self.seed >= 0, "seed", self.seed, "0 or more")
        require(self.max_new_tokens >= 1, "max_new_tokens", self.max_new_tokens, "1 or more")
        require(self.batch_size >= 1, "batch_size", self.batch_size, "1 or more")
        least = f"{self.batch_size} or more, as batch_size says, or null"
        require(self.wave is None or self.wave >= self.batch_size, "wave", self.wave, least)
        require(self.shards >= 1, "shards", self.shards, "1 or more")
        require(0.0 <= self.fidelity <= 1.0, "fidelity", self.fidelity, "0 to 1")
        require_choice("answers", self.answers, AnswersName)
        self._check_until()
        if not self.workload.graded:
            for name, value, only in (
                ("weights", self.weights, "model"),
                ("team", self.team and self.team.name, None),
                ("rounds", self.rounds, 1),
                ("batch_size", self.batch_size, 1),
                ("wave", self.wave, None),
                ("shards", self.shards, 1),
                ("fidelity", self.fidelity, 0),
                ("answers", self.answers, "own"),
                ("until_kl", self.until_kl, None),
                ("until_accuracy", self.until_accuracy, None),
            ):
                if name in _ONLY_GRADED or name in self.workload.unused_fields:
                    allowed = "null" if only is None else only
                    require(value == only, name, value, f"{allowed}, with workload {self.workload.name}")
        self.workload.check(self)

    def _check_until(self) -> None:
        for name, value in (("until_kl", self.until_kl), ("until_accuracy", self.until_accuracy)):
            require(value is None or value > 0, name, value, "above 0, or null for all items")
            require(value is None or self.shards == 1, name, value, "null, with more than one shard")
        is_known = self.fidelity > 0 or self.method == "dense"
        require(self.until_kl is None or is_known, "until_kl", self.until_kl, "null, where fidelity is 0")

    def _set_parameters(self) -> None:
        try:
            expected = find_method(self.method)
        except UnknownNameError as error:
            raise ValueError(f"method is {shown(self.method)}; {error}") from None
        if not fields(self.parameters):  # they fit any method
            object.__setattr__(self, "parameters", expected())
        kind = type(self.parameters).__name__
        require(
            type(self.parameters) is expected, "parameters", kind, f"{expected.__name__}, with method {self.method}"
        )

    def _check_graph(self) -> None:
        if self.team is None or self.team.graph is None:
            check_agents(self.topology, self.agents)
            if self.topology not in BUILT_IN:
                build_topology(self.topology, self.agents, self.seed)
            return
        edges = f"{OWN_EDGES}, since the team {self.team.name} has edges of its own"
        require(self.topology == OWN_EDGES, "topology", self.topology, edges)
        count = f"{self.team.agents}, the number of roles of the team {self.team.name}, which has edges of its own"
        require(type(self.agents) is int and self.agents == self.team.agents, "agents", self.agents, count)

    @property
    def roles(self) -> tuple[Role, ...]:
        """The roles of agents 1..``agents``; empty if the agents have none."""
        if self.team is not None:
            return self.team.roles_of(self.agents)
        return roles_for(self.workload.team, self.agents) if self.workload.team is not None else ()

    @property
    def graph(self) -> Topology:
        """Who reads whom."""
        own = self.team.graph if self.team is not None else None
        return own or build_topology(self.topology, self.agents, self.seed)

    @property
    def team_label(self) -> str | None:
        """The name that tells the team from others; None if the agents have no roles."""
        if self.team is not None:
            return self.team.label
        return built_in_label(self.workload.team, revised_prompts(self.workload.team))

    def to_dict(self) -> dict[str, Any]:
        """Return nested plain data, including defaults, with the method's parameters under its own name, and the
        digest of the team in it.

        For a workload's own team, ``prompts`` is its digest unless it is the first edition.
        """
        plain = asdict(self)
        if self.team is not None:
            plain["team"]["digest"] = self.team.digest
        elif (prompts := revised_prompts(self.workload.team)) is not None:
            plain["prompts"] = prompts
        parameters = plain.pop("parameters")
        return plain | ({parameters_key(self.method): parameters} if parameters else {})

    @property
    def trial_id(self) -> str:
        """The trial's identity: twelve hexadecimal digits; see ``identity.py``."""
        return identity_of(self)

    def dense_counterpart(self) -> "TrialSpec":
        """Return the dense trial to compare this one with, which differs only in the method and its parameters.

        A trial that has no such comparison returns itself.
        """
        if not self.workload.compares_with_dense:
            return self
        return replace(self, method="dense", parameters=MethodConfig(), fidelity=0.0)


TRIAL_FIELDS = tuple(f.name for f in fields(TrialSpec) if f.name != "parameters")
"""The fields that a sweep file may set under their own names."""
