"""Questions read from a file: the parameters that all such workloads share, and the items of a trial in their order."""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.workloads.base import Item
from harness.workloads.sources import Row
from kvcomm_core.config import require, shown

Order = Literal["file", "random", "ascending", "descending"]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionFileSpec:
    """Base of the parameters of a workload whose items are read from a file."""

    __pydantic_config__ = {"extra": "forbid", "strict": True}  # noqa: RUF012 - read by pydantic, not a field

    limit: int | None = None
    """Number of items, from the start of the file; None for all. At least 1."""

    path: str | None = None
    """The file, in the form that the workload's module describes. None: where ``sources.py`` finds one."""

    order: Order = "file"
    """The order in which the items are run (paper, table 4). It is applied after ``limit``, so it never changes which
    items these are. ``random``: by the trial's seed. ``ascending`` and ``descending``: by the characters of the
    question, ties in file order. The paper does not say what it measured length in."""

    def __post_init__(self) -> None:
        require(self.limit is None or self.limit >= 1, "workload.limit", self.limit, "1 or more, or null for all")
        require(self.path is None or bool(self.path.strip()), "workload.path", self.path, "a file's path, or null")


def items_of(rows: Iterable[Row], item: Callable[[Row], Item]) -> list[Item]:
    """The item of each row. Raises ``ValueError`` if two have the same id, or as ``item`` does."""
    items: list[Item] = []
    places: dict[str, str] = {}
    for row in rows:
        one = item(row)
        if one.item_id in places:
            raise ValueError(f"{row.place}: item {shown(one.item_id)} was given at {places[one.item_id]} already")
        places[one.item_id] = row.place
        items.append(one)
    return items


def choose(spec: QuestionFileSpec, seed: int, items: list[Item], path: Path) -> list[Item]:
    """The first ``spec.limit`` of ``items``, which were read from ``path``, in ``spec.order``.

    Raises ``ValueError`` if there are fewer.
    """
    allowed = f"1 to {len(items)}, the number of items in {path}"
    require(bool(items) and (spec.limit or 1) <= len(items), "workload.limit", spec.limit, allowed)
    return in_order(items[: spec.limit], spec.order, seed)


def in_order(items: list[Item], order: Order, seed: int) -> list[Item]:
    """The items in an order, see ``QuestionFileSpec.order``."""
    items = list(items)
    if order == "random":
        random.Random(f"order {seed}").shuffle(items)
    elif order != "file":
        items.sort(key=lambda item: len(item.question), reverse=order == "descending")
    return items
