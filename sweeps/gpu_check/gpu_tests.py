"""The tests that need a GPU, run in this process."""

from pathlib import Path

import pytest

from kvcomm_core.config import one_line
from sweeps.gpu_check.figures import FigureFile, TestOutcome

ROOT = Path(__file__).parents[2]


class _Outcomes:
    """Writes the result of every test when it is known."""

    def __init__(self, file: FigureFile) -> None:
        self._file = file

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            self._file.test(TestOutcome(name=report.nodeid, outcome=report.outcome, reason=_reason(report)))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._file.test(TestOutcome(name=report.nodeid, outcome="failed", reason=_reason(report)))


def run_gpu_tests(file: FigureFile) -> None:
    """Run the tests marked ``gpu``, which are skipped without one. Raise ``RuntimeError`` if one fails, or if there are
    none."""
    # Other files may import what a bare machine does not have.
    marked = [path for path in sorted((ROOT / "tests").rglob("test_*.py")) if "mark.gpu" in path.read_text("utf-8")]
    if not marked:
        raise RuntimeError("no tests here: this is no source tree")
    outcomes = _Outcomes(file)
    arguments = [
        "-q",
        "-m",
        "gpu",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(ROOT),
        "-c",
        str(ROOT / "pyproject.toml"),
    ]
    code = pytest.main([*arguments, *map(str, marked)], plugins=[outcomes])
    if code:
        raise RuntimeError(f"pytest ended with exit code {int(code)}")


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    if report.outcome == "passed":
        return ""
    told = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr).strip()
    return one_line(str(told)[-400:])
