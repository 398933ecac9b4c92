"""Conversations for the viewer of the page: some items of each setting, as dense and every other arm took them.

Whole results do not fit a page. Per setting, items are ranked by how many arms were graded otherwise than dense, then
by how many turns gave another answer; the viewer gets the first, the last and the middle one of the ranking, as far
as ``BUDGET`` goes. These are extremes on purpose, and the page says so.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from analysis.report.cells import Row
from analysis.results import Results, plain_values
from harness.cells import Cell
from harness.text import displayed

BUDGET = 700_000
"""Most bytes of all conversations on a page."""
MOST_CHARACTERS = 6_000
"""Longest text that is shown whole; of a longer one, its two ends are."""
_PHASES = ("base_kv", "match", "estimate", "blend", "recompute", "prefill")
_TURN = (
    "item_id", "round", "agent_index", "agent_role", "mode", "prompt_tokens", "reused_tokens", "output_tokens",
    "stop_reason", "ttft_s", "decode_s", "no_reuse_reason", "no_reuse_placeholder", "kl_next_token", "outcome",
    "prompt_text", "output_text", "tool", "tool_text", *(f"phase_{phase}_s" for phase in _PHASES),
)  # fmt: skip
_PLACES, _UNRANKED = ("differs most from dense", "differs least", "in the middle"), ("first", "last", "in the middle")
Turns = dict[tuple[int, int], dict[str, Any]]
"""The turns of an item by round and agent."""


@dataclass(frozen=True, slots=True)
class _Setting:
    """The arms of a sweep that answered the same items."""

    name: str
    arms: dict[Cell, dict[str, Turns]]
    """By arm, the turns of each item."""
    expected: dict[str, str]
    """The right answer of each item."""
    ranking: list[str]
    """Items, those first on which the arms differ most from dense."""

    @property
    def has_dense(self) -> bool:
        """Whether dense is among the arms."""
        return any(cell.method == "dense" for cell in self.arms)


@dataclass(slots=True)
class Chosen:
    """The conversations of a page."""

    settings: list[dict[str, Any]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    n_chosen: int = 0
    """Number of items; an item that several settings answer counts in each."""
    n_too_many: int = 0
    """Number of items that the ranking chose and the budget left out."""
    n_items: int = 0
    """Number of items in the results, counted in the same way."""

    def to_dict(self, method: str = "") -> dict[str, Any]:
        """Return plain data. Turns refer to texts by index, since prompts and answers recur.

        Of several arms, the viewer begins with one of ``method``.
        """
        return {"method": displayed(method), "texts": self.texts, "settings": self.settings}


def choose(sweeps: Sequence[tuple[str, Results, Sequence[Row]]]) -> Chosen:
    """Choose conversations: of every setting the first item of its ranking, then of each the last and the middle."""
    settings = [one for sweep, results, rows in sweeps for one in _settings(sweep, results, rows)]
    settings.sort(key=lambda one: not one.has_dense)
    chosen, spent = Chosen(n_items=sum(len(one.ranking) for one in settings)), 0
    index: dict[str, int] = {}
    made: dict[int, dict[str, Any]] = {}
    for turn in range(3):
        for number, one in enumerate(settings):
            if turn >= len(one.ranking):
                continue
            item = one.ranking[(0, -1, len(one.ranking) // 2)[turn]]
            texts = {text for arm in one.arms.values() for text in _texts(arm.get(item, {}))}
            cost = sum(len(text.encode()) for text in texts - index.keys()) + 250 * len(texts)
            if spent + cost > BUDGET:
                chosen.n_too_many += 1
                continue
            spent += cost
            for text in sorted(texts - index.keys()):
                index[text] = len(index)
            if number not in made:
                names = [displayed(cell.method) for cell in one.arms]
                made[number] = {"name": displayed(one.name), "arms": names, "items": []}
            made[number]["items"].append(_item(one, item, turn, index))
            chosen.n_chosen += 1
    chosen.settings = [made[number] for number in sorted(made)]
    chosen.texts = list(index)
    return chosen


def _settings(sweep: str, results: Results, rows: Sequence[Row]) -> Iterator[_Setting]:
    """Yield the settings of a sweep whose answers are text, with dense first among their arms."""
    by_situation: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_situation[row.arm.cell.situation].append(row)
    turns = results.turns_with_prompts
    turns = turns[turns["output_text"].notna()]
    method = dict(zip(results.trials["trial_id"], results.trials["method"], strict=True))
    turns = turns[turns["arm"] == turns["trial_id"].map(method)]
    expected = dict(zip(results.samples["item_id"], plain_values(results.samples["expected"]), strict=True))
    for situation, own in by_situation.items():
        arms = {row.arm.cell: _by_item(turns[turns["trial_id"].isin(row.arm.trial_ids)]) for row in own}
        arms = {cell: items for cell, items in arms.items() if items}
        if arms:
            yield _Setting(f"{sweep}: {situation}", arms, expected, _ranked(arms))


def _by_item(turns: pd.DataFrame) -> dict[str, Turns]:
    """Return the turns by item, of the first trial that has the item."""
    found: dict[str, Turns] = {}
    for _, own in turns.groupby("trial_id", sort=True):
        items: defaultdict[str, Turns] = defaultdict(dict)
        columns = {name: plain_values(own[name]) for name in _TURN if name in own}
        for values in zip(*columns.values(), strict=True):
            turn = dict(zip(columns, values, strict=True))
            items[turn["item_id"]][turn["round"], turn["agent_index"]] = turn
        for item, taken in items.items():
            found.setdefault(item, taken)
    return found


def _ranked(arms: dict[Cell, dict[str, Turns]]) -> list[str]:
    """Rank the items that all arms answered, or all items if there are none; as they came without a dense arm."""
    shared = [item for item in next(iter(arms.values())) if all(item in items for items in arms.values())]
    order = shared or list(dict.fromkeys(item for items in arms.values() for item in items))
    dense = next((items for cell, items in arms.items() if cell.method == "dense"), None)
    if dense is None:
        return order
    others = [items for items in arms.values() if items is not dense]

    def unlike(item: str) -> tuple[int, int]:
        """Count the arms graded otherwise than dense, and the turns that answered otherwise."""
        graded = answered = 0
        for items in others:
            theirs = dense.get(item, {})
            both = [(turn, theirs[place]) for place, turn in items.get(item, {}).items() if place in theirs]
            answered += sum(turn["output_text"] != other["output_text"] for turn, other in both)
            graded += bool(both) and both[-1][0]["outcome"] != both[-1][1]["outcome"]
        return graded, answered

    return sorted(order, key=unlike, reverse=True)


def _texts(turns: Turns) -> set[str]:
    return {_shown(turn[name]) for turn in turns.values() for name in ("prompt_text", "output_text", "tool_text")}


def _shown(text: str | None) -> str:
    """Return the text as the page may hold it, without the middle of a long one."""
    text = displayed(text or "")
    more = len(text) - MOST_CHARACTERS
    if more <= 0:
        return text
    half = MOST_CHARACTERS // 2
    return f"{text[:half]}\n[... {more} characters are left out here ...]\n{text[-half:]}"


def _item(one: _Setting, item: str, turn: int, index: dict[str, int]) -> dict[str, Any]:
    return {
        "id": displayed(item),
        "why": (_PLACES if one.has_dense else _UNRANKED)[turn],
        "expected": _shown(one.expected.get(item)),
        "turns": [[_turn(taken, index) for _, taken in sorted(arm.get(item, {}).items())] for arm in one.arms.values()],
    }


def _turn(turn: dict[str, Any], index: dict[str, int]) -> dict[str, Any]:
    """Return a turn as plain data: times in milliseconds, texts as indices. Unknown fields are absent."""
    phases = {name: 1000 * seconds for name in _PHASES if (seconds := turn.get(f"phase_{name}_s"))}
    reason = [turn.get("no_reuse_reason"), turn.get("no_reuse_placeholder")]
    found = {
        "agent": turn["agent_index"],
        "round": turn["round"],
        "role": displayed(turn["agent_role"]),
        "mode": turn["mode"],
        "tokens": turn["prompt_tokens"],
        "reused": turn["reused_tokens"],
        "out": turn["output_tokens"],
        "stop": turn["stop_reason"],
        "ttft": round(1000 * turn["ttft_s"], 1),
        "decode": round(1000 * turn["decode_s"], 1),
        "phases": {name: round(ms, 1) for name, ms in phases.items() if ms >= 0.05},
        "why": " ".join(displayed(str(part)).replace("_", " ") for part in reason if part) or None,
        "kl": None if turn.get("kl_next_token") is None else float(f"{turn['kl_next_token']:.3g}"),
        "outcome": turn["outcome"],
        "prompt": index[_shown(turn["prompt_text"])],
        "answer": index[_shown(turn["output_text"])],
        "tool": displayed(turn["tool"]) if turn.get("tool") else None,
        "result": index[_shown(turn["tool_text"])] if turn.get("tool_text") else None,
    }
    return {name: value for name, value in found.items() if value is not None}
