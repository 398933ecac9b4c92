"""Data inside the page: what may stand in a script element, and which conversations are chosen."""

import dataclasses
import json

import pytest
from hostile_answers import PAYLOADS
from hypothesis import given
from hypothesis import strategies as st
from made_up import write_results

from analysis.report import transcripts
from analysis.report.cells import rows_of
from analysis.report.compared_arms import all_arms
from analysis.report.embedding import page_script, script_json
from analysis.report.explorer import explorer_data
from analysis.report.transcripts import choose
from analysis.results import Results
from harness.spec import TrialSpec
from harness.text import displayed
from kvcomm_core.config import KVCommConfig

DENSE, KVCOMM = TrialSpec(agents=2), TrialSpec(agents=2, method="kvcomm", parameters=KVCommConfig())


@given(
    st.text()
    | st.sampled_from(["</script>", "<!--", "]]>", "\u2028", "&lt;"]).flatmap(lambda a: st.text().map(lambda b: a + b))
)
def test_json_cannot_end_its_element(text):
    """Catches a text that ends the script element or begins a comment, and one that changes on the way."""
    content = script_json({text: [text]})
    assert not set("<>&\u2028\u2029") & set(content)
    assert json.loads(content) == {text: [text]}


def test_page_script_holds_no_end():
    """Catches a script of ours that would end its own element."""
    assert "</" not in page_script()


def made(folder, make_result, answers, samples=8, **fields):
    """Return the sweep of dense and kvcomm whose answers are ``answers(spec, sample, agent)``."""
    results = []
    for spec in (DENSE, KVCOMM):
        result = make_result(spec, samples=samples)
        turns = [
            dataclasses.replace(turn, output_text=answers(spec, turn.sample_index, turn.agent_index), **fields)
            for turn in result.turns
        ]
        results.append(dataclasses.replace(result, turns=turns))
    found = Results(write_results(folder, *results))
    return [("s", found, rows_of("s", found, all_arms(found)))]


def test_extremes_and_the_middle_are_chosen(tmp_path, make_result):
    """Catches a ranking the wrong way round, and an item whose grade differs behind one with more other words."""

    def answers(spec, sample, agent):
        return "same" if spec is DENSE or sample not in (3, 5) or (sample == 5 and agent == 1) else "other"

    sweeps = made(tmp_path, make_result, answers)
    items = [item["id"] for item in choose(sweeps).settings[0]["items"]]
    assert items[0] == "item-3"
    assert items[1] not in ("item-3", "item-5")
    ((sweep, results, rows),) = sweeps
    turns = results.turns_with_prompts.copy()
    last = (turns["item_id"] == "item-6") & (turns["agent_index"] == 2) & (turns["arm"] == "kvcomm")
    turns.loc[last, "outcome"] = "wrong"
    results.__dict__["turns_with_prompts"] = turns
    chosen = choose([(sweep, results, rows)])
    assert chosen.settings[0]["items"][0]["id"] == "item-6"
    assert (chosen.n_chosen, chosen.n_items) == (3, 8)


def test_turns_keep_their_arm_and_place(tmp_path, make_result):
    """Catches answers under another agent or arm, and an unknown field that becomes a number."""
    sweeps = made(tmp_path, make_result, lambda spec, sample, agent: f"{spec.method} {sample} {agent}")
    chosen = choose(sweeps).to_dict()
    (setting,) = chosen["settings"]
    assert setting["arms"] == ["dense", "kvcomm"]
    for item in setting["items"]:
        sample = item["id"].removeprefix("item-")
        for arm, turns in zip(setting["arms"], item["turns"], strict=True):
            assert [chosen["texts"][turn["answer"]] for turn in turns] == [f"{arm} {sample} 1", f"{arm} {sample} 2"]
            assert not [turn for turn in turns if "kl" in turn or "why" in turn or "tool" in turn]


def test_budget_and_long_texts(tmp_path, make_result, monkeypatch):
    """Catches a page that grows with its answers, and an answer that loses its middle silently."""
    monkeypatch.setattr(transcripts, "MOST_CHARACTERS", 100)
    sweeps = made(
        tmp_path, make_result, lambda spec, sample, agent: f"{spec.method}{sample}{agent}" + "x" * 500 + "end"
    )
    chosen = choose(sweeps)
    text = chosen.texts[chosen.settings[0]["items"][0]["turns"][0][0]["answer"]]
    assert text.startswith("dense")
    assert text.endswith("end")
    assert "characters are left out here" in text
    assert chosen.n_chosen == 3
    monkeypatch.setattr(transcripts, "BUDGET", 3000)
    assert (choose(sweeps).n_chosen, choose(sweeps).n_too_many) == (1, 2)
    monkeypatch.setattr(transcripts, "BUDGET", 10)
    assert choose(sweeps).settings == []


@pytest.mark.parametrize("name", ["script", "bidi", "high surrogate", "NUL"])
def test_payloads_are_displayed(tmp_path, make_result, name):
    """Catches characters that act on a reader's screen, and text that UTF-8 cannot hold."""
    sweeps = made(tmp_path, make_result, lambda spec, sample, agent: PAYLOADS[name], samples=1)
    stored = PAYLOADS[name].encode("utf-8", "backslashreplace").decode()
    assert displayed(stored) in choose(sweeps).texts
    script_json(choose(sweeps).to_dict()).encode("utf-8")


def test_explorer_leaves_out_what_is_unknown(tmp_path, make_result):
    """Catches an unknown measure as 0, and a measure that no cell has among the choices."""
    ((_, _, rows),) = made(tmp_path, make_result, lambda spec, sample, agent: "x")
    data = explorer_data(rows)
    assert "energy" not in {measure["key"] for measure in data["measures"]}
    dense, kvcomm = data["cells"]
    assert "ttft_gain" not in dense["v"]
    # One of 8 items is dense: 8 * 0.4 / (0.4 + 7 * 0.2) = 1.778.
    assert kvcomm["v"]["ttft_gain"][0] == 1.778
    assert kvcomm["v"]["ttft_gain"][3:] == [8, 8]
