"""Tensors in files: each written once, found again, and never mistaken for what they were not."""

from pathlib import Path

import pytest
import torch

from harness.results.tensor_files import TensorFiles


def files_in(folder: Path) -> TensorFiles:
    return TensorFiles(folder, folder / "scratch")


def make(*seeds: int) -> list[torch.Tensor]:
    return [torch.full((64, 64), float(seed), dtype=torch.bfloat16) for seed in seeds]


def equal(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(x.dtype == y.dtype and torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_only_new_tensors_are_written(tmp_path: Path) -> None:
    """Would catch a checkpoint that writes whole pools each time, in this process or after it was taken up again."""
    files = files_in(tmp_path)
    first, second, third = make(1, 2, 3)
    files.write([first, second], "a")
    places, digests = files.write([second, third, second], "b")
    assert [file for file, _ in places] == ["a", "b", "a"]
    assert (tmp_path / "b").stat().st_size < 0.7 * (tmp_path / "a").stat().st_size
    later = files_in(tmp_path)
    found = later.read(places, digests)
    assert equal(found, [second, third, second])
    assert found[0] is found[2]
    again, digests_again = later.write(found, "c")
    assert (again, digests_again) == (places, digests)
    assert not (tmp_path / "c").exists()


def test_tensors_that_are_gone_do_not_pile_up(tmp_path: Path) -> None:
    """Would catch a folder that grows with every anchor there ever was, held up by a few that stay."""
    files, lasting = files_in(tmp_path), make(0)
    for number in range(1, 30):
        stays, *_ = new = make(number, number, number)
        places, digests = files.write([*lasting, *new], str(number))
        lasting.append(stays)
        assert set(digests) == {file for file, _ in places}
        live = (len(lasting) + 2) * stays.nbytes
        assert sum((tmp_path / file).stat().st_size for file in digests) <= 2.1 * live  # of which 0.1 are headers


def test_an_identity_is_not_taken_over(tmp_path: Path) -> None:
    """Would catch a new tensor taken for a dead one that had its address."""
    files = files_in(tmp_path)
    for number in range(20):
        [tensor] = make(number)
        places, digests = files.write([tensor], str(number))
        assert equal(files_in(tmp_path).read(places, digests), [tensor])
        del tensor


def test_files_may_go_once_they_are_read(tmp_path: Path) -> None:
    """Would catch tensors that still lie in a mapped file when that is cut off."""
    places, digests = files_in(tmp_path).write(make(5), "a")
    found = files_in(tmp_path).read(places, digests)
    (tmp_path / "a").write_bytes(b"")
    assert equal(found, make(5))


@pytest.mark.parametrize("damage", ["flip", "cut", "missing"])
def test_a_damaged_file_is_refused(tmp_path: Path, damage: str) -> None:
    """Would catch weights that are off by a bit, which no format check sees."""
    places, digests = files_in(tmp_path).write(make(1, 2), "a")
    content = bytearray((tmp_path / "a").read_bytes())
    content[-1] ^= 1
    if damage == "missing":
        (tmp_path / "a").unlink()
    else:
        (tmp_path / "a").write_bytes(content if damage == "flip" else content[:-1])
    with pytest.raises((ValueError, OSError), match=r"a is not as it was written|No such file"):
        files_in(tmp_path).read(places, digests)


def test_nothing_is_left_of_a_failed_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch a full disk that is kept full, and tensors believed to lie where they do not."""
    files, tensors = files_in(tmp_path), make(1)

    def full(tensors: dict[str, torch.Tensor], path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("harness.results.tensor_files.save_file", full)
        with pytest.raises(OSError, match="No space left"):
            files.write(tensors, "a")
    assert [path.name for path in tmp_path.rglob("*")] == ["scratch"]
    places, digests = files.write(tensors, "b")
    assert equal(files_in(tmp_path).read(places, digests), tensors)
