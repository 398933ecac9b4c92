"""Secrets of a job: they reach the process that needs them, and hide there."""

import os
import stat

from harness import redaction
from harness.redaction import redact
from harness.secrets import SECRETS_FILE, take_secrets, write_secrets

TOKEN = "hf_" + "aB3" * 11
KEY = "s3cr3t-W0rd/+="


def test_they_are_set_and_hidden(tmp_path, monkeypatch):
    """Catches a variable that does not arrive, a file that others may read, and an error that quotes a value."""
    monkeypatch.setattr(redaction, "_hidden", set())
    for name in ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    take_secrets(tmp_path)
    assert "HF_TOKEN" not in os.environ, "nothing was sent"
    write_secrets(tmp_path, {"HF_TOKEN": TOKEN, "AWS_SECRET_ACCESS_KEY": KEY})
    assert stat.S_IMODE((tmp_path / SECRETS_FILE).stat().st_mode) == 0o600
    monkeypatch.setenv("HF_TOKEN", "one of the machine")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "")
    take_secrets(tmp_path)
    assert (os.environ["HF_TOKEN"], os.environ["AWS_SECRET_ACCESS_KEY"]) == (TOKEN, KEY)
    assert redact(f"403 for key {KEY}: no") == "403 for key ***: no"


def test_tokens_of_the_hub_hide_by_their_form(monkeypatch):
    """Catches a token that the Hub's client quotes in an error, in a process that was given it by other means."""
    monkeypatch.setattr(redaction, "_hidden", set())
    assert redact(f"Invalid user token {TOKEN}.") == "Invalid user token ***."
    assert redact(f"{{'authorization': 'Bearer {TOKEN}'}}") == "{'authorization': 'Bearer ***'}"
    kept = "hf_hub_download of hf_home /models/hf_cache, model hf_model"
    assert redact(kept) == kept
