"""Methods from elsewhere in sweep files."""

import sys
from pathlib import Path

import pytest
import twin_method

from sweeps.language.strict_yaml import SweepError
from sweeps.language.sweep_spec import load_sweep


def test_a_method_by_path_brings_its_own_parameters(tmp_path):
    """Catches parameters that a sweep cannot set, and that apply to other methods, too."""
    path = tmp_path / "sweep.yaml"
    path.write_text("name: x\ngrid: {method: [dense, 'twin_method:Twin'], twin.alpha: [0.1, 0.2]}\n")
    trials = load_sweep(path).trials
    assert [(trial.method, trial.parameters) for trial in trials] == [
        ("dense", trials[0].parameters),
        ("twin_method:Twin", twin_method.Twin(alpha=0.1)),
        ("twin_method:Twin", twin_method.Twin(alpha=0.2)),
    ]


def test_a_method_lies_beside_the_sweep_file(tmp_path, monkeypatch):
    """Catches a module that only `python -m` finds: the command `kvcomm` does not search the current folder."""
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    source = Path(twin_method.__file__).read_text(encoding="utf-8").replace("class Twin", "class Beside")
    (tmp_path / "lying_beside.py").write_text(source, encoding="utf-8")
    path = tmp_path / "sweep.yaml"
    path.write_text("name: x\nmethod: 'lying_beside:Beside'\nbeside.alpha: 0.25\n")
    (trial,) = load_sweep(path).trials
    assert trial.to_dict()["beside"] == {"alpha": 0.25}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "method: 'twin_method:Twin'\ntwin.alpa: 0.1",
            "'twin.alpa' is not a key of a sweep file; did you mean twin.alpha?",
        ),
        ("method: 'twin_method:Twin'\ntwin.alpha: 2", "twin.alpha is 2.0; allowed: 0 to 1"),
        ("method: 'twin_method:Twin'\ntwin.alpha: low", "twin.alpha is 'low'; allowed: a number"),
        ("method: 'twin_method:Twim'", "method is 'twin_method:Twim'; it cannot be imported"),
    ],
)
def test_mistakes_in_a_plug_ins_parameters_are_one_line(tmp_path, text, reason):
    """Catches an error of pydantic or of the plug-in shown as it is."""
    path = tmp_path / "sweep.yaml"
    path.write_text(f"name: x\n{text}\n")
    with pytest.raises(SweepError) as refused:
        load_sweep(path)
    assert reason in str(refused.value)
