"""The filter of system calls, read as a kernel reads it: what it lets through on each kind of machine."""

import errno
import struct

import pytest

from harness.tools.sandbox.jail import listed_calls as calls
from harness.tools.sandbox.jail import seccomp

ALLOW, REFUSE, NO_SUCH_CALL = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
I386 = 0x40000003
THREAD = 0x3D0F00


def verdict(machine: str, number: int, *arguments: int, arch: int | None = None) -> int:
    """What the filter made for ``machine`` returns for one call."""
    program = list(struct.iter_unpack("=HBBI", seccomp._program(machine)))
    data = struct.pack(
        "=IIQ6Q", number, ARCH[machine] if arch is None else arch, 0, *arguments, *[0] * (6 - len(arguments))
    )
    accumulator = place = 0
    while True:
        code, if_true, if_false, value = program[place]
        place += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, value)
        elif code == 0x06:
            return int(value)
        else:
            holds = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}[code]
            place += if_true if holds else if_false


@pytest.mark.parametrize(
    ("x86", "arm", "arguments", "expected"),
    [
        (0, 63, (), ALLOW),  # read
        (257, 56, (), ALLOW),  # openat
        (41, 198, (1, 1), REFUSE),  # socket
        (44, 206, (), ALLOW),  # sendto
        (46, 211, (), REFUSE),  # sendmsg
        (53, 199, (1, 1), ALLOW),  # socketpair of streams
        (53, 199, (1, 0x80801), ALLOW),
        (53, 199, (1, 2), REFUSE),  # of datagrams
        (53, 199, (1, 5), REFUSE),
        (53, 199, (2, 1), REFUSE),
        (56, 220, (THREAD,), ALLOW),  # clone
        (56, 220, (17,), REFUSE),
        (56, 220, (THREAD | 0x10000000,), REFUSE),
        (435, 435, (), NO_SUCH_CALL),  # clone3
        (72, 25, (0, 3), ALLOW),  # fcntl F_GETFL
        (72, 25, (0, 4, 0x800), ALLOW),  # F_SETFL O_NONBLOCK
        (72, 25, (0, 4, 0x2800), REFUSE),  # with O_ASYNC
        (72, 25, (0, 8, 1), REFUSE),  # F_SETOWN
        (72, 25, (0, 10, 9), REFUSE),
        (72, 25, (0, 15), REFUSE),
        (72, 25, (0, 1026), REFUSE),
        (16, 29, (0, 0x5401), ALLOW),  # ioctl TCGETS
        (16, 29, (0, 0x8901), REFUSE),  # FIOSETOWN
        (16, 29, (0, 0x5412), REFUSE),  # TIOCSTI
        (157, 167, (15,), ALLOW),  # prctl
        (157, 167, (1,), REFUSE),
        (302, 261, (0, 7), ALLOW),  # prlimit
        (302, 261, (1, 7), REFUSE),
        (425, 425, (), REFUSE),  # io_uring_setup
        (462, 462, (), REFUSE),
        (463, 463, (), NO_SUCH_CALL),
        (999, 999, (), NO_SUCH_CALL),
    ],
)
def test_what_it_lets_through(x86: int, arm: int, arguments: tuple[int, ...], expected: int) -> None:
    """Catches a jump that goes one too far, and arguments that are not looked at."""
    assert verdict("x86_64", x86, *arguments) == expected
    assert verdict("aarch64", arm, *arguments) == expected


@pytest.mark.parametrize("machine", ARCH)
def test_other_ways_into_the_kernel(machine: str) -> None:
    """Catches calls that are let through because they come from 32-bit code or by the numbers of x32."""
    for number in range(500):
        assert verdict(machine, number, arch=I386) == REFUSE
        if machine == "x86_64":
            assert verdict(machine, 0x40000000 + number) == REFUSE
    assert verdict(machine, 0xFFFFFFFF) in (REFUSE, NO_SUCH_CALL)


@pytest.mark.parametrize("machine", ARCH)
def test_exactly_the_list_is_allowed(machine: str) -> None:
    """Catches a call that is allowed without being listed. Those with a condition are refused without arguments."""
    column = list(ARCH).index(machine)
    listed = {numbers[column] for numbers in calls.ALLOWED.values()} - {None}
    harmless = {numbers[column] for name, (numbers, _) in calls.ALLOWED_WITH.items() if name in ("fcntl", "prlimit64")}
    assert {number for number in range(600) if verdict(machine, number) == ALLOW} == listed | harmless
