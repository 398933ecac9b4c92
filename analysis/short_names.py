"""Names of arms without what the variants of a method share, where several stand side by side.

A cell's own name (``harness/cells.py``) holds every field that differs among the trials of its method, so that it says
everything. A table or a figure needs what tells the arms before the reader apart.
"""

from collections.abc import Iterable, Sequence
from dataclasses import fields

from harness.extensions import UnknownNameError
from harness.methods import find_method

_MOST_NAMED = 4
_SPEAKING = {"estimator", "criterion", "recompute"}
"""Fields that are named by their values alone, and ``none`` not at all."""
_LONGEST = 32
"""Characters of a name that a panel of a figure, or half of a terminal, has room for."""


def short_names(arms: Iterable[str]) -> dict[str, str]:
    """Return names without what the variants of methods share: ``gamma=0.1``; ``no x`` stands for ``x=False``.

    Up to four variants keep the method's name in front. Names that would be longer than a line of a panel also leave
    out fields that the others make needless, and then defaults, if that makes the longest name shorter.
    """
    given = list(dict.fromkeys(arms))
    found = _without_shared(given)
    for fewer in (_without_needless, _without_defaults):
        longest = max(map(len, found.values()), default=0)
        if longest <= _LONGEST:
            break
        leaner = fewer(given)
        by_leaner = _without_shared(leaner)
        if len(set(by_leaner.values())) == len(given) and max(map(len, by_leaner.values())) < longest:
            found = {arm: by_leaner[short] for arm, short in zip(given, leaner, strict=True)}
    return found


def _without_shared(arms: Sequence[str]) -> dict[str, str]:
    variants = [arm.split() for arm in arms if " " in arm]
    shared = set.intersection(*(set(words) for words in variants)) if len(variants) > 1 else set()
    if len(variants) <= _MOST_NAMED:
        shared -= {words[0] for words in variants}
    found = {}
    for arm in arms:
        words = [_word(word) for word in arm.split() if word not in shared or " " not in arm]
        found[arm] = " ".join(filter(None, words)) or arm.split()[0]
    return found if len(set(found.values())) == len(arms) else {arm: arm for arm in arms}


def _without_defaults(arms: Sequence[str]) -> list[str]:
    """Return names without the fields that have their method's default, and without needless ones."""
    return _without_needless([_without_own_defaults(arm) for arm in arms])


def _without_own_defaults(arm: str) -> str:
    method, *words = arm.split()
    try:
        record = find_method(method)
    except UnknownNameError:  # a plug-in that is not installed here
        return arm
    defaults = {f"{field.name}={field.default}" for field in fields(record)}
    return " ".join([method, *(word for word in words if word not in defaults)])


def _without_needless(arms: Sequence[str]) -> list[str]:
    """Return names without the fields that do not help to tell the arms apart, those with the fewest values first.
    Those whose values speak for themselves stay."""
    names = [arm.split() for arm in arms]
    values: dict[str, set[str]] = {}
    for word in (word for name in names for word in name[1:] if "=" in word):
        values.setdefault(word.partition("=")[0], set()).add(word)
    for field in sorted(values.keys() - _SPEAKING, key=lambda field: (len(values[field]), field)):
        fewer = [[word for word in name if word not in values[field]] for name in names]
        if len({" ".join(name) for name in fewer}) == len({" ".join(name) for name in names}):
            names = fewer
    return [" ".join(name) for name in names]


def _word(word: str) -> str:
    name, _, value = word.partition("=")
    if name in _SPEAKING:
        return "" if value == "none" else value
    return {"True": "", "False": f"no {name}"}.get(value, word)
