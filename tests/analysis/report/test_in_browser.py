"""The report in a real browser, clicks and keys included. Skipped where no Chromium is installed."""

import dataclasses
import importlib.resources
import importlib.util
import json

import pytest
from chromium import chromium, find_chromium
from hostile_answers import PAYLOADS
from made_up import write_results

from analysis.report.failures import Planned
from analysis.report.page import render_report
from harness.cells import flatten
from harness.spec import TrialSpec
from harness.text import displayed
from kvcomm_core.config import KVCommConfig

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_chromium() is None, reason="needs Chromium or Chrome; Debian: apt-get install chromium"),
]

DENSE, KVCOMM = TrialSpec(agents=2), TrialSpec(agents=2, method="kvcomm", parameters=KVCommConfig())
SPECS = (DENSE, KVCOMM, TrialSpec(agents=3), TrialSpec(agents=3, method="kvcomm", parameters=KVCommConfig()))


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(find_chromium(), tmp_path_factory.mktemp("profile")) as found:
        yield found


def with_answers(result, answers):
    """Return the result with each turn's answer and prompt from ``answers(sample, agent)``."""
    turns = [
        dataclasses.replace(turn, output_text=text, prompt_text=f"You read: {text}")
        for turn in result.turns
        if (text := answers(turn.sample_index, turn.agent_index)) is not None
    ]
    return dataclasses.replace(result, turns=turns)


def write_page(folder, *results, specs=SPECS):
    plan = Planned({spec.trial_id: flatten(spec.to_dict()) for spec in specs})
    page = folder / "report.html"
    page.write_text(render_report(write_results(folder / "results", *results), {"s": plan}), encoding="utf-8")
    return page


@pytest.fixture(scope="module")
def page(tmp_path_factory, make_result):
    """Two settings of dense and kvcomm, which answers otherwise in odd samples."""

    def answer(spec):
        return lambda sample, agent: "It is blue." if sample % 2 == 0 or spec.method == "dense" else "It is red."

    results = [with_answers(make_result(spec, samples=8), answer(spec)) for spec in SPECS]
    return write_page(tmp_path_factory.mktemp("page"), *results)


def choose(browser, key, value):
    select = f"document.querySelector('#viewer [data-key={key}], #explorer [data-key={key}]')"
    browser.run(f"{select}.value = {json.dumps(value)}; {select}.dispatchEvent(new Event('change'))")


@pytest.mark.parametrize("width", [1400, 390])
@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_cut_off(browser, page, width, dark):
    """Catches a script that fails or is refused by the page's policy, and a page wider than its window."""
    browser.open(page, width=width, dark=dark)
    assert browser.problems == []
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.run("document.querySelectorAll('#explorer .dot').length") == 2


def test_explorer_filters_and_tells(browser, page):
    """Catches filters, views and sorting that change the plot alone or the table alone, and marks without a name."""
    browser.open(page)
    dots, rows = (
        "document.querySelectorAll('#explorer .dot').length",
        "document.querySelectorAll('#explorer tbody tr').length",
    )
    browser.click("#explorer [data-key='view TTFT against accuracy']")
    assert (browser.run(dots), browser.run(rows)) == (4, 4)
    browser.click("#explorer [data-key='method dense']")
    assert (browser.run(dots), browser.run(rows)) == (2, 2)
    choose(browser, "agents", "3")
    assert (browser.run(dots), browser.run(rows)) == (1, 1)
    label = browser.run("document.querySelector('#explorer .dot').getAttribute('aria-label')")
    # The first of 8 items is dense: (3 * 0.2 + 7 * 3 * 0.1) / 8 = 0.3375 s.
    assert label.startswith(
        "s: recall, 3 agents, kvcomm\nTTFT of an item: 338 ms (300 to 413, n = 8)\nAccuracy: 50 % ("
    )
    browser.click("#explorer .dot")
    assert browser.run("document.querySelector('#explorer .tip').textContent") == label
    assert browser.run("document.querySelectorAll('#explorer tbody tr.on').length") == 1
    assert browser.problems == []


def test_from_a_mark_to_its_conversations(browser, page):
    """Catches conversations of another cell behind a mark, and a button that leaves the reader where it was."""
    browser.open(page)
    browser.click("#explorer [data-key='view TTFT against accuracy']")
    dots = "[...document.querySelectorAll('#explorer .dot')]"
    browser.run(
        f"{dots}.find((dot) => dot.getAttribute('aria-label').startsWith('s: recall, 3 agents, kvcomm')).id = 'mine'"
    )
    browser.click("#mine")
    browser.click("#explorer .picked button")
    assert browser.run("document.querySelector('#viewer [data-key=setting]').selectedOptions[0].textContent") == (
        "s: recall, 3 agents"
    )
    assert browser.run("document.querySelector('#viewer [data-key=arm]').selectedOptions[0].textContent") == "kvcomm"
    assert browser.run("document.activeElement.dataset.key") == "setting"
    assert browser.run("document.getElementById('conversations').getBoundingClientRect().top") < 300
    assert browser.problems == []


def test_explorer_by_keys(browser, page):
    """Catches marks that a keyboard cannot reach, or a focus that a redrawn control loses."""
    browser.open(page)
    browser.click("#explorer [data-key='view TTFT against accuracy']")
    assert browser.run("document.activeElement.dataset.key") == "view TTFT against accuracy"
    browser.run("document.querySelector('#explorer .dot[tabindex=\"0\"]').focus()")
    first = browser.run("document.activeElement.getAttribute('aria-label')")
    browser.press("ArrowRight")
    second = browser.run("document.activeElement.getAttribute('aria-label')")
    assert first != second
    assert not browser.run("document.querySelector('#explorer .tip').hidden")
    browser.press("Enter")
    assert browser.run("document.querySelectorAll('#explorer tbody tr.on').length") == 1


def test_viewer_marks_what_differs(browser, page):
    """Catches arms of another item or setting side by side, and equal words marked as different."""
    browser.open(page)
    marks = "[...document.querySelectorAll('#viewer .said mark')].map((one) => one.textContent)"
    assert browser.run(marks) == ["blue.", "red."] * 2  # dense and kvcomm of each agent
    browser.click("#viewer [data-key=next]")
    assert browser.run(marks) == []
    assert (
        browser.run(
            "[...document.querySelectorAll('#viewer .chip')].filter((one) => one.textContent === 'same answer').length"
        )
        == 2
    )
    choose(browser, "setting", "1")
    assert browser.run("document.querySelectorAll('#viewer .agent').length") == 3
    assert browser.run(marks) == ["blue.", "red."] * 3
    assert "90 of 100 prompt tokens reused" in browser.run("document.querySelector('#viewer .turn.blue').textContent")
    assert browser.problems == []


def test_dark_and_open_all(browser, page):
    """Catches a toggle without effect or without a state for screen readers."""
    browser.open(page)
    paper = "getComputedStyle(document.body).backgroundColor"
    light = browser.run(paper)
    browser.click("#theme")
    assert browser.run(paper) != light
    assert browser.run("document.getElementById('theme').getAttribute('aria-pressed')") == "true"
    browser.click("#open-all")
    assert browser.run("document.querySelectorAll('details.sweep:not([open])').length") == 0
    browser.open(page, dark=True)
    browser.click("#theme")
    assert browser.run(paper) == light


def test_hostile_answers_stay_text(browser, tmp_path, make_result):
    """Catches an answer that becomes markup, ends the script element that holds it, or runs."""
    payloads = [
        *PAYLOADS.values(),
        "</script><script>alert(3)</script>",
        "<!--<script>",
        "]]></SCRIPT ><img src=x onerror=alert(4)>",
    ]
    short = [text for text in payloads if len(text) < 2000]
    specs = (TrialSpec(agents=len(short)), TrialSpec(agents=len(short), method="kvcomm", parameters=KVCommConfig()))
    answers = lambda sample, agent: short[agent - 1] if sample == 0 else None  # noqa: E731
    results = [with_answers(make_result(spec, samples=1), answers) for spec in specs]
    browser.open(write_page(tmp_path, *results, specs=specs))
    assert browser.problems == []
    assert browser.run(
        "[...document.querySelectorAll('#viewer .agent > .turn:nth-child(2) .said')].map((one) => one.textContent)"
    ) == [displayed(text) for text in map(stored, short)]
    assert browser.run("document.querySelectorAll('#viewer script, #viewer img, #viewer a, body > img').length") == 0
    assert browser.run("document.scripts.length") == 3


def stored(text):
    """Return an answer as results hold it."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


@pytest.mark.skipif(importlib.util.find_spec("axe_core_python") is None, reason="needs the package axe-core-python")
@pytest.mark.parametrize("dark", [False, True])
def test_accessible(browser, page, dark):
    """Catches what axe-core calls serious: contrast, names, roles, keyboard access."""
    browser.open(page, dark=dark)
    browser.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    browser.run((importlib.resources.files("axe_core_python") / "axe.min.js").read_text(encoding="utf-8") + "; true")
    found = browser.run(
        "axe.run().then((found) => found.violations.map((one) => [one.impact, one.id, one.nodes[0].html]))"
    )
    assert [one for one in found if one[0] in ("serious", "critical")] == []
