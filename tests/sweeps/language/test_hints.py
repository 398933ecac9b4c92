"""Hints where an entry is likely to mean something else than it says."""

import pytest
from sweep_files import sweep_of
from typer.testing import CliRunner

from sweeps.cli import app
from sweeps.language.strict_yaml import SweepError


@pytest.mark.parametrize(
    ("text", "override", "hint"),
    [
        ("agents: [2, 3]", [], "agents is [2, 3]; allowed: a whole number (several go under grid)"),
        (
            "agents: 2",
            ["agents=2,3"],
            "agents is '2,3'; allowed: a whole number (several are written [a, b], under grid",
        ),
        ("kvcomm.gamma: 0.1", [], "kvcomm.gamma is given without method; allowed: also method: kvcomm"),
    ],
)
def test_errors_say_the_way_out(tmp_path, text, override, hint):
    """Catches a message that leaves the reader with a type."""
    with pytest.raises(SweepError) as error:
        sweep_of(tmp_path, f"name: x\n{text}\n", *override)
    assert hint in str(error.value)


def test_parameters_that_no_trial_uses(tmp_path):
    """Catches a parameter that is dropped in silence, and one marked that a trial uses."""
    text = "name: x\nmethod: dense\nkvcomm.gamma: 0.1\ngrid: {cacheblend.ratio: [0.1, 0.2]}\n"
    of_kvcomm, of_cacheblend = sweep_of(tmp_path, text).hints
    assert of_kvcomm.startswith("kvcomm.gamma without effect, since no trial has method: kvcomm; the methods are dense")
    assert of_cacheblend.startswith("cacheblend.ratio without effect")
    assert sweep_of(tmp_path, text, "method=[dense, kvcomm, cacheblend]").hints == ()
    done = CliRunner().invoke(app, ["plan", str(tmp_path / "sweep.yaml"), "--json"])
    assert done.exit_code == 0
    assert done.stdout.startswith("{")
    assert [line.partition("kvcomm.gamma")[1] for line in done.stderr.splitlines()] == ["kvcomm.gamma", ""]
    assert all(line.startswith("kvcomm: note: ") for line in done.stderr.splitlines())
