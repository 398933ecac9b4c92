"""Why turns did not reuse, as stacked bars by arm: with the reused turns they add up to 100 %."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from analysis.figures.parts.drawing import MOST_IN_LEGEND, Drawn, NothingToDrawError, finished, panels
from analysis.figures.parts.labels import shown
from analysis.figures.parts.styles import BLUE, GREY, ORANGE, PURPLE, SKY, VERMILION, style, styled
from analysis.results import Results
from analysis.short_names import short_names
from analysis.tables.no_reuse_table import accounts_of, name_of
from analysis.tables.sweep_table import graded_arms
from harness.results.no_reuse import ACCOUNTS, REUSED, UNRECORDED, Account

_COLORS = {"cold": SKY, "too_long": ORANGE, "refused": VERMILION, "slot_unmet": PURPLE}
_HATCHES = {"question": "", "answer": "///", "tool": "...", "history": "xxx", "": "++"}
_LONG = 18
"""Characters of a name beside which a panel one column wide has no room for bars."""
_LABELLED = 6.0
"""Narrowest part, in percent, that its number fits into."""


@styled
def no_reuse_reasons(results: Results) -> list[Drawn]:
    """Draw one bar per arm that has pools, in a panel for each workload and number of agents of one sweep.

    Colours tell reasons apart and hatches kinds of placeholders. Numbers in the bars are percent.
    """
    rows = []
    for cell, arm in graded_arms(results).items():
        counts = accounts_of(arm)
        for account, count in (counts or {}).items():
            share = 100 * count / sum((counts or {}).values())
            row = {"panel": cell.situation, "arm": cell.method, "reason": account[0], "placeholder": account[1]}
            rows.append({**row, "turns": count, "percent": share})
    if not rows:
        raise NothingToDrawError(
            "needs a graded trial of kvcomm that holds why turns did not reuse, of identity version 3 or later; "
            "kvcomm run smoke makes them"
        )
    data = pd.DataFrame(rows)
    by_panel = {str(name): own for name, own in data.groupby("panel", sort=False)}
    tallest = max(own["arm"].nunique() for own in by_panel.values())
    names = {name: short_names(own["arm"]) for name, own in by_panel.items()}
    is_long = max(len(one) for of_panel in names.values() for one in of_panel.values()) > _LONG
    figure, axes = panels(len(by_panel), 0.55 + 0.2 * tallest, wide=is_long)
    for ax, (name, own) in zip(axes, by_panel.items(), strict=True):
        _bars(ax, own, names[name])
        ax.set_title(shown(name))
        ax.set_xlabel("turns (%)")
    there = set(zip(data["reason"], data["placeholder"], strict=True))
    return [finished("no_reuse_reasons", data, figure, key=_key([account for account in ACCOUNTS if account in there]))]


def _bars(ax: Axes, rows: pd.DataFrame, names: Mapping[str, str]) -> None:
    arms = list(dict.fromkeys(rows["arm"]))
    left = dict.fromkeys(arms, 0.0)
    for account in ACCOUNTS:
        of_account = rows[(rows["reason"] == account[0]) & (rows["placeholder"] == account[1])]
        if of_account.empty:
            continue
        width = dict(zip(of_account["arm"], of_account["percent"].astype(float), strict=True))
        starts, color, hatch = [left[arm] for arm in width], *_look(account)
        bars = ax.barh(
            [shown(names[arm]) for arm in width], list(width.values()), left=starts, color=color, hatch=hatch,
            height=0.75, edgecolor="white", linewidth=0.3, label=name_of(account),
        )  # fmt: skip
        labels = [f"{share:.0f}" if share >= _LABELLED else "" for share in width.values()]
        for text in ax.bar_label(bars, labels, label_type="center", fontsize=style().small_points):
            text.set_bbox({"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 0.6})
        for arm, share in width.items():
            left[arm] += share
    ax.set_xlim(0, 100)
    ax.set_ylim(len(arms) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)


def _look(account: Account) -> tuple[str, str]:
    if account in (REUSED, UNRECORDED):
        return (BLUE, "") if account == REUSED else (GREY, "")
    return _COLORS[account[0]], _HATCHES[account[1]]


def _key(accounts: list[Account]) -> dict[str, Artist] | None:
    """Return a key by reason and by placeholder, if one by both would be too long."""
    if len(accounts) <= MOST_IN_LEGEND:
        return None
    found: dict[str, Artist] = {}
    for account in accounts:
        color, hatch = _look(account)
        reason, _, placeholder = name_of(account).partition(": ")
        found.setdefault(reason, Patch(facecolor=color))
        if placeholder:
            found.setdefault(placeholder, Patch(facecolor="white", edgecolor="black", linewidth=0.3, hatch=2 * hatch))
    return found
