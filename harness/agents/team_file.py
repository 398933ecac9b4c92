"""Team files: a team's roles, prompts, tools and edges in YAML.

    name: newsroom                    # by default the name of the file, or of its folder for team.yaml
    roles:
      - {name: Planner, prompt: planner.txt, max_new_tokens: 48}
      - {name: Researcher, prompt: researcher.txt, tool: python}
      - {name: Critic, system: You are a critic., user: "{user_question}\\n\\n{upstream}\\n\\nBe brief."}
      - {name: Writer, prompt: writer.txt}
    reads:                            # who reads whom in a round; any graph without cycles
      Researcher: [Planner]
      Critic: [Researcher]
      Writer: [Planner, Critic]
    remembers: {Planner: [Writer]}    # whose answers of the round before it reads, in later rounds
    decider: Writer                   # by default the last role

A prompt is a text file beside the team file, in the form of ``roles.py``, or has its two parts here. ``tool`` and
``max_new_tokens`` are the role's own.

*With* ``reads`` the graph is fixed: each role is one agent. Agents answer in the order of the file, but each after
those that it reads. A role that ``remembers`` does not name reads, of the round before, its own answer and those of the
roles that read it; it reads none if its prompt has no ``{upstream}``.

*Without* ``reads`` the trial's topology says who reads whom, for any number of agents: the roles but the decider's are
taken in order, again from the first if there are more agents. A single agent has the role ``alone``, by default the
first one.

``answer`` and ``allowed`` say how answers end (``roles.Ending``).

The built-in teams are the files ``<folder>/<workload>.yaml`` beside this module.
"""

import functools
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from harness.agents.role_entries import read_roles
from harness.agents.roles import Ending, Role
from harness.agents.team import Team
from harness.agents.yaml_entries import TeamError, known, one_of, read_document, refuse, text
from harness.topology import Topology, feedback

_KEYS = ("name", "roles", "reads", "remembers", "decider", "alone", "answer", "allowed")

Readers = dict[str, tuple[str, ...]]
"""The names of the roles that each role reads."""


@functools.cache
def built_in_teams() -> dict[str, Team]:
    """Return the teams of the built-in workloads by the workload's name."""
    files = {path.stem: path for path in sorted(Path(__file__).parent.glob("*/*.yaml"))}
    return {name: read_team(path) for name, path in files.items()}


def roles_for(workload_name: str, agents: int) -> tuple[Role, ...]:
    """Return the roles of agents 1..``agents`` of a built-in workload; see ``Team.roles_of``.

    Raise ``ValueError`` for an unknown workload, or fewer than one agent.
    """
    teams = built_in_teams()
    if workload_name not in teams:
        raise ValueError(f"workload is {workload_name!r}; with roles: {', '.join(teams)}")
    return teams[workload_name].roles_of(agents)


def files_of(path: Path) -> list[Path]:
    """Return a team file and the prompt files that it names. Raise ``TeamError`` if the file cannot be read."""
    roles = read_document(path).get("roles")
    entries = [entry for entry in roles if isinstance(entry, dict)] if isinstance(roles, list) else []
    return [path, *(path.parent / str(entry["prompt"]) for entry in entries if "prompt" in entry)]


def read_team(path: Path) -> Team:
    """Read a team file. Raise ``TeamError``."""
    document = read_document(path)
    known(str(path), document, _KEYS, "")
    ending = Ending(**{key: text(str(path), key, document[key]) for key in ("answer", "allowed") if key in document})
    roles = read_roles(path, document.get("roles"), ending)
    default = path.absolute().parent.name if path.stem == "team" else path.stem
    name = text(str(path), "name", document.get("name", default))
    if not name.isprintable() or len(name) > 100:
        refuse(str(path), "name", name, "printable text of up to 100 characters")
    decider = one_of(str(path), "decider", document.get("decider", [*roles][-1]), [*roles])
    if "reads" in document:
        return _with_edges(path, document, name, roles, decider)
    return _for_any_topology(path, document, name, roles, decider)


def _for_any_topology(
    path: Path, document: Mapping[str, Any], name: str, roles: Mapping[str, Role], decider: str
) -> Team:
    if "remembers" in document:
        refuse(str(path), "remembers", document["remembers"], "nothing, without reads")
    workers = [role for role in roles.values() if role.name != decider]
    if not workers:
        refuse(str(path), "roles", [*roles], "two or more, or reads, by which a single role reads nobody")
    for role in roles.values():
        if role.places:
            mark = f"{{agent:{role.places[0]}}}"
            raise TeamError(f"{path}: {role.name} has the hole {mark}; allowed: {{upstream}} alone, without reads")
        _require_upstream(path, role, "the answers that it reads")
    alone = one_of(str(path), "alone", document.get("alone", workers[0].name), [role.name for role in workers])
    return Team(name=name, roles=(*workers, roles[decider]), alone=alone)


def _with_edges(path: Path, document: Mapping[str, Any], name: str, roles: dict[str, Role], decider: str) -> Team:
    if "alone" in document:
        refuse(str(path), "alone", document["alone"], "nothing, with reads")
    reads = _readers(path, "reads", document["reads"], roles)
    order = _execution_order(path, reads, [*roles], decider)
    remembers = _readers(path, "remembers", document.get("remembers", {}), roles)
    for role in roles.values():
        for placed in role.places:
            if placed not in reads.get(role.name, ()):
                allowed = f"a role that it reads ({', '.join(reads.get(role.name, ())) or 'it reads nobody'})"
                raise TeamError(f"{path}: {role.name} has the hole {{agent:{placed}}}; allowed: {allowed}")
        if set(reads.get(role.name, ())) - set(role.places):
            _require_upstream(path, role, "the answers that it reads")
        if remembers.get(role.name):
            _require_upstream(path, role, "the answers that it remembers")
    ids = {role: agent_id for agent_id, role in enumerate(order, start=1)}

    def ids_of(readers: Readers, role: str) -> tuple[int, ...]:
        return tuple(ids[other] for other in readers.get(role, ()))

    upstream = tuple(ids_of(reads, role) for role in order)
    remembered = tuple(
        ids_of(remembers, role) if role in remembers else default if "{upstream}" in roles[role].user else ()
        for role, default in zip(order, feedback(upstream), strict=True)
    )
    graph = Topology(upstream, remembered, ids[decider])
    return Team(name=name, roles=tuple(roles[role] for role in order), graph=graph)


def _readers(path: Path, field: str, entries: object, roles: Mapping[str, Role]) -> Readers:
    if not isinstance(entries, dict):
        refuse(str(path), field, entries, "a mapping of roles to the roles that they read")
    readers: Readers = {}
    for reader, read in entries.items():
        one_of(str(path), f"a key of {field}", reader, [*roles])
        if not isinstance(read, list):
            refuse(str(path), f"{field}.{reader}", read, "a list of roles")
        names = [one_of(str(path), f"{field}.{reader}", one, [*roles]) for one in read]
        if len(set(names)) < len(names):
            refuse(str(path), f"{field}.{reader}", names, "each role once")
        readers[reader] = tuple(names)
    return readers


def _execution_order(path: Path, reads: Readers, names: list[str], decider: str) -> list[str]:
    """Return the roles in the order of the file, but each after those that it reads. The decider comes as late as it
    can."""
    try:
        sorter = TopologicalSorter({name: reads.get(name, ()) for name in names})
        sorter.prepare()
    except CycleError as error:
        circle = _from_first(list(reversed(error.args[1]))[1:], names)
        allowed = "no cycles within a round (remembers is for the round before)"
        raise TeamError(f"{path}: reads has a cycle: {' reads '.join(circle)}; allowed: {allowed}") from None
    place = {name: (name == decider, index) for index, name in enumerate(names)}
    order: list[str] = []
    ready: list[str] = []
    while sorter.is_active():
        ready = sorted([*ready, *sorter.get_ready()], key=place.__getitem__)
        order.append(ready.pop(0))
        sorter.done(order[-1])
    return order


def _from_first(circle: list[str], names: list[str]) -> list[str]:
    """Return a circle of roles from the one that is first in the file round to it again."""
    start = circle.index(min(circle, key=names.index))
    return [*circle[start:], *circle[: start + 1]]


def _require_upstream(path: Path, role: Role, what: str) -> None:
    if "{upstream}" not in role.user:
        allowed = "{upstream} exactly once, alone on its line"
        raise TeamError(f"{path}: the prompt of {role.name} has no hole {{upstream}} for {what}; allowed: {allowed}")
