"""Writes ``trace.jsonl``: 30 incident reviews by four agents, in the messages format of chat APIs.

    python examples/make_trace.py

Triage, an investigator with a tool, a reviewer and a coordinator read one report, and each other, in two rounds. All
text is made up here: ``incidents.yaml`` has ten kinds of faults, each of which happens to three services. The same file
comes out every time.
"""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
INCIDENTS = 30
ROUNDS = 2

TOOL = {
    "type": "function",
    "function": {
        "name": "search_logs",
        "description": "Returns the log lines of a service that contain a word, the newest last.",
        "parameters": {
            "type": "object",
            "properties": {"service": {"type": "string"}, "contains": {"type": "string"}},
            "required": ["service", "contains"],
        },
    },
}

SERVICES = ("checkout", "invoices", "search", "accounts", "shipping", "messages", "catalogue", "reports", "payments")
TOWNS = ("Aveiro", "Brno", "Cork", "Delft", "Espoo", "Fulda", "Ghent", "Halden", "Imst", "Jena")
PEOPLE = ("Amara", "Bilal", "Chiara", "Dmitri", "Elif", "Farah", "Gustav", "Hana", "Ines", "Jonas")

Message = dict[str, Any]


def calls() -> Iterator[dict[str, Any]]:
    """Yield the calls of all conversations, in the order in which they are made."""
    texts = yaml.safe_load((HERE / "incidents.yaml").read_text(encoding="utf-8"))
    for number in range(INCIDENTS):
        yield from _review(number, texts)


def write(path: Path) -> None:
    """Write the log, an object per line."""
    path.write_text("".join(json.dumps(call, ensure_ascii=False) + "\n" for call in calls()), encoding="utf-8")


def _review(number: int, texts: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the calls of one incident's review."""
    details = _details(number)
    fault = {name: text.format(**details) for name, text in texts["faults"][number % len(texts["faults"])].items()}
    report = texts["report"].format(**details, **fault).strip()
    answers: dict[str, str] = {}
    clock = 1_760_000_000 + 3600 * number

    def call(agent: str, messages: list[Message], response: Message) -> dict[str, Any]:
        nonlocal clock
        clock += 4
        tools = {"tools": [TOOL]} if agent == "investigator" else {}
        return {
            "conversation_id": f"incident-{details['incident']}",
            "agent": agent,
            "timestamp": clock,
            "messages": [{"role": "system", "content": texts["agents"][agent].strip()}, *messages],
            **tools,
            "response": {"role": "assistant", **response},
        }

    for round_number in range(1, ROUNDS + 1):
        read = dict(answers)
        for agent in texts["agents"]:
            seen = read | ({} if agent in ("triage", "investigator") else answers)
            others = [f"{name.capitalize()} wrote:\n{text}" for name, text in seen.items() if name != agent]
            rest = "\n\n".join([*others, texts["asks"][agent].strip()])
            parts = [{"type": "text", "text": text} for text in (f"{report}\n\n", rest)]
            question: list[Message] = [{"role": "user", "content": parts}]
            if agent == "investigator" and round_number == 1:
                asked = {"name": "search_logs", "arguments": json.dumps(_search(details, fault))}
                request = {"content": None, "tool_calls": [{"id": "1", "type": "function", "function": asked}]}
                yield call(agent, question, request)
                result = {"role": "tool", "tool_call_id": "1", "content": fault["log"].strip()}
                question += [{"role": "assistant", **request}, result]
            answer = texts["answers"][f"{agent}_{round_number}"].format(**details, **fault).strip()
            yield call(agent, question, {"content": answer})
            answers[agent] = answer


def _search(details: dict[str, Any], fault: dict[str, str]) -> dict[str, str]:
    return {"service": details["service"], "contains": fault["word"]}


def _details(number: int) -> dict[str, Any]:
    """Return the names and numbers of an incident. ``random()`` gives the same in all versions of Python."""
    draw = random.Random(f"incident {number}").random

    def below(limit: int) -> int:
        return int(draw() * limit)

    hour, minute = below(24), below(40)
    return {
        "incident": 4100 + 7 * number,
        "service": SERVICES[(number + number // 10) % len(SERVICES)],
        "town": TOWNS[below(len(TOWNS))],
        "person": PEOPLE[below(len(PEOPLE))],
        "start": f"{hour:02}:{minute:02}",
        "noticed": f"{hour:02}:{minute + 5 + below(14):02}",
        "share": 3 + below(60),
        "count": 120 + below(4000),
        "seconds": 4 + below(26),
        "version": f"{2 + below(5)}.{below(20)}.{below(9)}",
        "node": f"node-{1 + below(40):02}",
    }


if __name__ == "__main__":
    write(HERE / "trace.jsonl")
