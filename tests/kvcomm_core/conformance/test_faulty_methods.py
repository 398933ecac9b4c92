"""Each check tells the mistakes that it is for, in words that help. The mistakes are in ``faulty_methods``."""

import dataclasses

import pytest
from faulty_methods import MISTAKES, NaiveWith

from kvcomm_core.config import MethodConfig
from kvcomm_core.conformance.cases import make_case
from kvcomm_core.conformance.running import CHECKS, Result, run_checks

OF_NAME = {check.name: check for check in CHECKS}


def describe(config: MethodConfig) -> str:
    """Name a configuration by what differs from its class's defaults."""
    changed = [getattr(config, f.name) for f in dataclasses.fields(config) if getattr(config, f.name) != f.default]
    return f"{type(config).__name__} {' '.join(map(str, changed))}".strip()


CASES = [(name, config) for name, configs in MISTAKES.items() for config in configs]


def results_of(config: MethodConfig, *names: str) -> list[Result]:
    return list(run_checks(config, ("llama",), ("float32",), [OF_NAME[name] for name in names]))


def test_each_check_has_a_mistake() -> None:
    """Would catch a check that nobody has ever seen fail."""
    assert set(MISTAKES) == set(OF_NAME)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "config"), CASES, ids=[f"{name} {describe(config)}" for name, config in CASES])
def test_a_mistake_is_told_by_its_check(name: str, config: MethodConfig) -> None:
    """Would catch a check that looks away."""
    [result] = results_of(config, name)
    finding = result.finding
    assert finding is not None
    assert finding.where
    assert finding.expected != finding.found
    assert "\n" not in f"{finding}"


FINDINGS = {
    "counts base KV as reused": (
        "accounts",
        "at most 6 reused tokens, as 9 of the prompt's 15 ran in this turn, found 14",
    ),
    "counts no base KV": ("accounts", "expected 9 computed tokens, which ran through the model, found 1"),
    "leaves a token out": ("memory", "request 1, template '1', round 1, with other numbers in memory"),
    "mixes up rows": ("batch", "in a batch of prompts of equal length"),
    "does not move keys": ("positions", "token 5 (hole 1), mode reuse: expected keys of this token at this position"),
    "keeps growing": ("bounded", "expected no more memory than after 16"),
    "exits": ("runs", "expected no exception, found SystemExit: 0"),
}


@pytest.mark.parametrize(("mistake", "check", "text"), [(mistake, *rest) for mistake, rest in FINDINGS.items()])
def test_a_finding_says_what_and_where(mistake: str, check: str, text: str) -> None:
    """Would catch numbers mixed up in the line that a method's author reads."""
    [result] = results_of(NaiveWith(mistake=mistake), check)
    assert text in str(result.finding)


def test_an_exception_is_told_with_the_methods_own_line() -> None:
    """The engine calls the method, and the method may call the engine. Would catch a line of neither."""
    [result] = results_of(NaiveWith(mistake="divides by zero"), "runs")
    assert result.finding is not None
    assert "faulty_methods.py:" in result.finding.where
    assert result.finding.where.endswith(", in plan")
    assert result.finding.found == "ZeroDivisionError: division by zero"


def test_a_method_that_does_not_run_is_told_once() -> None:
    """Would catch twelve findings that all say the same."""
    results = list(run_checks(NaiveWith(mistake="divides by zero"), ("llama", "qwen2"), ("float32",)))
    assert [(result.family, result.check.name) for result in results] == [("llama", "runs"), ("qwen2", "runs")]


def test_questions_and_contents_are_what_the_checks_say() -> None:
    """Would catch a first run without a repeated or an empty question, and models that end no answer early."""
    case = make_case(NaiveWith(), "llama", "float32")
    lengths = [len(turns[0].prompt) for turns in case.first_run]
    assert min(lengths) < max(lengths)
    assert case.with_end_tokens().model.eos_ids
    assert len({turns[0].prompt for turns in case.first_run}) == len(case.first_run) - 1
