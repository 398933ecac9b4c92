"""Agents: teams of roles and their prompts.

A team is a YAML file with one text file per role. Those of the built-in workloads are the folders here; the workloads
of mathematics share one. ``read_team`` reads such a file, ``Team.roles_of`` picks the roles of a trial, and
``render_segments`` turns a role into fixed text with holes. To change an agent's prompt, edit its file.
"""

from harness.agents.editions import built_in_label, revised_prompts
from harness.agents.prompts import ChatTokenizer, Segment, chat_header, render_segments
from harness.agents.roles import Role, ToolName
from harness.agents.team import Team, label_of
from harness.agents.team_file import built_in_teams, files_of, read_team, roles_for
from harness.agents.yaml_entries import TeamError

__all__ = [
    "ChatTokenizer",
    "Role",
    "Segment",
    "Team",
    "TeamError",
    "ToolName",
    "built_in_label",
    "built_in_teams",
    "chat_header",
    "files_of",
    "label_of",
    "read_team",
    "render_segments",
    "revised_prompts",
    "roles_for",
]
