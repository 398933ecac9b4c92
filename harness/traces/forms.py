"""The forms of logs, told by their keys: from one object of a log to its calls."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from harness.text import storable
from harness.traces.call import BlockCall, Call, Message, refusal
from harness.traces.lines import Record
from harness.traces.messages import Reader

PROMPT = ("messages", "input", "prompt", "text_input")
REQUEST = ("request", "payload", "body", "raw_request", "input")
ANSWER = ("response", "choices", "output", "completion", "answer")
CONVERSATION = ("conversation_id", "session_id", "thread_id", "conversation", "session", "trace_id")
AGENT = ("agent", "agent_name", "agent_role", "agent_id")
TIME = ("timestamp", "created", "created_at", "start_time", "time")

Histories = dict[str, tuple[Message, ...]]
"""The messages so far of each conversation whose log holds only what is new in each call."""


def calls_of(record: Record, histories: Histories, name_agent: Callable[[str], str]) -> Iterator[Call | BlockCall]:
    """Yield the calls of an object of a log. Raise ``TraceError`` naming the field.

    ``name_agent`` names an agent after its system prompt; ``histories`` is kept between objects.
    """
    fields, place = record.fields, record.place
    if "conversations" in fields:
        for index, turns in enumerate(_list(fields, "conversations", place)):
            at = f"{place} conversation {index + 1}"
            yield from _turns(turns, {**fields, "session_id": index}, at, name_agent)
    elif isinstance(fields.get("data"), list):
        for index, session in enumerate(fields["data"]):
            at = f"{place} session {index + 1}"
            if not isinstance(session, dict):
                raise refusal(at, "session", session, "an object with session_id and payloads")
            for number, payload in enumerate(_list(session, "payloads", at)):
                if not isinstance(payload, dict):
                    raise refusal(at, f"payloads[{number}]", payload, "an object with messages")
                yield _call({**session, "payload": payload}, f"{at} payload {number + 1}", name_agent)
    elif "turns" in fields:
        yield from _turns(fields["turns"], fields, place, name_agent)
    elif fields.get("hash_ids") is not None:
        yield _block_call(fields, place)
    else:
        call = _call(fields, place, name_agent)
        yield _in_full(call, histories) if fields.get("message_mode") == "delta" else call


def time_of(fields: Mapping[str, Any]) -> float | None:
    """Return when a call was made; None if the log does not say, or not in a form that can be compared."""
    for where, _ in _places(fields):
        for key in TIME:
            value = where.get(key)
            if isinstance(value, int | float) and not isinstance(value, bool):
                return float(value)
            if isinstance(value, str):
                try:
                    return datetime.fromisoformat(value).timestamp()
                except ValueError:
                    return None
    return None


def _call(fields: Mapping[str, Any], place: str, name_agent: Callable[[str], str]) -> Call:
    reader = Reader(place)
    request, where = next(
        ((fields[key], f"{key}.") for key in REQUEST if isinstance(fields.get(key), dict)), (fields, "")
    )
    prompt = next((key for key in PROMPT if request.get(key) is not None), None)
    if prompt is None:
        allowed = f"{', '.join(PROMPT)}, hash_ids, or turns among them"
        raise refusal(place, f"{where}keys" if where else "keys", list(request), allowed)
    said = [*reader.tools(request.get("tools"), f"{where}tools"), *_system(reader, request, where)]
    messages = reader.messages(request[prompt], where + prompt)
    answer = next(
        (
            reader.answer(fields[key], key)
            for key in ANSWER
            if fields.get(key) is not None and fields[key] is not request
        ),
        None,
    )
    unsaid = not any(key in fields for key in ANSWER)
    if answer is None and unsaid and len(messages) > 1 and messages[-1].role == "assistant":
        answer = (messages.pop().text, "")
    whole = (*said, *messages)
    return Call(
        place=place,
        conversation=_name(fields, CONVERSATION, place),
        agent=_name(fields, AGENT, place) or name_agent(_system_text(whole)),
        messages=whole,
        answer=answer[0] if answer else None,
        reasoning=answer[1] if answer else "",
        time=time_of(fields),
        left_out=reader.left_out,
    )


def _turns(turns: object, fields: Mapping[str, Any], place: str, name_agent: Callable[[str], str]) -> Iterator[Call]:
    """Yield the calls of a conversation whose turns hold only what is new, without the answers."""
    if not isinstance(turns, list) or not turns:
        raise refusal(place, "turns", turns, "a list of turns, at least one")
    outer = {key: fields[key] for key in (*CONVERSATION, *AGENT, "metadata") if key in fields}
    histories: Histories = {}
    for index, turn in enumerate(turns):
        at = f"{place} turn {index + 1}"
        if not isinstance(turn, dict):
            raise refusal(at, "turn", turn, "an object with messages or text")
        for key in ("forks", "spawns"):
            if turn.get(key):
                raise refusal(at, key, turn[key], "none: which calls follow which would have to be simulated")
        if "messages" not in turn:
            texts = [turn["text"]] if turn.get("text") else turn.get("texts")
            turn = {**turn, "messages": [{"role": "user", "content": texts}]}
        yield _in_full(_call({**turn, **outer}, at, name_agent), histories)


def _in_full(call: Call, histories: Histories) -> Call:
    """Return a call with what came before it, and keep both, with its answer, for the next."""
    if call.conversation is None:
        raise refusal(call.place, "session_id", None, "a name, with messages that are only what is new")
    messages = histories.get(call.conversation, ()) + call.messages
    answered = () if call.answer is None else (Message("assistant", (call.answer,)),)
    histories[call.conversation] = messages + answered
    return Call(
        place=call.place,
        conversation=call.conversation,
        agent=call.agent,
        messages=messages,
        answer=call.answer,
        reasoning=call.reasoning,
        time=call.time,
        left_out=call.left_out,
    )


def _block_call(fields: Mapping[str, Any], place: str) -> BlockCall:
    ids, length = fields["hash_ids"], fields.get("input_length")
    if not isinstance(ids, list) or not ids or not all(isinstance(one, int | str) for one in ids):
        raise refusal(place, "hash_ids", ids, "a list of ids, at least one")
    if not isinstance(length, int) or isinstance(length, bool) or length < len(ids):
        raise refusal(
            place, "input_length", length, f"the tokens of the prompt, at least one for each of {len(ids)} blocks"
        )
    return BlockCall(
        place=place,
        conversation=_name(fields, CONVERSATION, place),
        agent=_name(fields, AGENT, place) or "agent",
        block_ids=tuple(hash(one) for one in ids),
        prompt_tokens=length,
        time=time_of(fields),
    )


def _system(reader: Reader, request: Mapping[str, Any], where: str) -> list[Message]:
    for key in ("system", "instructions"):
        if request.get(key) is not None:
            return [Message("system", reader.texts(request[key], where + key))]
    return []


def _system_text(messages: tuple[Message, ...]) -> str:
    return next((message.text for message in messages if message.role in ("system", "developer")), "")


def _name(fields: Mapping[str, Any], keys: tuple[str, ...], place: str) -> str | None:
    for where, prefix in _places(fields):
        for key in keys:
            value = where.get(key)
            if isinstance(value, dict):
                value = value.get("name", value.get("id"))
            if value is None or value == "":
                continue
            if not isinstance(value, str | int) or isinstance(value, bool):
                raise refusal(place, prefix + key, value, "a name or a number")
            return storable(str(value))
    return None


def _places(fields: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Yield the objects that may hold names and times, each with what stands before the names of its fields."""
    yield fields, ""
    if isinstance(fields.get("metadata"), dict):
        yield fields["metadata"], "metadata."


def _list(fields: Mapping[str, Any], key: str, place: str) -> list[Any]:
    value = fields.get(key)
    if not isinstance(value, list) or not value:
        raise refusal(place, key, value, "a list, not empty")
    return value
