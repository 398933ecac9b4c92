"""The trials of tables 2 and 3 as the check runs them, and their rooflines."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_families import tiny_config
from tiny_models import tiny_model

from kvcomm_core.models.loading import load_model
from sweeps.gpu_check import tables
from sweeps.gpu_check.figures import Figure, FigureFile, read_figures
from sweeps.gpu_check.offload import offload
from sweeps.gpu_check.roofs import ModelRoofs, Roofs
from sweeps.gpu_check.tables import PAPER, smaller, table_2, table_3, trials_of
from sweeps.language.sweep_spec import load_sweep

ROOFS = Roofs(bytes_per_s=1e6, flops_per_s=1e9, host_bytes_per_s=None)
OVERRIDES = {"model": "random:llama-3.1-8b", "workload.decode": False}


@pytest.fixture
def shape(tmp_path: Path) -> str:
    """A folder with the configuration of a tiny model."""
    tiny_config("llama").save_pretrained(tmp_path / "shape")
    return f"random:{tmp_path / 'shape'}"


@pytest.mark.parametrize("table", ["table_2", "table_3"])
def test_the_trials_are_those_of_the_file(table: str) -> None:
    """Catches a default of the file or its profile that is lost, a grid that is cut, and another order of cells."""
    path = PAPER / f"{table}.yaml"
    given = [f"{key}={str(value).lower()}" for key, value in OVERRIDES.items()]
    assert trials_of(path, OVERRIDES) == list(load_sweep(path, given, None, "paper").trials)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    """Catches a field of the file that is ignored in silence."""
    text = (PAPER / "table_2.yaml").read_text()
    for change, message in (
        (("agents: 5", "agents: 5\nrounds: 2"), "rounds is not read here"),
        (("name: ttft", "name: blend"), "allowed here: workload ttft"),
    ):
        path = tmp_path / "table.yaml"
        path.write_text(text.replace(*change))
        with pytest.raises(ValueError, match=message):
            trials_of(path, OVERRIDES)


def test_lengths_are_divided() -> None:
    """Catches a length of 0, and one that is left as it was, which a CPU would take minutes for."""
    [trial] = trials_of(PAPER / "table_2.yaml", OVERRIDES)
    small = smaller(trial, 600).workload
    assert (small.prefix_tokens, small.input_tokens, small.output_tokens) == (1, 1, 1)
    assert smaller(trial, 1) == trial
    assert replace(small, prefix_tokens=512, input_tokens=1024, output_tokens=512) == trial.workload


def found_by(tmp_path: Path) -> list[Figure]:
    lines = read_figures(tmp_path / "figures")
    return [Figure(**{key: line[key] for key in line if key != "kind"}) for line in lines if line["kind"] == "figure"]


@pytest.mark.slow
def test_table_2_has_every_arm_and_agent(tmp_path: Path, shape: str) -> None:
    """Catches an arm or an agent that is missing, a figure without a roof, and an aim for the paper's model that a tiny
    one meets."""
    model = load_model(shape, device="cpu")
    table_2(model, ModelRoofs(model, ROOFS), FigureFile(tmp_path / "figures"), 64)
    figures = found_by(tmp_path)
    arms = ("bare", "dense", "prefix", "l2_norm", "mean", "mean, length")
    assert sorted(figure.name.rsplit(", ", 1)[0] for figure in figures) == sorted(
        f"{arm}, agent {agent}" for arm in arms for agent in range(1, 6)
    )
    for figure in figures:
        assert figure.seconds > 0
        assert figure.aim_s is None
        assert (figure.roof_s is None) == figure.name.startswith("prefix")


@pytest.mark.slow
def test_table_3_has_every_cell(tmp_path: Path, shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a cell that is missing and a grid whose speedups nobody can read."""
    monkeypatch.setattr(tables, "trials_of", lambda *given: trials_of(*given)[::7])
    model = load_model(shape, device="cpu")
    table_3(model, ModelRoofs(model, ROOFS), FigureFile(tmp_path / "figures"), 64)
    figures = found_by(tmp_path)
    assert [figure.name.split(":")[0] for figure in figures][::2] == [
        "prefix 1, output 2",
        "prefix 4, output 4",
        "prefix 16, output 8",
    ]
    assert all("mean speedup over agents" in figure.note for figure in figures[1::2])


@pytest.mark.slow
def test_offloading_is_timed_step_by_step(tmp_path: Path, shape: str) -> None:
    """Catches a step that is not timed, and bytes over the link to the host that count as the device's."""
    model = load_model(shape, device="cpu")
    offload(model, replace(ROOFS, host_bytes_per_s=1e5), FigureFile(tmp_path / "figures"), 32)
    bounds = {figure.name.replace(", 20 anchors", ""): figure.bound for figure in found_by(tmp_path)}
    turns = {name for name in bounds if name.startswith("turn")}
    assert turns == {f"turn of agent {agent} on the {place}" for agent in (1, 2, 3) for place in ("device", "host")}
    bounds = {name: bound for name, bound in bounds.items() if name not in turns}
    assert bounds == {
        "match on the device": "memory",
        "blend on the device": "memory",
        "copy on the device": "memory",
        "match on the host": "host link",
        "fetch on the host": "host link",
        "blend on the host": "memory",
        "copy on the host": "memory",
    }


def test_roofs_by_hand() -> None:
    """Catches weights that count twice, scores of all pairs instead of half, and KV of one part only."""
    model = tiny_model(layers=2)
    roofs = ModelRoofs(model, ROOFS)
    layers = 2 * (64 * (4 * 16 + 2 * 2 * 16) + 4 * 16 * 64 + 3 * 64 * 96)
    head, kv = 97 * 64, 2 * 2 * 2 * 16 * 4
    assert roofs.weight_bytes == 4 * (layers + head)
    assert roofs.kv_bytes == kv
    pairs = sum(1 for query in range(1000) for key in range(1000) if key <= query)
    flops = 2 * layers * 1000 + 4 * 2 * 4 * 16 * pairs + 2 * head
    seconds, bound = roofs.prefill(1000)
    assert bound == "products"
    assert seconds == pytest.approx(flops / 1e9, rel=1e-3)
    assert roofs.prefill(1) == (roofs.weight_bytes / 1e6, "memory")
    assert roofs.step(3, 50) == ((roofs.weight_bytes + 3 * 50 * kv) / 1e6, "memory")
    moved = 3 * 100 * kv + 20 * 60 * kv + 20 * 30 * kv / 2 + roofs.weight_bytes
    expected = moved / 1e6 + roofs.prefill(40)[0]
    got = roofs.reuse(100, estimated=60, terms=20, term_size=4, matched=20 * 30, prefilled=40)
    assert got == (pytest.approx(expected), "memory")
    assert torch.float32.itemsize == roofs.size
