"""A system call filter that allows the calls of ``listed_calls.py`` and refuses all others, on x86-64 and AArch64."""

import ctypes
import errno
import os
import struct
from collections.abc import Sequence

from harness.tools.sandbox.jail import libc
from harness.tools.sandbox.jail import listed_calls as calls

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# Instructions of the classic BPF machine and the offsets of struct seccomp_data.
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
_X32 = 0x40000000  # from this number on, x86-64 has a second set of the same calls

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2


def known_machine() -> bool:
    return os.uname().machine in _AUDIT_ARCH


def restrict() -> None:
    """Allow this process only the listed calls; others fail. Requires ``no_new_privileges``; cannot be undone."""
    program = _program(os.uname().machine)
    code = ctypes.create_string_buffer(program, len(program))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code)), 16)
    libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, header)


def _program(machine: str) -> bytes:
    column = list(_AUDIT_ARCH).index(machine)
    allow = _instruction(_RETURN, _ALLOW)
    refuse = _instruction(_RETURN, _ERROR | errno.EPERM)
    no_such_call = _instruction(_RETURN, _ERROR | errno.ENOSYS)
    program = [_instruction(_LOAD, _ARCH), _instruction(_JUMP_EQUAL, _AUDIT_ARCH[machine], 1, 0), refuse]
    program.append(_instruction(_LOAD, _NUMBER))
    if machine == "x86_64":
        program += [_instruction(_JUMP_AT_LEAST, _X32, 0, 1), refuse]
    for numbers in calls.ALLOWED.values():
        number = numbers[column]
        if number is not None:
            program += [_instruction(_JUMP_EQUAL, number, 0, 1), allow]
    set_flags = [
        *(_load_argument(1), _instruction(_JUMP_EQUAL, calls.F_SETFL, 0, 3)),
        *(_load_argument(2), _instruction(_JUMP_ANY_BIT, calls.O_ASYNC, 1, 0), allow),
        _instruction(_LOAD, _NUMBER),
    ]
    program += [_instruction(_JUMP_EQUAL, calls.FCNTL[column], 0, len(set_flags)), *set_flags]
    for pair, arguments in calls.ALLOWED_WITH.values():
        checks = [step for index, values in arguments.items() for step in _one_of(index, values, refuse)]
        program += [_instruction(_JUMP_EQUAL, pair[column], 0, len(checks) + 1), *checks, allow]
    program += [_instruction(_JUMP_EQUAL, calls.CLONE3, 0, 1), no_such_call]
    program += [_instruction(_JUMP_AT_LEAST, calls.UNKNOWN, 0, 1), no_such_call]
    return b"".join([*program, refuse])


def _one_of(argument: int, values: Sequence[int], refuse: bytes) -> list[bytes]:
    """Return instructions that continue if ``argument`` is one of ``values`` and refuse the call otherwise."""
    jumps = [_instruction(_JUMP_EQUAL, value, len(values) - place, 0) for place, value in enumerate(values)]
    return [_load_argument(argument), *jumps, refuse]


def _load_argument(argument: int) -> bytes:
    # Compare the lower half, which is all that the kernel reads of the checked arguments. Both machines are
    # little-endian.
    return _instruction(_LOAD, _ARGUMENTS + 8 * argument)


def _instruction(code: int, value: int, skip_if_true: int = 0, skip_if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, skip_if_true, skip_if_false, value)
