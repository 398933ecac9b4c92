"""The files that a sweep file names: teams, and files of questions.

Their paths are relative to the folder in which the command starts, or to the sweep file. A team is looked for beside
the sweep file first. A file of questions is looked for there last, so that its path, which is part of a trial's
identity, stays as written where it can.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.agents import Team, TeamError, built_in_teams, files_of, read_team
from harness.topology import OWN_EDGES
from kvcomm_core.config import shown
from sweeps.language.combinations import Row
from sweeps.language.fields import DEFAULT_WORKLOAD, workload_type
from sweeps.language.strict_yaml import Plain, SweepError


def relative_to_here(entries: Plain, folder: Path) -> Plain:
    """Return the entries of a sweep file in ``folder``, with the paths of files beside it relative to the current
    folder."""
    return _walk(entries, "", folder)


def _walk(value: Plain, key: str, folder: Path) -> Plain:
    if isinstance(value, dict):
        # A mapping below ``workload`` holds its fields; a choice of ``random`` holds values of the field above it.
        inner = {"workload": "workload.", "team": "team"}.get(key, "")
        return {
            name: _walk(one, f"{inner}{name}" if inner == "workload." else inner or name, folder)
            for name, one in value.items()
        }
    if isinstance(value, list):
        return [_walk(one, key, folder) for one in value]
    if isinstance(value, str) and value.strip() and key in ("team", "workload.path"):
        beside = folder / value
        if not Path(value).is_absolute() and _exists(beside) and (key == "team" or not _exists(Path(value))):
            return os.path.relpath(beside)
    return value


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that no file can have
        return False


def read_teams(combinations: Iterable[Row]) -> dict[str, Team]:
    """Return the teams that the combinations name. Raise ``SweepError``."""
    teams: dict[str, Team] = {}
    for row in combinations:
        name = row.get("team")
        if name is None or (isinstance(name, str) and name in teams):
            continue
        if not isinstance(name, str) or not name.strip():
            raise SweepError(f"team is {shown(name)}; allowed: the path of a team file, {', '.join(built_in_teams())}")
        try:
            teams[name] = built_in_teams().get(name) or read_team(Path(name))
        except TeamError as error:
            raise SweepError(f"team: {error}") from None
    return teams


def team_files(teams: Iterable[str]) -> tuple[str, ...]:
    """Return the files of these teams and of their prompts; none for built-in teams."""
    paths = [path for name in teams if name not in built_in_teams() for path in files_of(Path(name))]
    return tuple(dict.fromkeys(os.path.normpath(path) for path in paths))


def completed(row: Row, teams: Mapping[str, Team]) -> Row:
    """Return a combination with the number of agents and the topology that its team fixes, unless they are given."""
    name: Any = row.get("team")
    team = teams.get(name) if name is not None else None
    if (
        team is None
        or team.graph is None
        or "team" in workload_type(row.get("workload", DEFAULT_WORKLOAD)).unused_fields
    ):
        return row
    return {"agents": team.agents, "topology": OWN_EDGES, **row}
