"""Third-party topologies and graders: functions in a file of their own."""

from harness.topology import Topology
from harness.workloads.base import Grade, Item


def ring_of_pairs(agents: int, seed: int) -> list[tuple[int, int]]:
    """Agent 1 is read by everybody; each other agent by the next one but one. The seed adds an edge."""
    edges = [(1, agent) for agent in range(2, agents + 1)]
    return [*edges, *([(2, 3)] if seed and agents > 2 else [])]


def first_decides(agents: int, seed: int) -> Topology:
    """A topology whose first agent decides."""
    return Topology(((),) * agents, ((),) * agents, 1)


def upwards(agents: int, seed: int) -> list[tuple[int, int]]:
    """Edges in a circle."""
    return [(1, 2), (2, 1)]


def twice(agents: int, seed: int) -> list[tuple[int, int]]:
    return [(1, 2), (1, 2)]


def beyond(agents: int, seed: int) -> list[tuple[int, int]]:
    return [(1, agents + 1)]


def too_many(agents: int, seed: int) -> Topology:
    return Topology(((),) * (agents + 1), ((),) * (agents + 1))


def fails(agents: int, seed: int) -> None:
    raise ZeroDivisionError("by zero")


def nothing(agents: int, seed: int) -> None:
    return None


NO_FUNCTION = 3


def is_long(answer: str, item: Item) -> bool:
    """Whether the answer is longer than the row's field ``length``."""
    return len(answer) > int(item.data["length"])


def with_reason(answer: str, item: Item) -> Grade:
    """A grade with a rule of its own."""
    return Grade("wrong", answer[:3], "first three")


def says_yes(answer: str, item: Item) -> str:
    """No grade."""
    return "yes"
