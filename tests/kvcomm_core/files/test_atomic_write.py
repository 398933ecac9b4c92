"""Atomic writing: what a reader finds after a kill or an error, and in which order the disk is asked."""

import os
import sys
from pathlib import Path

import pytest

from kvcomm_core.files import atomic_write
from kvcomm_core.files.atomic_write import empty_scratch, replacing

KILLED = 9


def write_and_die(target: Path, scratch: Path, content: bytes, step: int) -> bool:
    """Write in a forked process that dies before line number ``step``, without any cleaning up. Return whether it
    died."""
    victim = os.fork()
    if victim == 0:
        left = step

        def die(frame, event, arg):
            nonlocal left
            if frame.f_code.co_filename not in (atomic_write.__file__, __file__):
                return None
            if event == "line":
                left -= 1
                if left < 0:
                    os._exit(KILLED)
            return die

        sys.settrace(die)
        write(target, scratch, content)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(victim, 0)[1]) == KILLED


def write(target: Path, scratch: Path, content: bytes) -> None:
    with replacing(target, scratch) as new, new.open("wb") as file:
        file.write(content[: len(content) // 2])
        file.flush()
        file.write(content[len(content) // 2 :])


@pytest.mark.slow
def test_a_kill_between_any_two_steps_leaves_the_old_or_the_new_file(tmp_path: Path) -> None:
    """Would catch a file that is written in place, one that is moved before it is whole, and a half file where readers
    look for files. Whatever is left lies in the scratch folder, which the next writer empties."""
    tree, scratch = tmp_path / "tree", tmp_path / "scratch"
    tree.mkdir()
    target, old, new = tree / "file", b"old " * 5000, b"new " * 7000
    write(target, scratch, old)
    found, step = [], 0
    while write_and_die(target, scratch, new, step):
        assert [path.name for path in tree.iterdir()] == ["file"]
        found.append(target.read_bytes())
        step += 1
    assert target.read_bytes() == new
    assert step > 10, "it dies at every line, not only at the first"
    assert set(found) == {old, new}
    assert found == sorted(found, key=lambda content: content == new), "the new file stays"
    assert list(scratch.iterdir())
    empty_scratch(scratch)
    assert list(scratch.iterdir()) == []


def test_the_disk_is_asked_before_and_after_the_move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch a file that a crash of the machine leaves empty under its final name, or takes back to the old one
    after the writer went on."""
    asked = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (asked.append(str(Path(f"/proc/self/fd/{fd}").readlink())), fsync(fd)))
    monkeypatch.setattr(Path, "replace", lambda self, target: (asked.append("move"), replace(self, target)))
    write(tmp_path / "file", tmp_path / "scratch", b"content")
    written, *rest = asked
    assert Path(written).parent == tmp_path / "scratch"
    assert rest == ["move", str(tmp_path)]
    asked.clear()
    with replacing(tmp_path / "file", tmp_path / "scratch", synced=False) as new:
        new.write_bytes(b"")
    assert asked == ["move"]


def fail(target: Path, scratch: Path, error: BaseException, *, folder: bool) -> None:
    with replacing(target, scratch, synced=False) as new:
        if folder:
            new.mkdir()
        (new / "part" if folder else new).write_bytes(b"ne")
        raise error


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    """Would catch a full disk that is kept full, and an interrupted writer whose half file replaces the old one."""
    target, scratch = tmp_path / "file", tmp_path / "scratch"
    write(target, scratch, b"old")
    with pytest.raises(type(error)):
        fail(target, scratch, error, folder=False)
    assert target.read_bytes() == b"old"
    with pytest.raises(type(error)):
        fail(tmp_path / "folder", scratch, error, folder=True)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "scratch"]


def test_two_writers_of_one_file_do_not_mix(tmp_path: Path) -> None:
    """Would catch a fixed temporary name, under which one writer moves the half file of another."""
    target, scratch = tmp_path / "file", tmp_path / "scratch"
    with replacing(target, scratch) as first:
        first.write_bytes(b"first")
        write(target, scratch, b"second")
        assert target.read_bytes() == b"second"
    assert target.read_bytes() == b"first"


def test_a_scratch_folder_that_is_a_link_is_not_emptied(tmp_path: Path) -> None:
    """Would catch a run that empties somebody else's folder."""
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    (tmp_path / "scratch").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="a link where a folder must be"):
        empty_scratch(tmp_path / "scratch")
    assert (tmp_path / "precious" / "file").exists()
