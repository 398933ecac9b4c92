"""The prompts of every role as readable text for reviewers, one file per workload and chat markup.

After an intended change, rewrite the files and review their diff:

    PYTHONPATH=.:tests/support python -m golden_prompts
"""

from pathlib import Path

from chat_tokenizers import MARKUPS, chat_tokenizer

from harness.agents import ChatTokenizer, Segment, built_in_teams, chat_header, render_segments
from harness.topology import build_topology

GOLDEN = Path(__file__).parent.parent / "harness/agents/golden"


def golden_file(workload: str, markup: str) -> Path:
    """Return the file that records ``golden_text``."""
    return GOLDEN / workload / f"{markup}.txt"


def golden_text(workload: str, tokenizer: ChatTokenizer) -> str:
    """Return the header of a bare question, every role of ``workload`` (fully connected, with its tools), and the
    decision agent of two in a later round."""
    roles = built_in_teams()[workload].roles
    team = [(agent_id, role.name) for agent_id, role in enumerate(roles, start=1)]
    with_tool = {agent_id for agent_id, role in enumerate(roles, start=1) if role.tool}
    topology = build_topology("fully_connected", len(roles), seed=0)
    parts = [_titled("before a bare question", chat_header(tokenizer))]
    for agent_id, role in enumerate(roles, start=1):
        upstream = [team[other - 1] for other in topology.read_by(agent_id)]
        title = f"agent {agent_id}: {role.name}" + (f", with the tool {role.tool}" if role.tool else "")
        parts.append(_titled(title, joined(render_segments(role, upstream, tokenizer, with_tool=with_tool))))
    later = render_segments(roles[-1], team[:1], tokenizer, remembered=[team[0], (2, roles[-1].name)])
    parts.append(_titled(f"agent 2 of 2, later rounds: {roles[-1].name}", joined(later)))
    return "".join(parts)


def joined(segments: list[Segment]) -> str:
    """Join a prompt into one text, with the names of holes in braces."""
    return "".join(value if kind == "text" else f"{{{value}}}" for kind, value in segments)


def _titled(title: str, text: str) -> str:
    return f"===== {title} =====\n{text}\n\n"


if __name__ == "__main__":
    for workload in built_in_teams():
        for markup in MARKUPS:
            path = golden_file(workload, markup)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(golden_text(workload, chat_tokenizer(markup)), encoding="utf-8")
