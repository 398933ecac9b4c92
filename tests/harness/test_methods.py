"""Methods by name: built in, by path, and what becomes of a trial's identity."""

import dataclasses
import hashlib
import json
from importlib import metadata

import pytest
import twin_method
from tiny_models import tiny_chat_model

from harness import extensions
from harness.methods import BUILT_IN, find_method, method_version, parameters_key
from harness.spec import TrialSpec
from harness.trials.runner import run_trial
from harness.workloads import built_in
from harness.workloads.recall import RecallSpec
from kvcomm_core.config import KVCommConfig, MethodConfig

TWIN = "twin_method:Twin"


def test_the_defaults_are_as_recorded() -> None:
    """Golden: the identity leaves out what has its default, so a changed default would take old results for new ones.

    If a default must change, raise ``IDENTITY_VERSION``, and record the new value here and the ids in test_spec.
    """
    records = [TrialSpec, *map(find_method, BUILT_IN), *built_in().values()]
    defaults = {
        record.__name__: {f.name: f.default for f in dataclasses.fields(record) if f.default is not dataclasses.MISSING}
        for record in records
    }
    text = json.dumps(defaults, sort_keys=True, default=str)
    assert hashlib.sha256(text.encode()).hexdigest()[:12] == "09417647b763"


def test_a_new_field_changes_no_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve done trials once became none done when a field was added. Would catch an identity that holds defaults."""

    @dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
    class Wider(KVCommConfig):
        later: float = 0.25

    before = TrialSpec(method="kvcomm", parameters=KVCommConfig(gamma=0.1))
    known = before.trial_id
    monkeypatch.setitem(BUILT_IN, "kvcomm", f"{__name__}:Wider")
    monkeypatch.setattr(extensions, "find", lambda *_: Wider)
    monkeypatch.setattr("harness.methods.find", lambda *_: Wider)
    assert TrialSpec(method="kvcomm", parameters=Wider(gamma=0.1)).trial_id == known
    assert TrialSpec(method="kvcomm", parameters=Wider(gamma=0.1, later=0.5)).trial_id != known


def test_a_method_by_path_runs_like_any_other() -> None:
    """Would catch a name that only the sweep file understands, parameters that do not reach the method, and a record
    that holds them under another key."""
    spec = TrialSpec(method=TWIN, parameters=twin_method.Twin(alpha=0.25), workload=RecallSpec(limit=2), agents=2)
    assert parameters_key(TWIN) == "twin"
    assert spec.to_dict()["twin"] == {"alpha": 0.25}
    result = run_trial(dataclasses.replace(spec, max_new_tokens=2), tiny_chat_model())
    assert result.trial.error is None
    assert {turn.arm for turn in result.turns} == {TWIN}


def test_a_plug_ins_file_is_in_the_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch results of one version of a plug-in taken for those of another."""
    first = TrialSpec(method=TWIN).trial_id
    assert method_version("kvcomm") is None
    assert len(method_version(TWIN) or "") == 12
    monkeypatch.setattr("harness.identity.method_version", lambda _: "twin 2.0")
    assert TrialSpec(method=TWIN).trial_id != first


def test_an_installed_package_may_announce_a_method(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch an entry point that is not asked, and one that takes a built-in's name."""
    points = [metadata.EntryPoint(name, TWIN, "kvcomm.methods") for name in ("twin", "kvcomm")]
    monkeypatch.setattr(metadata, "entry_points", lambda **_: points)
    extensions.announced.cache_clear()
    try:
        assert find_method("twin") is twin_method.Twin
        assert find_method("kvcomm") is KVCommConfig
        with pytest.raises(ValueError, match="kvcomm, twin, or module:Class"):
            find_method("nothing")
    finally:
        extensions.announced.cache_clear()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("dens", "allowed: dense, prefix, naive, epic, infoflow, relay, cacheblend, kvcomm, or module:Class"),
        ("no_such_module:X", "it cannot be imported"),
        ("twin_method:Missing", "it cannot be imported"),
        ("twin_method:require", "it is no class of MethodConfig"),
        ("os:system('x')", "allowed: dense"),
        ("", "allowed: dense"),
    ],
)
def test_a_name_that_means_nothing_is_one_line(name: str, reason: str) -> None:
    """Would catch a traceback of a plug-in, and a path that runs what is no name."""
    with pytest.raises(ValueError, match="method is") as refused:
        TrialSpec(method=name)
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


def test_parameters_of_another_method_are_refused() -> None:
    """Would catch a trial that says kvcomm and runs with the parameters of another method."""
    with pytest.raises(ValueError, match="parameters is 'Twin'; allowed: KVCommConfig, with method kvcomm"):
        TrialSpec(method="kvcomm", parameters=twin_method.Twin())
    assert TrialSpec(method="kvcomm", parameters=MethodConfig()).parameters == KVCommConfig()
