"""Print the parts of this Python's standard library: absolute paths, each followed by a NUL.

These are the folders that imports search when there is no ``site``, and the shared libraries that the extension modules
in them load. Run this program with ``-I -S``. It finds the libraries by loading the modules, in about 0.1 s.
"""

import ctypes
import os
import sys

_USELESS = ("_tkinter.", "nis.")  # there is no display and no network, and these load dozens of libraries


class _Object(ctypes.Structure):
    """The beginning of the C library's ``struct dl_phdr_info``."""

    _fields_ = (("address", ctypes.c_void_p), ("name", ctypes.c_char_p))


_VISITOR = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(_Object), ctypes.c_size_t, ctypes.c_void_p)


def paths() -> list[str]:
    """Return the folders, then the libraries, under the names by which the loader searches for them."""
    folders = [os.path.abspath(path) for path in sys.path if os.path.exists(path)]  # noqa: PTH100, PTH110
    before = _loaded()
    for folder in folders:
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:  # noqa: PTH112, PTH208
            if name.endswith(".so") and not name.startswith(_USELESS):
                _load(f"{folder}/{name}")
    _load("libgcc_s.so.1")  # the C library loads it when a thread is cancelled
    within = tuple(f"{folder}/" for folder in folders)
    libraries = [path for path in _loaded() if path not in before and not path.startswith(within)]
    return [path for path in folders if not path.startswith(within)] + libraries


def _load(name: str) -> None:
    try:
        ctypes.CDLL(name)
    except OSError:  # this machine lacks a library for the module, so there is nothing to list
        return


def _loaded() -> list[str]:
    found: list[str] = []

    def visit(item: "ctypes._Pointer[_Object]", size: int, data: int | None) -> int:  # noqa: ARG001 - as C has it
        path = os.fsdecode(item.contents.name or b"")
        if os.path.isabs(path):  # noqa: PTH117 - the others are the program itself and what the kernel provides
            found.append(os.path.normpath(path))
        return 0

    ctypes.CDLL(None).dl_iterate_phdr(_VISITOR(visit), None)
    return found


if __name__ == "__main__":
    sys.stdout.write("".join(f"{path}\0" for path in paths()))
