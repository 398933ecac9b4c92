"""The roles of a team file: their prompts, from files or inline, their tools and lengths."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.agents.roles import Ending, Role, make_role, parse_role
from harness.agents.yaml_entries import TeamError, known, read_text, reason_of, refuse, text
from harness.topology import MAX_AGENTS

_KEYS = ("name", "prompt", "system", "user", "tool", "max_new_tokens")


def read_roles(path: Path, entries: object, ending: Ending) -> dict[str, Role]:
    """Return the roles of the team file ``path``, by name and in its order. Raise ``TeamError``."""
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_AGENTS:
        refuse(str(path), "roles", entries, f"a list of 1 to {MAX_AGENTS} roles, each with name and prompt")
    roles: dict[str, Role] = {}
    for index, entry in enumerate(entries):
        field = f"roles[{index}]"
        if not isinstance(entry, dict):
            refuse(str(path), field, entry, "a mapping with name and prompt")
        known(str(path), entry, _KEYS, f"{field}.")
        name = text(str(path), f"{field}.name", entry.get("name"))
        if name in roles or not name.isprintable() or set(name) & set("{}") or len(name) > 100:
            refuse(str(path), f"{field}.name", name, "printable text without braces, different for each role")
        roles[name] = _role(path, field, name, entry, ending)
    return roles


def _role(path: Path, field: str, name: str, entry: Mapping[str, Any], ending: Ending) -> Role:
    tool = text(str(path), f"{field}.tool", entry["tool"]) if "tool" in entry else None
    if "prompt" in entry:
        for key in ("system", "user"):
            if key in entry:
                refuse(str(path), f"{field}.{key}", entry[key], "either prompt, or system and user")
        given = text(str(path), f"{field}.prompt", entry["prompt"])
        file = path.parent / given
        try:
            content = read_text(file)
        except (OSError, ValueError) as error:
            reason = reason_of(error)
            refuse(str(path), f"{field}.prompt", given, f"a text file beside {path.name} ({file}: {reason})")
        role = _checked(lambda: parse_role(name, content, str(file), ending))
        if tool is not None and role.tool is not None:
            refuse(str(path), f"{field}.tool", tool, f"no tool here, since {given} names one")
    else:
        system, user = (text(str(path), f"{field}.{key}", entry.get(key)) for key in ("system", "user"))
        place = f"{path}: {field}"
        role = _checked(lambda: make_role(name, ending.fill(system), ending.fill(user), None, place))
    if tool is not None:
        role = _checked(lambda: make_role(name, role.system, role.user, tool, f"{path}: {field}"))
    if "max_new_tokens" in entry:
        length = entry["max_new_tokens"]
        if not (isinstance(length, str) and re.fullmatch(r"[1-9]\d{0,8}", length)):
            refuse(str(path), f"{field}.max_new_tokens", length, "a whole number, 1 or more")
        role = replace(role, max_new_tokens=int(length))
    return role


def _checked(make: Callable[[], Role]) -> Role:
    try:
        return make()
    except ValueError as error:
        raise TeamError(str(error)) from None
