"""Files of ``submit --runtime-env``, and variables of ``submit --env``: what is refused, and what Ray is asked for."""

import pytest

from sweeps.jobs.runtime_env import merged, read_runtime_env, read_secrets, shown_secrets
from sweeps.language.strict_yaml import SweepError


def written(folder, text):
    path = folder / "env.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        (
            "pip: [einops==0.8.1]\nenv_vars: {HF_HOME: /models}",
            {"pip": ["einops==0.8.1"], "env_vars": {"HF_HOME": "/models"}},
        ),
        ('{"image_uri": "registry/kvcomm:1"}', {"image_uri": "registry/kvcomm:1"}),
        ("uv: {packages: [einops], uv_check: true}", {"uv": {"packages": ["einops"], "uv_check": True}}),
    ],
)
def test_yaml_and_json_are_read(tmp_path, text, entries):
    """Catches a format or a key that the documentation names and that is refused."""
    assert read_runtime_env(written(tmp_path, text)) == entries


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("pipp: [x]", "'pipp' is not known; allowed: pip, uv, conda, image_uri,"),
        (
            "working_dir: .",
            "working_dir cannot be set here: submit sends this code as the working folder; allowed: pip",
        ),
        ("env_vars: {RAY_AUTH_MODE: disabled}", "env_vars.RAY_AUTH_MODE cannot be set here: it is set by --auth"),
        (
            "env_vars: {MLFLOW_TRACKING_URI: x}",
            "env_vars.MLFLOW_TRACKING_URI cannot be set here: it is set by --tracking",
        ),
        ("env_vars: {WORKERS: 2}", "env_vars.WORKERS is 2; allowed: a text, such as '2' in quotes"),
        ("env_vars: [a]", "env_vars is ['a']; allowed: a mapping"),
        ("- pip", "is ['pip']; allowed: a mapping"),
        ("pip: [x", "line"),
    ],
)
def test_a_file_that_is_refused_is_one_line_with_its_name(tmp_path, text, reason):
    """Catches a value that gets lost without a word, and a mistake that shows on the cluster only."""
    path = written(tmp_path, text)
    with pytest.raises(SweepError) as refused:
        read_runtime_env(path)
    assert str(refused.value).startswith(f"--runtime-env {path}: ")
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_missing(tmp_path):
    """Catches a traceback."""
    with pytest.raises(SweepError, match=r"none.yaml: cannot be read: No such file"):
        read_runtime_env(tmp_path / "none.yaml")


def test_what_ray_is_asked_for(tmp_path):
    """Catches a file that replaces our variables, and variables that replace those of the file."""
    theirs = read_runtime_env(written(tmp_path, "pip: [einops]\nenv_vars: {HF_HOME: /models, HF_TOKEN: hf_x}"))
    assert merged(theirs, "/code", {"RAY_AUTH_MODE": "token"}) == {
        "pip": ["einops"],
        "working_dir": "/code",
        "env_vars": {"HF_HOME": "/models", "HF_TOKEN": "hf_x", "RAY_AUTH_MODE": "token"},
    }
    assert merged({}, "/code", {"A": "b"}) == {"working_dir": "/code", "env_vars": {"A": "b"}}
    assert shown_secrets(theirs) == ["HF_TOKEN"]
    assert shown_secrets({}) == []


def test_variables_of_the_shell(monkeypatch):
    """Catches a job that starts without the token that it needs, and an error that shows a value."""
    monkeypatch.setenv("OURS", "s3cr3t-W0rd")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("NONE", raising=False)
    assert read_secrets(["OURS"]) == {"OURS": "s3cr3t-W0rd"}
    assert read_secrets([]) == {}
    for name, reason in (
        ("NONE", "--env is 'NONE', which is not set in this shell; allowed: the name of a variable"),
        ("EMPTY", "--env is 'EMPTY', which is empty in this shell"),
        ("OURS=x", "--env is 'OURS=x', which is not set"),
        ("RAY_AUTH_MODE", "--env RAY_AUTH_MODE cannot be sent: it is set by --auth"),
    ):
        with pytest.raises(SweepError) as refused:
            read_secrets(["OURS", name])
        assert reason in str(refused.value)
        assert "s3cr3t" not in str(refused.value)
