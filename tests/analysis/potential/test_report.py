"""An account in words, and as a picture: what it says is what was counted, and its conditions are said."""

import io

import pytest
from rich.console import Console

from analysis.figures.saving import save
from analysis.potential import picture
from analysis.potential.account import Account, Tally
from analysis.potential.picture import draw_account
from analysis.potential.report import print_account


def account(agents: int = 2) -> Account:
    found = Account(block=16, shortest=32, across=False, tokens="estimated from words and marks", conversations=3)
    for index in range(agents):
        tally = Tally(3, 1000, 500, 100 * (index % 2), 50, 25, 40)
        found.agents[f"agent {index}"] = tally
        for name in ("calls", "prompt", "exact_prefix", "whole_answers", "whole_inputs", "fragments", "output"):
            setattr(found.total, name, getattr(found.total, name) + getattr(tally, name))
        found.pairs["input: user", f"agent {index}"] = 75
        if index % 2:
            found.pairs["agent 0", f"agent {index}"] = 100
    return found


def printed(one: Account, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_account(one, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_what_is_said() -> None:
    """Catches shares of another whole, tables wider than a terminal, and a sum that does not add up."""
    text = printed(account())
    lines = [line.rstrip() for line in text.splitlines()]
    assert max(map(len, lines)) <= 80
    assert "6 calls of 2 agents in 3 conversations: 2,000 tokens in prompts, 80 in answers" in lines
    rows = [line.split() for line in lines]
    assert ["agent", "0", "3", "1,000", "50.0%", "0.0%", "5.0%", "2.5%", "42.5%"] in rows
    assert ["agent", "1", "3", "1,000", "50.0%", "10.0%", "5.0%", "2.5%", "32.5%"] in rows
    assert ["all", "6", "2,000", "50.0%", "5.0%", "5.0%", "2.5%", "37.5%"] in rows
    text = " ".join(text.split())
    assert "agent 0 agent 1 100 10.0% input: user agent 0 75 7.5%" in text
    for sentence in (
        "An exact prefix cache saves 1,000 tokens (50.0%) of the prompts.",
        "Another 250 tokens (12.5%) stood before in another context of the same conversation.",
        "KVCOMM's placeholders could take 200 tokens (10.0%), the whole answers and inputs.",
        "The other 750 tokens (37.5%) are new and must be computed.",
        "tokens: estimated from words and marks; --tokenizer FILE",
        "an infinite cache, shared by all agents and conversations, in blocks of 16 tokens",
    ):
        assert sentence in text


def test_every_condition_is_said() -> None:
    """Catches numbers that rest on something that the page does not say."""
    plain = " ".join(printed(account()).split())
    for field, value, sentence in (
        ("unnamed", 2, "2 calls without a conversation's name, taken as one conversation"),
        ("unanswered", 1, "1 call without an answer"),
        ("out_of_time", 3, "3 calls behind a later one of the conversation, by the log's times; --by-time sorts them"),
        ("left_out", 4, "4 parts of prompts that are no text, left out"),
        ("forgotten", 5, "earlier text that might have counted was forgotten 5 times"),
        ("cache_was_full", True, "it was full and dropped the oldest, so it was not infinite"),
        ("across", True, "of any conversation"),
        ("only_blocks", True, "the log's own blocks of 16; who produced them is not in the log"),
    ):
        one = account()
        setattr(one, field, value)
        assert sentence in " ".join(printed(one).split())
        assert sentence not in plain


def test_an_account_of_nothing() -> None:
    one = Account(block=16, shortest=32, across=False, tokens="estimated from words and marks")
    one.agents["a"] = one.total = Tally(calls=1)
    assert "0 tokens (-) are new" in " ".join(printed(one).split())


def test_many_pairs_are_summed_up() -> None:
    text = printed(account(14))
    assert "and 9 more pairs with 675 tokens" in text


def test_the_picture_holds_the_numbers(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """Catches a bar or a pair that is drawn from other numbers than the account's."""
    drawn = draw_account(account())
    assert drawn.data.to_dict("records") == [
        {
            "agent": "agent 0",
            "exact_prefix": 500,
            "whole_answers": 0,
            "whole_inputs": 50,
            "fragments": 25,
            "new": 425,
            "text of input: user": 75,
            "text of agent 0": 0,
        },
        {
            "agent": "agent 1",
            "exact_prefix": 500,
            "whole_answers": 100,
            "whole_inputs": 50,
            "fragments": 25,
            "new": 325,
            "text of input: user": 75,
            "text of agent 0": 100,
        },
    ]
    widths = [round(bar.get_width() * 1000) for bar in drawn.figure.axes[0].patches]  # type: ignore[attr-defined]
    assert widths == [500, 500, 0, 100, 50, 50, 25, 25, 425, 325]
    assert [path.name for path in save(drawn, tmp_path)] == [
        f"potential.{kind}" for kind in ("svg", "pdf", "png", "csv")
    ]


def test_a_picture_of_many_agents(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches agents that are lost where there are too many to draw."""
    monkeypatch.setattr(picture, "MOST_BARS", 4)
    one = account(9)
    data = draw_account(one).data
    assert list(data["agent"]) == ["agent 0", "agent 1", "agent 2", "others"]
    assert data["new"].sum() == one.total.new
    assert data[[name for name in data if name.startswith("text of")]].sum().sum() == sum(one.pairs.values())


def test_a_picture_without_pairs() -> None:
    one = account()
    one.pairs.clear()
    assert len(draw_account(one).figure.axes) == 1
