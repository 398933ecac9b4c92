"""The two processes that try a HumanEval candidate; this file is sent into the sandbox as text.

The candidate and its judge never share a process. The *candidate's* process defines the function and answers calls of
it. The *judge's* process calls it and reports the verdict. They exchange only arguments and values, written as JSON
with their types. So the candidate can neither see the expected value, nor reach the file of the verdict, nor change the
meaning of a comparison. Printing, exiting, patching builtins, threads, exit handlers and objects that equal everything
do not help it. The only way to pass is to return the right values.

A value of a subclass arrives, and compares, as its plain type. A value that is not plain data arrives as an object that
equals nothing. Arguments are copies, so the judge does not see a candidate's changes to them.
"""

import builtins
import json
import os
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

_MAX_MESSAGE = 4 << 20
_MAX_TEXT = 1000


class CandidateError(Exception):
    """The candidate raised an exception, or its process ended; the message says which."""


class _NoPlainData:
    """Stands for a value that is not plain data. It equals nothing, not even itself."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def __repr__(self) -> str:
        return f"<{self._kind}>"

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = None  # type: ignore[assignment]


def serve(source: str, name: str, requests: int, responses: int) -> None:
    """Run the candidate's side: define what ``source`` defines, then answer calls of ``name`` until there are no
    more."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)  # nobody reads its output, and a full pipe would block it
    os.dup2(null, 2)
    namespace: dict[str, Any] = {"__name__": "candidate"}
    function: Any = None
    failure: str | None = None
    try:
        exec(compile(source, "<candidate>", "exec", dont_inherit=True), namespace)  # noqa: S102 - in the sandbox
        function = namespace[name]
    except Exception as error:  # noqa: BLE001 - whatever it raises is the answer to the first call
        failure = _described(error)
    while (request := _receive(requests)) is not None:
        answer: dict[str, Any] = {"error": failure}
        if failure is None:
            try:
                arguments, keywords = decoded(request["arguments"]), decoded(request["keywords"])
                answer = {"value": encoded(function(*arguments, **keywords))}
            except Exception as error:  # noqa: BLE001 - as above
                answer = {"error": _described(error)}
        _send(responses, answer)


def remote(requests: int, responses: int) -> Callable[..., Any]:
    """Return a function, for the judge's side, that makes the candidate's process execute the call."""

    def call(*arguments: Any, **keywords: Any) -> Any:
        try:
            _send(requests, {"arguments": encoded(arguments), "keywords": encoded(keywords)})
            answer = _receive(responses)
            if answer is not None and "value" in answer:
                return decoded(answer["value"])
        except (OSError, ValueError, RecursionError) as error:
            raise CandidateError(f"its answer could not be read ({type(error).__name__})") from None
        raise CandidateError("its process ended" if answer is None else str(answer.get("error")))

    return call


def judge(preamble: str, test: str, name: str, requests: int, responses: int, report: int) -> None:
    """Run HumanEval's ``check`` on the candidate, with the task's code before the function available to it."""
    candidate = remote(requests, responses)
    namespace: dict[str, Any] = {"__name__": "judge"}
    exec(compile(preamble, "<task>", "exec", dont_inherit=True), namespace)  # noqa: S102 - the data set's own code
    namespace[name] = candidate
    exec(compile(test, "<tests>", "exec", dont_inherit=True), namespace)  # noqa: S102 - the same
    reason: str | None
    try:
        namespace["check"](candidate)
    except AssertionError as error:
        reason = f"a test failed: {error}" if str(error) else "a test failed"
    except Exception as error:  # noqa: BLE001 - a comparison of odd values may raise anything
        reason = _described(error) if not isinstance(error, CandidateError) else f"the candidate failed: {error}"
    else:
        reason = None
    _write(report, json.dumps({"passed": reason is None, "reason": _one_line(reason or "passed")}).encode())


def try_examples(preamble: str, calls: list[str], name: str, requests: int, responses: int, report: int) -> None:
    """Evaluate each example's call, and report its value's ``repr`` or the exception's description."""
    namespace: dict[str, Any] = {"__name__": "judge"}
    exec(compile(preamble, "<task>", "exec", dont_inherit=True), namespace)  # noqa: S102 - the data set's own code
    namespace[name] = remote(requests, responses)
    for call in calls:
        outcome: dict[str, str]
        try:
            value = eval(compile(call, "<example>", "eval", dont_inherit=True), namespace)  # noqa: S307 - the same
            outcome = {"value": repr(value)[:_MAX_TEXT]}
        except Exception as error:  # noqa: BLE001 - a wrong candidate may have it raise anything
            outcome = {"error": _one_line(str(error)) if isinstance(error, CandidateError) else _described(error)}
        _write(report, json.dumps(outcome).encode() + b"\n")


def encoded(value: Any) -> Any:
    """Encode ``value`` for JSON: text, truth values, floats and None as they are, the rest as ``[type, content]``."""
    if value is None or isinstance(value, (bool, str, float)):
        return value
    if isinstance(value, int):
        return ["int", hex(int.__index__(value))]  # hexadecimal has no length limit
    if isinstance(value, complex):
        return ["complex", [value.real, value.imag]]
    if isinstance(value, bytes):
        return ["bytes", value.hex()]
    for kind in (list, tuple, set, frozenset):
        if isinstance(value, kind):
            return [kind.__name__, [encoded(item) for item in value]]
    if isinstance(value, dict):
        return ["dict", [[encoded(key), encoded(item)] for key, item in value.items()]]
    if isinstance(value, Fraction):
        return ["Fraction", [hex(value.numerator), hex(value.denominator)]]
    if isinstance(value, Decimal):
        return ["Decimal", Decimal.__str__(value)]
    return ["other", type(value).__name__]


def decoded(content: Any) -> Any:
    """Decode a value that ``encoded`` wrote. Raise ``ValueError`` for anything that it cannot have written."""
    if content is None or isinstance(content, (bool, str, float)):
        return content
    try:
        kind, inner = content
        if kind == "int":
            return int(inner, 16)
        if kind == "complex":
            return complex(*inner)
        if kind == "bytes":
            return bytes.fromhex(inner)
        if kind == "Fraction":
            return Fraction(*(int(part, 16) for part in inner))
        if kind == "Decimal":
            return Decimal(inner)
        if kind == "dict":
            return {decoded(key): decoded(item) for key, item in inner}
        if kind in ("list", "tuple", "set", "frozenset"):
            return getattr(builtins, kind)(decoded(item) for item in inner)
        if kind == "other":
            return _NoPlainData(str(inner))
    except (TypeError, ArithmeticError):
        pass
    raise ValueError("no value that was encoded here")


def _described(error: BaseException) -> str:
    return _one_line(f"{type(error).__name__}: {error}")


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_MAX_TEXT]


def _send(descriptor: int, message: dict[str, Any]) -> None:
    content = json.dumps(message).encode()
    _write(descriptor, len(content).to_bytes(8, "big") + content)


def _receive(descriptor: int) -> dict[str, Any] | None:
    """Return the next message, or None if the other side is gone. Raise ``ValueError`` if it is malformed."""
    head = _read(descriptor, 8)
    if len(head) < 8:
        return None
    length = int.from_bytes(head, "big")
    if length > _MAX_MESSAGE:
        raise ValueError(f"a message of {length} bytes")
    content = _read(descriptor, length)
    if len(content) < length:
        return None
    message = json.loads(content)
    if not isinstance(message, dict):
        raise ValueError("a message that is no object")
    return message


def _read(descriptor: int, length: int) -> bytes:
    content = b""
    while len(content) < length and (chunk := os.read(descriptor, length - len(content))):
        content += chunk
    return content


def _write(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]
