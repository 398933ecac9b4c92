"""The report as a reader gets it: what it says of results with gaps, and that nothing in them can act on the page."""

import base64
import dataclasses
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest
from made_up import write_results

from analysis.report.failures import Planned
from analysis.report.page import render_report
from harness.cells import flatten
from harness.results.measurements import ProbeRecord
from harness.spec import TrialSpec
from harness.workloads.blend import BlendSpec
from kvcomm_core.config import KVCommConfig

HOSTILE = "$\\frac{$ </pre><script>alert(1)</script><img src=x onerror=alert(2)> & \x1b[31m \ud800"
VOID = {"meta"}


def kvcomm(gamma, agents=2, **fields):
    return TrialSpec(agents=agents, method="kvcomm", parameters=KVCommConfig(gamma=gamma), **fields)


def planned(*specs):
    return Planned({spec.trial_id: flatten(spec.to_dict()) for spec in specs})


class Page(HTMLParser):
    """The elements, the text and the rows of the tables of a page. Fails where tags do not match."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.rows, self.scripts, self._open, self._text = [], [], [], [], []
        self.feed(html)
        self.close()
        assert self._open == []
        self.text = " ".join("".join(self._text).split())

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "script":
            self.scripts.append("")
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if "script" in self._open:
            self.scripts[-1] += data
        elif "style" not in self._open:
            self._text.append(data)
        if self._open and self._open[-1] in ("td", "th"):
            self.rows[-1][-1] += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def page_with_gaps(tmp_path_factory, make_result):
    """Of twelve trials two are ok, one has failed, the files of one are torn, and eight were never run."""
    dense, low, high = TrialSpec(agents=2), kvcomm(0.1), kvcomm(0.3)
    failed = make_result(high, status="error")
    failed = dataclasses.replace(failed, trial=dataclasses.replace(failed.trial, error="Traceback\nOSError: it broke"))
    torn = make_result(TrialSpec(agents=3), samples=12)
    good = [make_result(spec, samples=12) for spec in (dense, low)]
    results = write_results(tmp_path_factory.mktemp("results"), *good, failed, torn)
    path = results / "s" / "turns" / f"{torn.trial.trial_id}-1.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    aside = results / "s" / "damaged" / "samples" / "old-1.parquet"
    aside.parent.mkdir(parents=True)
    aside.write_bytes(b"PAR1")
    others = [TrialSpec(agents=agents) for agents in (3, 4)]
    others += [kvcomm(gamma, agents) for gamma in (0.1, 0.3) for agents in (3, 4)]
    others += [dataclasses.replace(kvcomm(0.1), seed=seed) for seed in (1, 2, 3)]
    return Page(render_report(results, {"s": planned(dense, low, high, *others)}))


@pytest.mark.slow
def test_gaps_are_told(page_with_gaps):
    """Catches a page that fails on a torn file, passes over it, or is silent about failed and missing trials."""
    for line in (
        "Trials: 1 failed, 9 planned without a result, 2 with damaged files.",
        "2 trials ended well; the sweep file names 12. 1 failed. 9 left no result. Damaged files: 1; "
        "attempts that lack a file: 1. Their numbers are nowhere on this page. "
        "Damaged files set aside by earlier runs: 1.",
        "recall, 2 agents, kvcomm gamma=0.3: error, attempt 1: OSError: it broke",
        "recall, 2 agents, kvcomm gamma=0.1: 3 trials",
        "recall, 4 agents, dense",
        "damaged/samples/old-1.parquet",
        "ended ok, but another of its files is damaged or missing",
    ):
        assert line in page_with_gaps.text
    assert re.search(r"turns/[0-9a-f]{12}-1\.parquet: ", page_with_gaps.text)


@pytest.mark.slow
def test_only_what_can_be_read_is_measured(page_with_gaps):
    """Catches numbers of a torn trial, and of failed or missing cells, in verdict or tables."""
    page = page_with_gaps
    assert "Time (kvcomm, recall, 2 agents, kvcomm gamma=0.1)" in page.text
    assert "is 2.00x (95 % interval 2.00x to 2.00x, n = 22, 11 independent): faster than dense." in page.text
    # The failed trial has a row, which says that none of one trial ended well; the torn one and the others have none.
    assert [row for row in page.rows if any("gamma=0.3" in cell for cell in row)] == [
        ["recall", "2", "kvcomm gamma=0.3", *"--------", "0/1"],
    ]
    assert not [row for row in page.rows if row[:2] in (["recall", "3"], ["recall", "4"]) or "3 agents" in row[0]]
    explored = json.loads(page.scripts[0])["cells"]
    assert [cell["name"] for cell in explored] == ["recall, 2 agents, dense", "recall, 2 agents, kvcomm gamma=0.1"]
    assert explored[1]["v"]["speedup"] == [2.0, 2.0, 2.0, 22, 11]


@pytest.mark.slow
def test_results_cannot_act(write, make_result):
    """Catches model output, a sweep file or a name that becomes markup, a script, or a request to somewhere."""
    hostile_model = TrialSpec(agents=2, model=HOSTILE[:-1])
    results = [make_result(spec, samples=12) for spec in (hostile_model, TrialSpec(agents=2), kvcomm(0.1))]
    failed = make_result(kvcomm(0.3), status="error")
    error = f"Traceback\nValueError: cannot parse {HOSTILE[:-1]}"
    results.append(dataclasses.replace(failed, trial=dataclasses.replace(failed.trial, error=error)))
    folder = write(*results)
    (folder / "s" / "sweep.yaml").write_bytes(HOSTILE.encode(errors="surrogatepass"))
    html = render_report(folder, {"s": Planned({}, f"name is {HOSTILE}; allowed: letters")})
    html.encode("utf-8")
    page = Page(html)
    assert {tag for tag, _ in page.elements} <= {
        "html", "head", "meta", "title", "style", "body", "header", "h1", "h2", "h3", "h4", "p", "nav", "a", "main",
        "section", "article", "strong", "dl", "dt", "dd", "div", "span", "table", "thead", "tbody", "tr", "th", "td",
        "figure", "figcaption", "code", "details", "summary", "ul", "li", "pre", "button", "noscript", "script",
        "svg", "path", "line", "circle", "text",
    }  # fmt: skip
    assert page.text.count("<script>alert(1)</script>") >= 4
    assert not [
        name for _, attributes in page.elements for name in attributes if name.startswith("on") or name == "src"
    ]
    assert all(link["href"].startswith("#") for link in page.all("a"))
    assert not set("\x1b\ud800") & set(html)
    kinds = [attributes.get("type") for attributes in page.all("script")]
    assert kinds == ["application/json", "application/json", None]
    digest = base64.b64encode(hashlib.sha256(page.scripts[2].encode()).digest()).decode()
    policy = next(meta["content"] for meta in page.all("meta") if "http-equiv" in meta)
    assert policy == (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'; "
        "form-action 'none'"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("specs", "status", "verdict"),
    [
        ([TrialSpec(agents=2)], "ok", "Nothing is compared: only dense trials ended well"),
        ([TrialSpec(agents=2), kvcomm(0.1)], "error", "Nothing is measured: no trial of this sweep ended well."),
        ([kvcomm(0.1)], "ok", "No turn has a dense turn of the same settings beside it, so no gain is measured."),
        ([kvcomm(1.0, agents=3, workload=BlendSpec())], "ok", "Matching and blending were timed alone."),
    ],
)
def test_nothing_compared(specs, status, verdict, write, make_result):
    """Catches a verdict without evidence, and a page that needs some."""
    samples = 0 if isinstance(specs[0].workload, BlendSpec) else 12
    results = [make_result(spec, status=status, samples=samples or 1) for spec in specs]
    if not samples:
        trial_id = results[0].trial.trial_id
        steps = [
            ProbeRecord(trial_id=trial_id, attempt=1, repeat=0, step=step, seconds=0.1, bytes_read=10**9)
            for step in ("match", "blend", "copy")
        ]
        results = [dataclasses.replace(result, turns=[], samples=[], probes=steps) for result in results]
    page = Page(render_report(write(*results), {"s": planned(*specs)}))
    assert verdict in page.text
    first = page.text[: page.text.index("Explore the cells")]
    assert not [word for word in ("faster", "earlier", "more items", "fewer") if word in first]


@pytest.mark.slow
def test_cells_of_several_sweeps_count_once(write, make_result):
    """Catches a first screen that counts a cell twice because two sweeps ran its trials."""
    dense, low, high = TrialSpec(agents=2), kvcomm(0.1), kvcomm(0.3)
    write(make_result(dense, samples=6), make_result(low, samples=6))
    results = write(*(make_result(spec, samples=6, sweep="t") for spec in (dense, low, high)))
    page = Page(render_report(results, {"s": planned(dense, low), "t": planned(dense, low, high)}))
    assert "a dot is one of 2 cells" in page.text
    assert (
        "2 of 2 cells take whole items faster than dense; 2 of 2 cells get first tokens earlier than dense" in page.text
    )
    assert "3 of 3 ended well" in page.text


@pytest.mark.slow
def test_results_of_an_earlier_version_are_named(write, make_result):
    """Catches numbers of another version that pass for those of this one, and a warning about trials that are new."""
    dense, low = TrialSpec(agents=2), kvcomm(0.1)
    folder = write(make_result(dense, samples=6), make_result(low, samples=6))
    current, former = planned(dense), {"an earlier id": flatten(low.to_dict())}
    page = Page(render_report(folder, {"s": Planned({**current.specs, **former})}))
    assert "An earlier version of the harness ran 1 of the trials" in page.text
    for plan in (planned(dense, low), planned(dense)):
        assert "An earlier version" not in Page(render_report(folder, {"s": plan})).text


@pytest.mark.slow
def test_the_same_results_give_the_same_page(write, make_result):
    """Catches dates, ids and orders that change, and two sweeps that share an anchor."""
    one = [make_result(spec, sweep="one", samples=12) for spec in (TrialSpec(agents=2), kvcomm(0.1))]
    folder = write(*one, make_result(TrialSpec(agents=2), sweep="two"))
    plans = {"one": planned(TrialSpec(agents=2), kvcomm(0.1)), "two": Planned({}, "there is no sweep file")}
    html = render_report(folder, plans)
    assert html == render_report(folder, plans)
    page = Page(html)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {link["href"][1:] for link in page.all("a")} <= set(ids)
    assert "how many were planned is unknown" in page.text
    alone = Page(render_report(folder / "one", {"one": plans["one"]}))
    assert {cell["sweep"] for cell in json.loads(alone.scripts[0])["cells"]} == {"one"}
    assert "No trial failed, none is missing, and no file is damaged." in alone.text
