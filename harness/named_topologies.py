"""The built-in topologies: functions of the number of agents and the trial's seed.

Agents 1..n answer in this order; agent n decides, and the others are *workers*. In a round an agent reads the answers
of the agents named below, all of whom have answered before it:

- ``fully_connected`` (KVCOMM, section 5): every earlier agent.
- ``chain``: the agent before it. So the decision agent reads the last worker alone.
- ``star``: worker 1 is the hub, and the other workers read the hub.
- ``layered``: the workers form layers of ``ceil(sqrt(n - 1))``, the last perhaps narrower, and each worker reads the
  whole layer before its own. The decision agent is a layer of its own and reads the last one (as the aggregator of
  Mixture-of-Agents does, arXiv 2406.04692).
- ``debate`` (Du et al., arXiv 2305.14325): workers read nobody in the first round. From the second round on they read
  the last round's answers of all workers.
- ``mesh``: the workers fill a grid row by row, ``ceil(sqrt(n - 1))`` wide, and each reads its neighbors above and to
  the left. This is the two-dimensional mesh of computer networks. Where *mesh* names the graph that links everyone to
  everyone (MacNet, arXiv 2406.07155), that is ``fully_connected`` here.
- ``random``: each earlier worker with probability 1/2, by the trial's seed, and if that leaves nobody, one of them at
  random. A larger team extends the graph of a smaller one with the same seed.
- ``single``: one agent, which reads nobody.

Unless the list says otherwise, the decision agent reads all workers. In one round of two agents, all topologies but
``single`` are alike. Two of them differ from the others in later rounds. In ``fully_connected`` everybody reads the
whole team's answers of the round before, including the decision agent's. In ``debate`` every worker reads those of all
workers, but not the decision agent's, and so argues with its peers rather than with a verdict.
"""

import math
import random as randomness
from collections.abc import Callable

from harness.topology import Topology, feedback

Ids = tuple[int, ...]


def fully_connected(agents: int, seed: int) -> Topology:  # noqa: ARG001 - called like all topologies
    """Everybody reads every earlier agent, and in later rounds the whole team."""
    everybody = range(1, agents + 1)
    return Topology(tuple(tuple(range(1, own)) for own in everybody), (tuple(everybody),) * agents)


def chain(agents: int, seed: int) -> Topology:  # noqa: ARG001
    """Everybody reads the agent before."""
    return _team(agents, lambda worker: (worker - 1,) if worker > 1 else (), first_read=agents - 1)


def star(agents: int, seed: int) -> Topology:  # noqa: ARG001
    """The workers read the first one."""
    return _team(agents, lambda worker: (1,) if worker > 1 else ())


def layered(agents: int, seed: int) -> Topology:  # noqa: ARG001
    """Each layer of workers reads the one before it."""
    side = _side(agents - 1)

    def read(worker: int) -> Ids:
        row = (worker - 1) // side
        return tuple(range((row - 1) * side + 1, row * side + 1)) if row else ()

    return _team(agents, read, first_read=(agents - 2) // side * side + 1)


def debate(agents: int, seed: int) -> Topology:  # noqa: ARG001
    """The workers read each other's answers of the round before."""
    workers = tuple(range(1, agents))
    upstream = (*(() for _ in workers), workers)
    return Topology(upstream, (workers,) * len(workers) + ((agents,),))


def mesh(agents: int, seed: int) -> Topology:  # noqa: ARG001
    """Each worker reads its neighbors above and to the left."""
    side = _side(agents - 1)

    def read(worker: int) -> Ids:
        row, column = divmod(worker - 1, side)
        return (*((worker - side,) if row else ()), *((worker - 1,) if column else ()))

    return _team(agents, read)


def random(agents: int, seed: int) -> Topology:
    """Each worker reads a random half of the earlier ones."""
    rng = randomness.Random(f"topology {seed}")

    def read(worker: int) -> Ids:
        earlier = range(1, worker)
        if not earlier:
            return ()
        drawn = tuple(other for other in earlier if rng.random() < 0.5)
        return drawn or (rng.choice(earlier),)

    return _team(agents, read)


def single(agents: int, seed: int) -> Topology:  # noqa: ARG001
    """One agent reads nobody."""
    return _team(agents, lambda _: ())


def _team(agents: int, read: Callable[[int], Ids], *, first_read: int = 1) -> Topology:
    """Return the topology whose worker ``i`` reads ``read(i)``, and whose last agent reads all workers from
    ``first_read`` on."""
    upstream = (*map(read, range(1, agents)), tuple(range(first_read, agents)))
    return Topology(upstream, feedback(upstream))


def _side(workers: int) -> int:
    """Return ``ceil(sqrt(workers))``, for at least one worker."""
    return math.isqrt(workers - 1) + 1
