"""The files of sweeps/examples: each option of a sweep file is used by one of them, and all can be planned.

These tests would catch an option that nobody shows, an example of an earlier version, and a comment that is missing.
"""

from pathlib import Path

import pytest
from typer.testing import CliRunner

import sweeps
from sweeps.cli import app
from sweeps.language.fields import SECTIONS, SETTINGS
from sweeps.language.strict_yaml import read_sweep_file

FILES = sorted((Path(sweeps.__file__).parent / "examples").glob("*.yaml"))


def test_every_option_has_an_example():
    used = {key for file in FILES for key in read_sweep_file(file)}
    assert {*SETTINGS, *SECTIONS, "profiles", "extends"} <= used
    fields = [field for file in FILES for field in read_sweep_file(file).get("random", {}).get("fields", {}).values()]
    assert {kind for field in fields for kind in field} == {"uniform", "log_uniform", "int", "choice"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_example_can_be_planned(file, tmp_path):
    profiles = read_sweep_file(file).get("profiles", {None: None})
    for profile in profiles:
        options = [] if profile is None else ["--profile", profile]
        done = CliRunner().invoke(app, ["plan", str(file), "--results", str(tmp_path), *options])
        assert done.exit_code == 0, done.output
        assert f"{file.stem}: " in done.output


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_example_is_short_and_says_what_it_shows(file):
    text = file.read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert f"kvcomm plan sweeps/examples/{file.name}" in text
    assert len(text.splitlines()) <= 20
