"""The allowed system calls, by their numbers on x86-64 and on AArch64.

They are the calls that Python and its standard library make in one process with threads, files and pipes. The list has
no sockets except a connected pair, no second process and no program start. It has nothing that acts on other processes
or on a file's owner, mode, times or attributes, and nothing that a kernel adds later.
"""

# name: numbers on x86-64 and on AArch64, which lacks old calls that have a newer form.
ALLOWED: dict[str, tuple[int, int | None]] = {
    # Reading and writing open files.
    "read": (0, 63),
    "write": (1, 64),
    "readv": (19, 65),
    "writev": (20, 66),
    "pread64": (17, 67),
    "pwrite64": (18, 68),
    "preadv": (295, 69),
    "pwritev": (296, 70),
    "lseek": (8, 62),
    "close": (3, 57),
    "close_range": (436, 436),
    "dup": (32, 23),
    "dup2": (33, None),
    "dup3": (292, 24),
    "pipe": (22, None),
    "pipe2": (293, 59),
    "flock": (73, 32),
    "fsync": (74, 82),
    "fdatasync": (75, 83),
    "ftruncate": (77, 46),
    # Files by name; the minimal root decides which exist.
    "open": (2, None),
    "openat": (257, 56),
    "stat": (4, None),
    "lstat": (6, None),
    "fstat": (5, 80),
    "newfstatat": (262, 79),
    "statx": (332, 291),
    "access": (21, None),
    "faccessat": (269, 48),
    "faccessat2": (439, 439),
    "readlink": (89, None),
    "readlinkat": (267, 78),
    "getdents64": (217, 61),
    "getcwd": (79, 17),
    "chdir": (80, 49),
    "fchdir": (81, 50),
    "mkdir": (83, None),
    "mkdirat": (258, 34),
    "rmdir": (84, None),
    "unlink": (87, None),
    "unlinkat": (263, 35),
    "rename": (82, None),
    "renameat": (264, 38),
    "renameat2": (316, 276),
    "symlink": (88, None),
    "symlinkat": (266, 36),
    "umask": (95, 166),
    # Memory.
    "mmap": (9, 222),
    "munmap": (11, 215),
    "mprotect": (10, 226),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "brk": (12, 214),
    "msync": (26, 227),
    # Threads of its own.
    "futex": (202, 98),
    "set_robust_list": (273, 99),
    "rseq": (334, 293),
    "set_tid_address": (218, 96),
    "gettid": (186, 178),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "exit": (60, 93),
    "exit_group": (231, 94),
    "restart_syscall": (219, 128),
    # Signals to itself.
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "rt_sigpending": (127, 136),
    "rt_sigtimedwait": (128, 137),
    "rt_sigsuspend": (130, 133),
    "sigaltstack": (131, 132),
    "alarm": (37, None),
    "setitimer": (38, 103),
    "getitimer": (36, 102),
    "pause": (34, None),
    # Time and randomness.
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "nanosleep": (35, 101),
    "gettimeofday": (96, 169),
    "time": (201, None),
    "times": (100, 153),
    "getrusage": (98, 165),
    "getrandom": (318, 278),
    # Information about itself.
    "getpid": (39, 172),
    "getppid": (110, 173),
    "getuid": (102, 174),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getegid": (108, 177),
    "getresuid": (118, 148),
    "getresgid": (120, 150),
    "getgroups": (115, 158),
    "getpgrp": (111, None),
    "getpgid": (121, 155),
    "getsid": (124, 156),
    "uname": (63, 160),
    "getrlimit": (97, 163),
    # Waiting for open files.
    "poll": (7, None),
    "ppoll": (271, 73),
    "select": (23, None),
    "pselect6": (270, 72),
    "epoll_create": (213, None),
    "epoll_create1": (291, 20),
    "epoll_ctl": (233, 21),
    "epoll_wait": (232, None),
    "epoll_pwait": (281, 22),
    "epoll_pwait2": (441, 441),
    "eventfd2": (290, 19),
    # A pair of connected sockets, which asyncio needs.
    "sendto": (44, 206),
    "recvfrom": (45, 207),
    "shutdown": (48, 210),
    "getsockname": (51, 204),
    "getpeername": (52, 205),
    "getsockopt": (55, 209),
}

# Allowed with some arguments only: the numbers, then the allowed values of each checked argument (the first is 0).
_PAIR_TYPES = (0x1, 0x801, 0x80001, 0x80801)  # streams; a datagram could be sent to any socket that is a file
ALLOWED_WITH: dict[str, tuple[tuple[int, int], dict[int, tuple[int, ...]]]] = {
    "clone": ((56, 220), {0: (0x3D0F00, 0x7D0F00)}),  # the C libraries (glibc, musl) start a thread with these flags
    "prctl": ((157, 167), {0: (15, 16)}),  # PR_SET_NAME, PR_GET_NAME
    "prlimit64": ((302, 261), {0: (0,)}),  # its own limits
    "socketpair": ((53, 199), {0: (1,), 1: _PAIR_TYPES}),  # AF_UNIX
    # Duplicate, flags, locks, size of a pipe. F_SETOWN, F_SETSIG and F_NOTIFY would send signals indirectly.
    "fcntl": ((72, 25), {1: (0, 1, 2, 3, 5, 6, 7, 36, 37, 38, 1030, 1032)}),
    # TCGETS, TCGETS2, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX; FIOSETOWN and TIOCSTI are the dangerous ones.
    "ioctl": ((16, 29), {1: (0x5401, 0x802C542A, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)}),
}
FCNTL, F_SETFL, O_ASYNC = (72, 25), 4, 0x2000

# Answered with "no such call", so that the C library falls back on calls that the filter can judge. The flags of clone3
# lie in memory, and calls from this number on are newer than the list.
CLONE3, UNKNOWN = 435, 463
