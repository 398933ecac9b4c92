"""Shared by all tests: those that need a GPU are skipped where there is none, and several processes share them out."""

import os
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import settings

# Each process, and each that it starts, computes on one core: the made-up models are too small for two, and two
# processes with two threads each wait for one another. Read when torch is imported, so it is set before.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# By default an example that takes longer than 200 ms fails its test, as it may where other processes are at work.
settings.register_profile("no deadline", settings.default, deadline=None)
settings.load_profile("no deadline")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """A sweep in this process gives torch all cores. Numbers are summed in another order then, so that later tests of
    equal bits would fail."""
    yield
    if "torch" in sys.modules:
        import torch  # only here, since it takes seconds

        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def empty_mlflow_db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of MLflow without runs, made by the first process that needs it: making its tables takes many seconds.
    Tests of a store that is new make one of their own."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # which all processes share
    path = folder / "empty-mlflow.db"
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():
            from mlflow import MlflowClient  # only here, as it takes seconds

            made = path.with_suffix(".partial")
            MlflowClient(tracking_uri=f"sqlite:///{made}").search_experiments()
            made.rename(path)
    return path


@pytest.fixture
def blank_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pictures of figures show nothing in files: painting takes seconds, and tests of their own look at what is
    painted. Their numbers, the CSV files, are real."""
    from analysis.figures import saving  # only here, as matplotlib takes a second to import

    monkeypatch.setattr(saving, "encoded", lambda drawn, kind: b"no picture")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--chaos-long", action="store_true", help="kill 30 replicas, nodes and controllers instead of 3")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    _skip_without_gpu(items)
    if hasattr(config, "workerinput"):
        _slow_first(items)


def _skip_without_gpu(items: list[pytest.Item]) -> None:
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if not on_gpu:
        return
    import torch  # only here, since it takes seconds and most runs of single tests do without

    if not torch.cuda.is_available():
        for item in on_gpu:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and this machine has none"))


def _slow_first(items: list[pytest.Item]) -> None:
    """So that no process ends long after the other: first what starts Ray, which one process does, then slow files."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (not starts_ray(item.path), item.path not in slow))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With ``--dist loadfile`` the tests of a file go to one process, so that its fixtures are made once. All files
    that start Ray go to one process, too, since clusters side by side need much memory."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class OneProcessStartsRay(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "ray" if starts_ray(config.rootpath / file) else file

    return OneProcessStartsRay(config, log)


@cache
def starts_ray(path: Path) -> bool:
    """Whether a test of that file is marked so. The process that shares the tests out knows nothing but their names, so
    the text has to tell."""
    return "pytest.mark.ray" in path.read_text(encoding="utf-8")
