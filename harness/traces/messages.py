"""Messages and answers of a call: from the forms of several APIs to plain text.

Tool calls become text, ``name(arguments)``, behind the text of their message. The same call reads the same in an answer
and in a later prompt.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from harness.text import storable
from harness.traces.call import Message, refusal

_CALLS = ("tool_use", "function_call")
_RESULTS = ("tool_result", "function_call_output")
_THOUGHT = ("reasoning", "thinking", "redacted_thinking")
_ANSWERS = "text, a message, or a completion with choices"


class Reader:
    """Reads the messages of one call, and counts what is no text."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.left_out = 0

    def messages(self, value: object, field: str) -> list[Message]:
        """Read a prompt: messages, or one text. Raise ``TraceError``."""
        if isinstance(value, str):
            return [Message("text", (storable(value),))] if value else []
        if not isinstance(value, list) or not value:
            raise refusal(self.place, field, value, "a list of messages, at least one")
        return [self.message(one, f"{field}[{index}]") for index, one in enumerate(value)]

    def message(self, value: object, field: str) -> Message:
        """Read one message, or one item of OpenAI's Responses API."""
        if not isinstance(value, dict):
            raise refusal(self.place, field, value, "a message, which has a role and a content")
        kind = value.get("type")
        if "role" not in value and kind in (*_CALLS, *_RESULTS, *_THOUGHT):
            return Message("tool" if kind in _RESULTS else "assistant", _joined(self._parts([value], field)))
        role = value.get("role")
        if not isinstance(role, str) or not role.strip():
            raise refusal(self.place, f"{field}.role", role, "a name such as system, user, assistant or tool")
        parts = self._parts(value.get("content"), f"{field}.content") + self._calls(value, field)
        return Message(storable(role), _joined(parts) if role == "assistant" else tuple(parts))

    def texts(self, value: object, field: str) -> tuple[str, ...]:
        """Read text or parts."""
        return tuple(self._parts(value, field))

    def tools(self, value: object, field: str) -> list[Message]:
        """Read the definitions of tools, each as a part; none if there are none."""
        if not value:
            return []
        if not isinstance(value, list):
            raise refusal(self.place, field, value, "a list of tools")
        return [Message("tools", tuple(storable(json.dumps(tool, ensure_ascii=False)) for tool in value))]

    def answer(self, value: object, field: str) -> tuple[str, str] | None:
        """Read an answer, and the reasoning before it. Return None for a call that failed or was not logged."""
        if isinstance(value, str):
            return storable(value), ""
        if isinstance(value, list):
            return self._answers(value, field)
        if not isinstance(value, dict):
            raise refusal(self.place, field, value, _ANSWERS)
        for key in ("choices", "message", "output", "body"):
            if value.get(key):
                return self.answer(value[key], f"{field}.{key}")
        if any(key in value for key in ("role", "content", "tool_calls")):
            message = self.message({"role": "assistant", **value, "type": None}, field)
            thought = value.get("reasoning_content") or value.get("reasoning")
            return message.text, storable(thought) if isinstance(thought, str) else ""
        if isinstance(value.get("text"), str):
            return storable(value["text"]), ""
        if "error" in value or not any(value.values()):
            return None
        raise refusal(self.place, field, value, _ANSWERS)

    def _answers(self, value: Sequence[object], field: str) -> tuple[str, str] | None:
        """Read the first choice, or all items of one answer."""
        first = value[0] if value else None
        if first is None:
            return None
        if isinstance(first, dict) and ("message" in first or "finish_reason" in first):
            return self.answer(first, f"{field}[0]")
        if isinstance(first, str) or (isinstance(first, dict) and "role" not in first and "text" in first):
            return "".join(self._parts(value, field)), ""
        kept = [one for one in value if not (isinstance(one, dict) and one.get("type") in _THOUGHT)]
        messages = [self.message(one, f"{field}[{index}]") for index, one in enumerate(kept)]
        return "".join(one.text for one in messages if one.role == "assistant"), ""

    def _parts(self, content: object, field: str) -> list[str]:
        if content is None:
            return []
        if isinstance(content, str):
            return [storable(content)] if content else []
        if isinstance(content, dict):
            content = [content]
        if not isinstance(content, list | tuple):
            raise refusal(self.place, field, content, "text, a list of parts, or null")
        return [text for index, part in enumerate(content) for text in self._part(part, f"{field}[{index}]")]

    def _part(self, part: object, field: str) -> list[str]:
        if isinstance(part, str):
            return self._parts(part, field)
        if not isinstance(part, dict):
            raise refusal(self.place, field, part, "text, or a part such as {type: text, text: ...}")
        kind = part.get("type")
        if kind in _RESULTS:
            return self._parts(part.get("content", part.get("output")), field)
        if kind in _CALLS:
            return [_call(part)]
        if isinstance(part.get("text"), str) and kind not in _THOUGHT:
            return self._parts(part["text"], field)
        self.left_out += kind not in _THOUGHT
        return []

    def _calls(self, message: Mapping[str, Any], field: str) -> list[str]:
        calls = message.get("tool_calls") or []
        if message.get("function_call"):
            calls = [*calls, message["function_call"]]
        if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
            raise refusal(self.place, f"{field}.tool_calls", calls, "a list of calls")
        return [_call(call["function"] if isinstance(call.get("function"), dict) else call) for call in calls]


def _call(call: Mapping[str, Any]) -> str:
    """Return a tool call as text."""
    arguments = call.get("arguments", call.get("input"))
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return storable(f"{call.get('name')}({text})")


def _joined(parts: Sequence[str]) -> tuple[str, ...]:
    return ("".join(parts),) if parts else ()
