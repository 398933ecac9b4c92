"""FINDINGS.md: the figures in its sentences about probes, memory and drift are those of the shipped results.

The lines of its tables are tested in ``test_findings.py``.
"""

from pathlib import Path

import pytest

from analysis.arms import arms_of
from analysis.explore.frames import figure_frame
from analysis.results import Results

ROOT = Path(__file__).parents[1]
EMBEDDED = ROOT / "analysis" / "embedded"
PAGE = " ".join((ROOT / "analysis" / "FINDINGS.md").read_text(encoding="utf-8").split())


@pytest.mark.slow
def test_the_offsets_are_those_of_the_shipped_probes():
    """Catches means over layers that stay when the probes are run anew."""
    results = Results(EMBEDDED)
    shift = figure_frame(results, "figure_1", "figure_1").query("measure == 'offset' and statistic == 'mean'")
    keys, values = (shift[shift["part"] == part] for part in ("keys", "values"))
    apart, aligned = (keys[keys["aligned"] == flag]["value"].mean() for flag in (False, True))
    told = f"is {apart:.2f} without alignment and {aligned:.2f} once positions are aligned; for values it is "
    assert f"{told}{values['value'].mean():.2f}." in PAGE

    rho = figure_frame(results, "figure_4", "figure_4").query("statistic == 'spearman'")
    means = rho.groupby(["measure", "bin", "part"])["value"].mean().map("{:.2f}".format)
    near = rho[(rho["measure"] == "distance") & (rho["bin"] == "all three")]
    assert (near["value_low"] > 0).groupby(near["part"]).sum().to_dict() == {"keys": 30, "values": 30}
    for (measure, among), told in {
        ("distance", "all three"): "the mean over layers is {} and {}.",
        ("distance", "random"): "without regard to distance it is {} and {}.**",
        ("offset_distance", "all three"): "For the offsets between two prefixes it is {} and {},",
        ("offset_distance", "random"): "and over such random pairs {} and {}.",
    }.items():
        assert told.format(means[measure, among, "keys"], means[measure, among, "values"]) in PAGE

    spread = figure_frame(results, "figure_a4_a11", "figure_a4_a11").query("part == 'keys' and layer.notna()")
    ends = spread.pivot_table(index=["agent_index", "kind", "layer"], columns="statistic", values="value")
    ranges = (ends["q95"] - ends["q05"]).groupby(["agent_index", "kind"]).mean().map("{:.2f}".format)
    first, last = (f"{ranges[agent, 'placeholder']} against {ranges[agent, 'text']}" for agent in (1, 4))
    assert f"is {first} for the keys of agent 1, and {last} for those of agent 4" in PAGE

    cosines = figure_frame(results, "figure_a12", "figure_a12").query("measure == 'cosine'")
    near = cosines.groupby(["part", "arm"])["value"].mean()
    told = (
        f"here it is {near['values', 'plain reuse']:.2f}, and {near['values', 'l2_norm']:.2f} with `l2_norm`. For keys"
    )
    assert f"{told} it is {near['keys', 'plain reuse']:.3f} and {near['keys', 'l2_norm']:.3f}." in PAGE


@pytest.mark.slow
def test_the_drift_is_that_of_the_shipped_conversations():
    """Catches a drift of another run beside the gains of this one."""
    results = Results(EMBEDDED / "table_1_times")
    arms = arms_of(results).by_cell(results.ok_trials).values()
    ms = [1000 * arm.turns["decode_s"].sum() / arm.turns["output_tokens"].sum() for arm in arms]
    assert len(ms) == 12
    assert f"one decoded token took {min(ms):.1f} to {max(ms):.1f} ms from one cell to another" in PAGE


@pytest.mark.slow
def test_the_memory_is_that_of_the_shipped_pools():
    """Catches sizes of an earlier layout of pools."""
    cells = figure_frame(Results(EMBEDDED), "figure_a1", "figure_a1").dropna(subset="memory_gb")
    assert len(cells) == 12
    fewest = 1000 * cells[cells["anchors"] == 5]["memory_gb"]
    assert f"take between {fewest.min():.0f} and {fewest.max():.0f} MB" in PAGE
    more = 100 * (cells["public_layout_gb"] / cells["memory_gb"] - 1)
    assert f"would take {more.min():.0f} to {more.max():.0f} % more" in PAGE
    assert (1000 * cells[cells["anchors"] == 20]["memory_gb"]).to_numpy() == pytest.approx(4 * fewest.to_numpy())
