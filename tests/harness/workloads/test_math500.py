r"""math500: which expression an answer states, and whether it equals the reference. No network and no real data."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.workloads.base import Item
from harness.workloads.grading import equivalence
from harness.workloads.grading.equivalence import MAX_CHARACTERS
from harness.workloads.grading.expressions import stated_expression
from harness.workloads.math500 import Math500Spec

ROWS = [
    {"problem": "Half of one?", "answer": "\\frac{1}{2}", "unique_id": "test/a/1.json", "subject": "a", "level": 1},
    {"problem": "Who wins?", "answer": "\\text{Ann}", "unique_id": "test/b/2.json", "subject": "b", "level": 5},
]

# Reference, answer, outcome, extracted, rule.
EQUAL: list[tuple[str, str, str, str | None, str]] = [
    ("\\frac{1}{2}", "The answer is $\\frac{1}{2}$.", "correct", "\\frac{1}{2}", "answer_is"),
    ("\\frac{1}{2}", "The answer is $\\dfrac12$.", "correct", "\\dfrac12", "answer_is"),
    ("\\frac{1}{2}", "The answer is 1/2.", "correct", "1/2", "answer_is"),
    ("\\frac{1}{2}", "So \\boxed{0.5}", "correct", "0.5", "boxed"),
    ("\\frac{1}{2}", "$\\frac{1}{2}$", "correct", "\\frac{1}{2}", "bare"),
    ("\\frac{1}{2}", "Hence $x = \\boxed{\\frac{2}{4}}$.", "correct", "\\frac{2}{4}", "boxed"),
    ("12", "12", "correct", "12", "bare"),
    ("12", "#### 12", "correct", "12", "hashes"),
    ("12", "The answer is $x = 12$.", "correct", "x = 12", "answer_is"),
    ("12", "The answer is 12 square units.", "correct", "12", "answer_is"),
    ("12", "The answer is \\boxed{12\\text{ cm}}.", "correct", "12\\text{ cm}", "answer_is"),
    ("12", "The answer is:\n\\[\n12\n\\]", "correct", "12", "answer_is"),
    ("12", "**Answer:** $12$", "correct", "12", "answer_is"),
    ("10,000", "The answer is $10000$.", "correct", "10000", "answer_is"),
    ("10000", "The answer is $10{,}000$.", "correct", "10{,}000", "answer_is"),
    ("-5", "The answer is $-5$.", "correct", "-5", "answer_is"),
    ("50\\%", "The answer is $\\frac{1}{2}$.", "correct", "\\frac{1}{2}", "answer_is"),
    ("50\\%", "The answer is 50%.", "correct", "50%", "answer_is"),
    ("90^\\circ", "The answer is $90$ degrees.", "correct", "90", "answer_is"),
    ("90", "The answer is $90^{\\circ}$.", "correct", "90^{\\circ}", "answer_is"),
    ("2\\sqrt{3}", "\\boxed{\\sqrt{12}}", "correct", "\\sqrt{12}", "boxed"),
    ("(x+1)^2", "\\boxed{x^2+2x+1}", "correct", "x^2+2x+1", "boxed"),
    ("1 \\frac{1}{2}", "\\boxed{\\frac{3}{2}}", "correct", "\\frac{3}{2}", "boxed"),
    ("\\left( 3, \\frac{\\pi}{2} \\right)", "\\boxed{(3, \\pi/2)}", "correct", "(3, \\pi/2)", "boxed"),
    ("[1,2)", "\\boxed{\\left[1, 2\\right)}", "correct", "\\left[1, 2\\right)", "boxed"),
    ("1,-2", "The answer is $-2$ and $1$.", "correct", "-2, 1", "answer_is"),
    ("\\{1,2\\}", "\\boxed{\\{2,1\\}}", "correct", "\\{2,1\\}", "boxed"),
    (
        "\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}",
        "\\boxed{\\begin{pmatrix}\n1 \\\\\n2\n\\end{pmatrix}}",
        "correct",
        "\\begin{pmatrix}\n1 \\\\\n2\n\\end{pmatrix}",
        "boxed",
    ),
    ("\\text{Ann}", "The answer is Ann.", "correct", "\\text{Ann}", "answer_is"),
    ("\\text{Ann}", "\\boxed{\\text{ann}}", "correct", "\\text{ann}", "boxed"),
    ("\\text{(C)}", "The answer is (C).", "correct", "(C)", "answer_is"),
    ("\\text{(C)}", "\\boxed{C}", "correct", "C", "boxed"),
    ("\\frac{1}{3}", "\\boxed{0.\\overline{3}}", "correct", "0.\\overline{3}", "boxed"),
    ("-1.2\\overline{03}", "\\boxed{-\\frac{1191}{990}}", "correct", "-\\frac{1191}{990}", "boxed"),
    ("\\frac{6}", "\\boxed{\\frac{6}}", "correct", "\\frac{6}", "boxed"),  # whatever it means, it is the reference
    ("12", "The answer is 12 km/h.", "correct", "12", "answer_is"),
    ("12", "The answer is $12$ cm^2.", "correct", "12", "answer_is"),
    ("6 - 5i", "\\boxed{-5i+6}", "correct", "-5i+6", "boxed"),
    ("12", "The answer is the integer $12$, because $x > 11$.", "unparsable", None, "several_expressions_stated"),
    ("12", "The answer is 12cm.", "correct", "12cm", "answer_is"),
    ("12", "The answer is the integer $12$, because it is even.", "correct", "12", "answer_is"),
    ("5! + 1", "The answer is $5! + 1$.", "correct", "5! + 1", "answer_is"),
]

TRAPS: list[tuple[str, str, str, str | None, str]] = [
    # Similar, but not equal.
    ("\\frac{1}{2}", "The answer is $\\frac{1}{3}$.", "wrong", "\\frac{1}{3}", "answer_is"),
    ("\\frac{1}{3}", "The answer is 0.33.", "wrong", "0.33", "answer_is"),
    ("-5", "The answer is $5$.", "wrong", "5", "answer_is"),
    ("5", "The answer is $-5$.", "wrong", "-5", "answer_is"),
    ("10,000", "The answer is $10$.", "wrong", "10", "answer_is"),
    ("(1,2)", "\\boxed{(2,1)}", "wrong", "(2,1)", "boxed"),
    ("[1,2]", "\\boxed{(1,2)}", "wrong", "(1,2)", "boxed"),
    ("[1,2)", "\\boxed{(1,2]}", "wrong", "(1,2]", "boxed"),
    ("\\{1,2\\}", "\\boxed{\\{1,2,3\\}}", "wrong", "\\{1,2,3\\}", "boxed"),
    ("1,-2", "\\boxed{1}", "wrong", "1", "boxed"),
    ("x^2", "\\boxed{x^3}", "wrong", "x^3", "boxed"),
    ("2x+3", "\\boxed{2y+3}", "wrong", "2y+3", "boxed"),
    ("\\sqrt{3}", "\\boxed{1.732}", "wrong", "1.732", "boxed"),
    ("50\\%", "\\boxed{5}", "wrong", "5", "boxed"),
    ("2 \\text{ or } 3", "\\boxed{4}", "wrong", "4", "boxed"),
    (
        "\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}",
        "\\boxed{\\begin{pmatrix} 2 \\\\ 1 \\end{pmatrix}}",
        "wrong",
        "\\begin{pmatrix} 2 \\\\ 1 \\end{pmatrix}",
        "boxed",
    ),
    # Words: never as products of letters.
    ("\\text{east}", "\\boxed{\\text{seat}}", "wrong", "\\text{seat}", "boxed"),
    ("\\text{east}", "\\boxed{seat}", "wrong", "seat", "boxed"),
    ("\\text{even}", "The answer is odd.", "wrong", "\\text{odd}", "answer_is"),
    ("\\text{(C)}", "The answer is (B).", "wrong", "(B)", "answer_is"),
    ("5", "The answer is five.", "unparsable", "\\text{five}", "words_stated"),
    ("5", "The answer is unknown.", "unparsable", "\\text{unknown}", "words_stated"),
    # Several, or mixtures of which no single expression can be read.
    ("6", "The answer is 5 or 6.", "unparsable", None, "words_and_numbers_stated"),
    ("6", "The answer is between 5 and 6.", "unparsable", None, "words_and_numbers_stated"),
    ("6", "The answer is $5$ when $x = 6$.", "unparsable", None, "several_expressions_stated"),
    ("6", "\\boxed{5} or \\boxed{6}", "unparsable", None, "several_expressions_stated"),
    ("6", "The answer is not 5 but 6", "unparsable", None, "words_and_numbers_stated"),
    ("6", "The answer is not $6$.", "unparsable", None, "words_and_numbers_stated"),
    ("6", "The answer is $6$ or 7.", "unparsable", None, "words_and_numbers_stated"),
    ("6", "The answer is 6 million.", "unparsable", None, "words_and_numbers_stated"),
    ("6", "The answer is $6$ million dollars.", "unparsable", None, "words_and_numbers_stated"),
    ("6", "The answer is 6 more than x.", "unparsable", None, "words_and_numbers_stated"),
    ("\\frac{1}{3}", "\\boxed{0.\\overline{31}}", "wrong", "0.\\overline{31}", "boxed"),
    ("6", "The answer is $5$ + 1.", "unparsable", None, "words_and_numbers_stated"),
    ("6", "The answer is 6 - it was 2024-05-01", "unparsable", None, "words_and_numbers_stated"),
    ("6", "The answer is 5, 6", "wrong", "5, 6", "answer_is"),
    # What is not stated is not guessed at.
    ("6", "We add 3 and 3 and obtain 6.", "unparsable", None, "no_expression"),
    ("6", "We have $3 + 3 = 6$, so we are done.", "unparsable", None, "no_expression"),
    ("6", "It is 6.\nThe answer is", "unparsable", None, "no_expression_stated"),
    ("6", "\\boxed{6", "unparsable", None, "no_expression"),
    ("6", "\\boxed{}", "unparsable", None, "no_expression_stated"),
    ("6", "", "unparsable", None, "no_expression"),
    ("6", "I do not know.", "unparsable", None, "no_expression"),
    # The last statement counts.
    ("6", "The answer is 5.\nNo: the answer is 6.", "correct", "6", "answer_is"),
    ("6", "\\boxed{6}\nThe answer is 5.", "wrong", "5", "answer_is"),
    ("6", "The answer is 6. We checked it in 5 ways.", "correct", "6", "answer_is"),
    # No mathematics that can be read, on either side.
    ("6", "\\boxed{\\frac{6}}", "unparsable", "\\frac{6}", "not_an_expression"),
    ("\\frac{6}", "\\boxed{\\frac{1}{3}}", "error", "\\frac{1}{3}", "reference_unreadable"),
    ("6", "\\boxed{" + "1+" * MAX_CHARACTERS + "1}", "unparsable", "1+" * MAX_CHARACTERS + "1", "not_an_expression"),
]


@pytest.mark.parametrize(("expected", "answer", "outcome", "extracted", "rule"), EQUAL + TRAPS)
def test_hand_written_answers(expected: str, answer: str, outcome: str, extracted: str | None, rule: str) -> None:
    """Each row is one mistake that a more lenient or a simpler grader would make."""
    grade = Math500Spec().grade(Item("math500-0", "?", expected), answer)
    assert (grade.outcome, grade.extracted, grade.rule) == (outcome, extracted, rule)


@pytest.fixture
def short_comparisons(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The worker gives up sooner: each hostile answer may take all of the processor time that it is allowed."""
    monkeypatch.setattr(equivalence, "CPU_LIMIT_S", 0.4)
    equivalence._close()
    yield
    equivalence._close()


@pytest.mark.slow  # each may take the processor time that a comparison is allowed
@pytest.mark.usefixtures("short_comparisons")
@pytest.mark.parametrize(
    "hostile",
    [
        "10^{10^{10}}",
        "9^{9^{9^{9}}}",
        "(10^{9})!",
        "{" * 300 + "5" + "}" * 300,
        "(" * 300 + "5" + ")" * 300,
        "\\frac{1}{" * 60 + "5" + "}" * 60,
    ],
)
def test_a_hostile_answer_does_not_hang_the_trial(hostile: str) -> None:
    """Catches a comparison without limits, and a grader that is of no use after one."""
    item = Item("math500-0", "?", "7")
    grade = Math500Spec().grade(item, f"The answer is ${hostile}$.")
    assert (grade.outcome, grade.extracted) in {("unparsable", hostile), ("wrong", hostile)}
    assert Math500Spec().grade(item, "\\boxed{\\frac{14}{2}}").outcome == "correct"


def test_a_worker_that_died_is_replaced() -> None:
    """Catches one crash that makes every later answer unparsable."""
    assert equivalence.compare("5", "10/2") == "equal"
    worker = equivalence._worker
    assert worker is not None
    worker.kill()
    worker.wait()
    assert equivalence.compare("5", "10/2") == "equal"


def test_the_worker_does_not_have_the_token_of_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches the right to run commands on a cluster in the process that reads a model's text."""
    monkeypatch.setenv("RAY_AUTH_TOKEN", "token-of-a-cluster")
    equivalence._close()
    assert equivalence.compare("5", "10/2") == "equal"
    worker = equivalence._worker
    assert worker is not None
    assert b"token-of-a-cluster" not in Path(f"/proc/{worker.pid}/environ").read_bytes()


def test_comparing_off_the_main_thread() -> None:
    """Catches time-outs by signals in this process, which a Ray actor's threads may not set."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        verdicts = pool.map(equivalence.compare, ["5", "5", "6", "7"] * 5, ["10/2", "6", "12/2", "8"] * 5)
        assert list(verdicts) == ["equal", "different", "equal", "different"] * 5


@given(st.text(alphabet="5ax \\${}()[]^_,.=\n*#", max_size=40))
@settings(max_examples=100, deadline=None)
def test_any_text_has_a_statement_or_none(text: str) -> None:
    """Catches a pattern that fails on stray markup, and a reason given with an expression."""
    for answer in (text, f"The answer is {text}", f"\\boxed{{{text}}}"):
        found, rule = stated_expression(answer)
        assert (rule in {"answer_is", "hashes", "boxed", "bare"}) == bool(found)


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    path = tmp_path / "problems.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def test_items(problems: Path) -> None:
    """Catches an id that depends on the position, and a reference that loses its markup."""
    items = Math500Spec(path=str(problems)).load(seed=0)
    assert [(item.item_id, item.question, item.expected) for item in items] == [
        ("math500-test/a/1.json", "Half of one?", "\\frac{1}{2}"),
        ("math500-test/b/2.json", "Who wins?", "\\text{Ann}"),
    ]
    assert Math500Spec(path=str(problems), limit=1, order="random").load(seed=9) == items[:1]


@pytest.mark.parametrize("field", ["problem", "answer", "unique_id"])
@pytest.mark.parametrize("value", [None, " ", 3])
def test_malformed_rows_are_named(problems: Path, field: str, value: object) -> None:
    """Catches a bad row that is skipped, or an error that does not say where it is."""
    with problems.open("a") as file:
        file.write(json.dumps({**ROWS[0], field: value}) + "\n")
    with pytest.raises(ValueError, match=rf"problems\.jsonl line 3: {field} is {value!r}; allowed: text"):
        Math500Spec(path=str(problems)).load(seed=0)
