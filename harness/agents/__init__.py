"""Agents: the roles of each benchmark and their prompts.

The prompts are text files, one per role, in a folder per workload; those of mathematics share one. ``roles_for``
picks the roles of a trial and ``render_segments`` turns one into fixed text with holes. To change what an agent is
told, edit its file.
"""

from harness.agents.prompts import ChatTokenizer, Segment, chat_header, render_segments
from harness.agents.roles import Role, ToolName, roles_for

__all__ = ["ChatTokenizer", "Role", "Segment", "ToolName", "chat_header", "render_segments", "roles_for"]
