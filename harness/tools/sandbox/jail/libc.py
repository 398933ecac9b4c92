"""C library calls for which Python has no function. Errors are ``OSError``."""

import ctypes
import os

_LIBC = ctypes.CDLL(None, use_errno=True)

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_SYS_CAPSET = {"x86_64": 126, "aarch64": 91}
_CAPABILITY_VERSION_3 = 0x20080522


def call(name: str, *arguments: int | bytes | ctypes.Array[ctypes.c_char] | None) -> int:
    """Call the C function ``name``; integers are passed as longs. Raise ``OSError`` if it returns a negative number."""
    converted = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result: int = getattr(_LIBC, name)(*converted)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{name}: {os.strerror(error)}")
    return result


def prctl(option: int, argument: int = 0, pointer: ctypes.Array[ctypes.c_char] | None = None) -> None:
    call("prctl", option, argument, pointer, 0, 0)


def die_with_parent(signal: int) -> None:
    """Make the kernel send ``signal`` to this process when its parent ends."""
    prctl(_PR_SET_PDEATHSIG, signal)


def no_new_privileges() -> None:
    """Prevent programs run from here on from gaining privileges. The kernel requires this before Landlock and
    seccomp."""
    prctl(_PR_SET_NO_NEW_PRIVS, 1)


def drop_capabilities() -> None:
    """Give up all capabilities. A changed user id does so by itself, but a user namespace gives its creator all of
    them."""
    header = ctypes.create_string_buffer(_CAPABILITY_VERSION_3.to_bytes(4, "little") + (0).to_bytes(4, "little"), 8)
    call("syscall", _SYS_CAPSET[os.uname().machine], header, ctypes.create_string_buffer(24))
