"""A filter of system calls: no sockets, no second process, no program, nothing done to other processes.

It also closes what Landlock leaves open: UDP, sockets that are files, signals before ABI 6, and the owner, mode, times
and attributes of files. Listed are the calls refused; the rest is Python's own business. x86-64 and AArch64 are known.
"""

import ctypes
import errno
import os
import struct

from harness.tools.jail import libc

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# name: number on x86-64 and on AArch64, which leaves out old calls that have a newer form.
_REFUSED: dict[str, tuple[int, int | None]] = {
    # No network. A pair of connected sockets stays possible: asyncio's event loop wants one.
    "socket": (41, 198),
    "io_uring_setup": (425, 425),  # would do all of this past the filter
    # No second process and no program. ``clone`` is below, since threads need it.
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    # Nothing done to other processes of the same user.
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_send_signal": (424, 424),
    "pidfd_getfd": (438, 438),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "setsid": (112, 157),
    "setpgid": (109, 154),
    # Memory that outlives the process.
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    # Namespaces and mounts, and the parts of the kernel where most ways out were found.
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "mount_setattr": (442, 442),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "open_by_handle_at": (304, 265),
    # What Landlock does not cover: a file's owner, mode, times, attributes, and, before ABI 3, its length.
    "truncate": (76, 45),
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "lchown": (94, None),
    "fchown": (93, 55),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "setxattrat": (463, 463),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "removexattrat": (466, 466),
}
_CLONE, _CLONE3 = (56, 220), (435, 435)
_PRCTL, _PRLIMIT, _FCNTL = (157, 167), (302, 261), (72, 25)
_CLONE_THREAD, _PR_SET_PDEATHSIG = 0x10000, 1
_F_SETOWN, _F_SETSIG, _F_SETOWN_EX = 8, 10, 15

# Instructions of the classic BPF machine and the offsets of struct seccomp_data.
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCH, _ARGUMENT_0, _ARGUMENT_1 = 0, 4, 16, 24
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
_X32 = 0x40000000  # x86-64 has a second set of the same calls from this number on

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2


def known_machine() -> bool:
    return os.uname().machine in _AUDIT_ARCH


def restrict() -> None:
    """Refuse the calls above in this process, with ``EPERM``. Wants ``no_new_privileges``; cannot be undone."""
    program = _program(os.uname().machine)
    code = ctypes.create_string_buffer(program, len(program))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code)), 16)
    libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, header)


def _program(machine: str) -> bytes:
    column = list(_AUDIT_ARCH).index(machine)
    refuse = _instruction(_RETURN, _ERROR | errno.EPERM)
    load_number = _instruction(_LOAD, _NUMBER)
    program = [_instruction(_LOAD, _ARCH), _instruction(_JUMP_EQUAL, _AUDIT_ARCH[machine], 1, 0), refuse, load_number]
    if machine == "x86_64":
        program += [_instruction(_JUMP_AT_LEAST, _X32, 0, 1), refuse]
    for numbers in _REFUSED.values():
        number = numbers[column]
        if number is not None:
            program += [_instruction(_JUMP_EQUAL, number, 0, 1), refuse]
    # The flags of clone3 lie in memory, where a filter cannot look. "No such call" makes the C library use clone.
    program += [
        _instruction(_JUMP_EQUAL, _CLONE3[column], 0, 1),
        _instruction(_RETURN, _ERROR | errno.ENOSYS),
    ]
    for numbers, argument, refused_if in (
        (_CLONE, _ARGUMENT_0, _instruction(_JUMP_ANY_BIT, _CLONE_THREAD, 1, 0)),
        (_PRCTL, _ARGUMENT_0, _instruction(_JUMP_EQUAL, _PR_SET_PDEATHSIG, 0, 1)),
        (_PRLIMIT, _ARGUMENT_0, _instruction(_JUMP_EQUAL, 0, 1, 0)),  # the limits of another process
        (_FCNTL, _ARGUMENT_1, _instruction(_JUMP_EQUAL, _F_SETOWN, 0, 1)),  # these three send signals by a detour
        (_FCNTL, _ARGUMENT_1, _instruction(_JUMP_EQUAL, _F_SETSIG, 0, 1)),
        (_FCNTL, _ARGUMENT_1, _instruction(_JUMP_EQUAL, _F_SETOWN_EX, 0, 1)),
    ):
        to_next = _instruction(_JUMP_EQUAL, numbers[column], 0, 4)
        program += [to_next, _instruction(_LOAD, argument), refused_if, refuse, load_number]
    return b"".join([*program, _instruction(_RETURN, _ALLOW)])


def _instruction(code: int, value: int, skip_if_true: int = 0, skip_if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, skip_if_true, skip_if_false, value)
