"""The worked example of a method: it is short, it passes the checks, and its sweep runs from YAML to rows."""

import io
import sys
from pathlib import Path

import pytest
from rich.console import Console
from three_agents import ask, engine_of, tokens
from tiny_models import tiny_chat_model, tiny_model

from analysis.results import Results
from kvcomm_core.conformance.running import run_checks
from kvcomm_core.methods.dense import Dense
from sweeps.language.one_method import read_method
from sweeps.language.strict_yaml import SweepError
from sweeps.language.sweep_spec import load_sweep
from sweeps.plan.planning import make_plan
from sweeps.run.in_process import run_in_process
from sweeps.run.recorder import recording

FOLDER = Path(__file__).parents[2] / "examples" / "method"
ECHO = str(FOLDER / "echo.py:Echo")


@pytest.fixture(autouse=True)
def _path(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))  # reading a method adds folders to it


def test_it_is_short():
    """Catches an example that grows into a framework."""
    assert len((FOLDER / "echo.py").read_text(encoding="utf-8").splitlines()) < 80


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.0, 0.2, 0.9])
def test_it_passes_the_checks(alpha):
    """Catches an example that teaches a mistake."""
    results = list(run_checks(read_method(ECHO, [f"echo.alpha={alpha}"]), ("llama",)))
    assert len(results) == 24
    assert [(result.check.name, str(result.finding)) for result in results if result.finding] == []


def test_alpha_is_the_share_of_each_known_piece_that_is_recomputed():
    """Catches an alpha without effect, a share of the prompt instead of each piece, and a wrong last token."""
    model = tiny_model()
    turns = {}
    for alpha in (0.0, 0.5):
        engine = engine_of(model, read_method(ECHO, [f"echo.alpha={alpha}"]).build(model, ()))
        turns[alpha] = [ask(engine, tokens(8, 0))[-1] for _ in range(2)][-1]
    dense = ask(engine_of(model, Dense()), tokens(8, 0))[-1]
    assert [turn.mode for turn in turns.values()] == ["reuse", "reuse"]
    assert turns[0.0].computed.recompute == 0
    assert turns[0.5].computed.recompute == sum(len(piece) // 2 for piece in turns[0.5].prompt.pieces)
    assert (turns[0.0].first_logits_V - dense.first_logits_V).abs().max() > 1e-2
    with pytest.raises(SweepError, match=r"echo.alpha is 1.0; allowed: 0 to below 1"):
        read_method(ECHO, ["echo.alpha=1.0"])


@pytest.mark.slow
def test_its_sweep_runs_from_the_file_to_rows(tmp_path, monkeypatch):
    """Catches a sweep file that does not find the method beside it, parameters that do not reach it, and rows that do
    not say what it reused."""
    monkeypatch.setitem(sys.modules, "mlflow", None)
    path = FOLDER / "echo.yaml"
    plan = make_plan(load_sweep(path, ["max_new_tokens=4", "model=random:smollm2-135m"], limit=3), tmp_path)
    model = tiny_chat_model()
    record = recording(plan, tmp_path, Console(file=io.StringIO()))
    run_in_process(plan, record, load=lambda name, *, dtype, weights: model)
    results = Results(tmp_path / "echo")
    assert list(results.ok_trials["method"]) == ["dense", "kvcomm", *["echo:Echo"] * 3]
    turns = results.turns
    reused = turns.groupby("arm")["reused_tokens"].sum()
    assert reused["dense"] == 0 < reused["echo:Echo"]
    assert set(turns.loc[turns["arm"] == "echo:Echo", "mode"]) == {"dense", "partial", "reuse"}
