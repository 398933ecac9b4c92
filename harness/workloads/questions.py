"""Workloads of questions that agents answer together, including those read from a file."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, ClassVar, Literal

from harness.workloads.base import ExpectedTurns, Item, Work, Workload
from harness.workloads.sources import Row, Source, read_rows
from kvcomm_core.config import require, shown

if TYPE_CHECKING:
    from harness.spec import TrialSpec

Order = Literal["file", "random", "ascending", "descending"]

CHARACTERS_PER_TOKEN = 4
"""Approximate length of a token of English prose, for any tokenizer on the allow-list."""

MARKUP_TOKENS = 20
"""Approximate number of markup tokens that a chat template adds to a prompt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionWorkload(Workload):
    """Base of the workloads whose items go through the agents of a trial, and whose answers are graded."""

    runner: ClassVar[str] = "harness.trials.conversation:run_questions"
    graded: ClassVar[bool] = True
    converses: ClassVar[bool] = True
    shown_by: ClassVar[str] = "analysis.tables.show:show_graded"

    @property
    def team(self) -> str | None:
        """The workload's own roles."""
        return self.name

    def check(self, trial: "TrialSpec") -> None:
        """Raise ``ValueError`` if the agents have no roles, or a tool that the items do not suit."""
        has_roles = trial.team is not None or self.team is not None
        require(has_roles, "team", None, f"the path of a team file, with workload {self.name}")
        if trial.team is not None and not self.has_doctests:
            users = [role.name for role in trial.team.roles if role.tool == "doctest"]
            allowed = f"other tools than doctest, with workload {self.name}"
            require(not users, "team", f"{trial.team.name}, whose {', '.join(users)} has it", allowed)

    def work(self, trial: "TrialSpec", items: Sequence[Item]) -> Work:
        """Return a turn per item, round and agent. Turns that are compared with dense are taken once more."""
        return Work(expected_turns(trial, items))


def expected_turns(trial: "TrialSpec", items: Sequence[Item]) -> tuple[ExpectedTurns, ...]:
    """Return the turns of a conversation on ``items``."""
    topology, roles = trial.graph, trial.roles
    question = sum(len(item.question) for item in items) / CHARACTERS_PER_TOKEN / len(items)
    # Turns that reuse nothing are not taken again, but their number depends on the items.
    dense = 1.0 if trial.answers == "dense" else trial.fidelity
    arms = {trial.method: 1.0} | ({"dense": dense} if trial.method != "dense" and dense else {})
    lengths = [role.max_new_tokens or trial.max_new_tokens for role in roles]
    n_given = min(len(item.given) for item in items)
    for index in range(n_given):
        lengths[index] = sum(len(item.given[index]) for item in items) // CHARACTERS_PER_TOKEN // len(items)
    turns = []
    for agent_id, role in enumerate(roles, start=1):
        fixed = MARKUP_TOKENS + (len(role.system) + len(role.user)) // CHARACTERS_PER_TOKEN
        read = topology.read_by(agent_id)
        later = (*read, *topology.remembered_by(agent_id))
        for read_in_round, rounds in ((read, 1), (later, trial.rounds - 1)):
            turns += [
                ExpectedTurns(
                    count=share * len(items) * rounds,
                    arm=arm,
                    prompt_tokens=fixed + question,
                    answers_read=len(read_in_round),
                    read_tokens=fmean(lengths[other - 1] for other in read_in_round) if read_in_round else None,
                    output_tokens=lengths[agent_id - 1],
                    given=agent_id <= n_given,
                )
                for arm, share in arms.items()
                if rounds
            ]
    return tuple(turns)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionFileSpec(QuestionWorkload):
    """Base of the parameters of a workload whose items are read from a file."""

    source: ClassVar[Source]
    """The places where the file may be."""

    limit: int | None = None
    """Number of items, from the start of the file; None for all. At least 1."""

    path: str | None = None
    """The file, in the form that the workload's module describes. None if ``sources.py`` is to find one."""

    order: Order = "file"
    """The order in which the items are run (paper, table 4). It is applied after ``limit``, so it never changes
    which items are run. ``random`` uses the trial's seed. ``ascending`` and ``descending`` sort by the characters of
    the question, with ties in file order. The paper does not define its measure of length."""

    def __post_init__(self) -> None:
        require(self.limit is None or self.limit >= 1, "workload.limit", self.limit, "1 or more, or null for all")
        require(self.path is None or bool(self.path.strip()), "workload.path", self.path, "a file's path, or null")

    def available(self) -> str | None:
        """Return None if the file is available or the Hub can be reached, else one line saying why not."""
        return self.source.available(self.path)

    def load(self, seed: int) -> list[Item]:
        """Return the first ``limit`` items of the file, in ``order``. Raise as ``Workload.load`` does."""
        path = self.source.find(self.path, self.name)
        return self.choose(self.read(path), seed, path)

    def choose(self, items: list[Item], seed: int, path: Path) -> list[Item]:
        """Return the first ``limit`` of ``items``, which were read from ``path``, in ``order``.

        Raise ``ValueError`` if there are fewer.
        """
        allowed = f"1 to {len(items)}, the number of items in {path}"
        require(bool(items) and (self.limit or 1) <= len(items), "workload.limit", self.limit, allowed)
        return in_order(items[: self.limit], self.order, seed)

    def read(self, path: Path) -> list[Item]:
        """Read all items of a file, in its order.

        Raise ``ValueError`` (file, line and field) if it is malformed, or if two items have the same id.
        """
        return self.items_of(read_rows(path))

    def items_of(self, rows: Sequence[Row]) -> list[Item]:
        """Return the items of rows. Raise ``ValueError`` as ``read`` does."""
        items: list[Item] = []
        places: dict[str, str] = {}
        for row in rows:
            item = self.item(len(items), row)
            if item.item_id in places:
                raise ValueError(f"{row.place}: item {shown(item.item_id)} was given at {places[item.item_id]} already")
            places[item.item_id] = row.place
            items.append(item)
        return items

    def item(self, index: int, row: Row) -> Item:
        """Return the item of row ``index``, from 0. Raise ``ValueError`` if the row is malformed."""
        raise NotImplementedError


def in_order(items: list[Item], order: Order, seed: int) -> list[Item]:
    """Sort the items; see ``QuestionFileSpec.order``."""
    items = list(items)
    if order == "random":
        random.Random(f"order {seed}").shuffle(items)
    elif order != "file":
        items.sort(key=lambda item: len(item.question), reverse=order == "descending")
    return items
