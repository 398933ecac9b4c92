"""Why turns did not reuse: the reason and the kind of placeholder, counted over the turns of methods with pools."""

from collections import Counter
from collections.abc import Iterable
from typing import Literal, Protocol

from harness.results.rates import reuses_all

PlaceholderKind = Literal["question", "answer", "tool", "history"]
Account = tuple[str, str]
"""A reason and the kind of placeholder that it applies to."""

REUSED: Account = ("reused", "")
UNRECORDED: Account = ("unrecorded", "")
"""A turn without a reason, from results that are older than reasons."""

REASONS = ("cold", "too_long", "refused", "slot_unmet")
KINDS = ("question", "answer", "tool", "history", "")

ACCOUNTS: tuple[Account, ...] = (REUSED, *((reason, kind) for reason in REASONS for kind in KINDS), UNRECORDED)
"""Every account, in the order in which all views show them."""


class AccountedTurn(Protocol):
    """A ``TurnRecord``, or a row of the ``turns`` table with None for null."""

    @property
    def mode(self) -> str: ...
    @property
    def anchors_in_pool(self) -> int | None: ...
    @property
    def no_reuse_reason(self) -> str | None: ...
    @property
    def no_reuse_placeholder(self) -> str | None: ...


def placeholder_kind(placeholder: str) -> PlaceholderKind:
    """Return what fills a placeholder: the question, an agent's answer, a tool's result, or either of an earlier
    round."""
    if "_history_" in placeholder:
        return "history"
    if placeholder.startswith("condition_"):
        return "tool"
    return "answer" if placeholder.startswith("agent_") else "question"


def account_of(turn: AccountedTurn) -> Account:
    """Return ``REUSED``, the reason and the kind of placeholder, or ``UNRECORDED``."""
    if turn.no_reuse_reason is not None:
        placeholder = turn.no_reuse_placeholder
        return turn.no_reuse_reason, "" if placeholder is None else placeholder_kind(placeholder)
    return REUSED if reuses_all(turn.mode) else UNRECORDED


def count_accounts(turns: Iterable[AccountedTurn]) -> dict[Account, int] | None:
    """Count the turns of methods with pools by their account, ``REUSED`` first, then by reason and kind.

    Return None if there are no such turns, or if some did not reuse and none of them says why: results that are older
    than reasons do not hold them. A mixture has its old turns as ``UNRECORDED``.
    """
    found = Counter(account_of(turn) for turn in turns if turn.anchors_in_pool is not None)
    if not found or (UNRECORDED in found and not found.keys() - {REUSED, UNRECORDED}):
        return None
    return {account: found[account] for account in ACCOUNTS if account in found or account == REUSED}
