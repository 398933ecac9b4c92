"""Counted choices: against a model that is changed on purpose, and against transformers on whole texts."""

import json
import re
from pathlib import Path

import pytest
import torch
from tiny_families import tiny_config
from typer.testing import CliRunner

from kvcomm_core.models.loading import load_model
from sweeps.bench.arms import plain_network
from sweeps.bench.flips import _compared, count_flips, follow_alone, follow_together, follow_transformers, random_texts
from sweeps.cli import app


@pytest.fixture
def shape(tmp_path):
    tiny_config("llama").save_pretrained(tmp_path / "shape")
    return f"random:{tmp_path / 'shape'}"


def test_every_follower_gives_the_logits_of_whole_texts(shape):
    """Against one pass of transformers over each text. Catches positions shifted by one, rows mixed up, and a cache
    that lacks a token."""
    model = load_model(shape, dtype="float32", device="cpu")
    network, texts = plain_network(model), random_texts(3, 14, 97)
    for follow in (follow_alone(model), follow_together(model), follow_transformers(network)):
        for text, logits_NV in zip(texts, follow(texts, 9), strict=True):
            with torch.inference_mode():
                expected_NV = network(torch.tensor([text])).logits[0, 8:-1]
            torch.testing.assert_close(logits_NV, expected_NV, rtol=1e-4, atol=1e-5)


def test_flips_are_other_choices():
    """Catches a flip counted where two tokens are equally likely, one that is missed, and a gap of the wrong model."""
    true = torch.tensor([[0.0, 2.0, 1.0], [3.0, 3.0, 0.0], [1.0, 0.0, 0.5]])
    other = torch.tensor([[0.0, 1.0, 9.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.5]])
    found = _compared("x", [true], [other])
    assert (found.flips, found.positions, found.widest_gap) == (1, 3, 1.0)
    assert _compared("x", [true], [true]).widest_gap is None


def test_another_model_flips(shape, tmp_path):
    """Catches a count that is 0 whatever the weights are, and threads that stay changed."""
    tiny_config("qwen2").save_pretrained(tmp_path / "another")
    shapes = (shape, f"random:{tmp_path / 'another'}")
    model, other = (load_model(one, dtype="float32", device="cpu") for one in shapes)
    threads = torch.get_num_threads()
    rows = count_flips(model, other, random_texts(2, 20, 97), 8)
    assert torch.get_num_threads() == threads
    ours, together, changed, noise = rows
    assert (ours.flips, together.flips, noise.flips) == (0, 0, 0)
    assert changed.flips > 10
    assert {row.positions for row in rows} == {24}


def test_the_command_counts_them(shape):
    """Catches a table without its data."""
    arguments = ["bench", "--model", shape, "--prompt", "8", "--tokens", "3", "--rounds", "1", "--flips", "2"]
    threads = torch.get_num_threads()
    told, data = CliRunner().invoke(app, arguments), CliRunner().invoke(app, [*arguments, "--json"])
    torch.set_num_threads(threads)
    assert "along 2 random texts" in told.stdout
    names = [row["name"] for row in json.loads(data.stdout)["flips"]]
    assert names[:3] == ["kvcomm, float32", "kvcomm, float32, 2 rows", "kvcomm, int8"]
    assert all(name.split(",")[0] in told.stdout for name in names)


def test_the_rows_are_those_of_the_readme(shape):
    """Catches a table in the engine's README whose rows the command no longer prints."""
    page = (Path(__file__).parents[3] / "kvcomm_core" / "README.md").read_text(encoding="utf-8")
    [table] = re.findall(r"flips   of  widest gap, nats\n((?:    .*\n)+)", page)
    told = [re.split(r" {2,}", line.strip())[0] for line in table.splitlines()]
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        model = load_model(shape, dtype="float32", device="cpu")
        rows = count_flips(model, model, random_texts(12, 6, 97), 4)
    finally:
        torch.set_num_threads(threads)
    assert [row.name for row in rows] == told
