"""Agents: the roles of each benchmark and their prompts.

The prompts are text files, one per role, in a folder per workload; the workloads of mathematics share one folder.
``roles_for`` picks the roles of a trial, and ``render_segments`` turns a role into fixed text with holes. To change an
agent's prompt, edit its file.
"""

from harness.agents.prompts import ChatTokenizer, Segment, chat_header, render_segments
from harness.agents.roles import Role, ToolName, roles_for

__all__ = ["ChatTokenizer", "Role", "Segment", "ToolName", "chat_header", "render_segments", "roles_for"]
