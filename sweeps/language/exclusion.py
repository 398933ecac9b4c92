"""``exclude``: rules that drop combinations.

    exclude:
      - {method: kvcomm, agents: 2}
      - {kvcomm.storage: int8, kvcomm.estimator: mean}

A rule drops the combinations that agree with all of its entries; a field that the sweep does not give has its default,
and one that does not apply to a combination's method or workload agrees with nothing. A rule that drops nothing is a
mistake, unless it speaks of a field that a profile, an extending file or the command line has replaced.
"""

from collections.abc import Sequence

from kvcomm_core.config import shown
from sweeps.language.combinations import Row
from sweeps.language.fields import METHOD_PARAMETERS, check_name
from sweeps.language.strict_yaml import Plain, SweepError
from sweeps.language.trial_building import settings_of


def read_rules(rules: Plain) -> list[Row]:
    """The value of ``exclude`` as mappings with dotted keys alone. Raises ``SweepError``."""
    if not isinstance(rules, list):
        raise SweepError(f"exclude is {shown(rules)}; allowed: a list of mappings of trial fields to values")
    return [_read_rule(f"exclude[{index}]", rule) for index, rule in enumerate(rules)]


def excluded(combinations: Sequence[Row], rules: Sequence[Row], replaced: set[str]) -> tuple[list[Row], list[int]]:
    """The combinations that are left, and how many each rule matches.

    ``replaced``: trial fields whose rules may match nothing. Raises ``SweepError`` for any other rule that matches
    nothing, and if nothing is left.
    """
    counts = [0] * len(rules)
    kept: list[Row] = []
    for combination in combinations if rules else ():
        settings = settings_of(combination)
        matches = [all(_agree(settings, key, value) for key, value in rule.items()) for rule in rules]
        counts = [count + match for count, match in zip(counts, matches, strict=True)]
        if not any(matches):
            kept.append(combination)
    for index, (count, rule) in enumerate(zip(counts, rules, strict=True)):
        if not count and not any(_related(key, field) for key in rule for field in replaced):
            raise SweepError(f"exclude[{index}] is {shown(rule)}, which matches no combination; allowed: rules that do")
    if rules and not kept:
        raise SweepError(f"exclude drops all {len(combinations):,} combinations; allowed: at least one left")
    return (kept if rules else list(combinations)), counts


def _read_rule(where: str, rule: Plain) -> Row:
    if not isinstance(rule, dict) or not rule:
        raise SweepError(f"{where} is {shown(rule)}; allowed: a mapping of trial fields to values")
    flat: Row = {}
    for key, value in rule.items():
        check_name(key)
        if key == "workload" and isinstance(value, str):
            flat["workload.name"] = value
        elif key == "workload" or key in METHOD_PARAMETERS:
            if not isinstance(value, dict) or not value:
                raise SweepError(f"{where}.{key} is {shown(value)}; allowed: a mapping of its fields to values")
            flat |= {f"{key}.{leaf}": item for leaf, item in value.items()}
        else:
            flat[key] = value
    for key, value in flat.items():
        if key != "workload.name":
            check_name(key)
        if isinstance(value, list | dict):
            raise SweepError(f"{where}.{key} is {shown(value)}; allowed: one value")
    return flat


def _agree(settings: Row, key: str, value: Plain) -> bool:
    if key not in settings:
        return False
    given = settings[key]
    return given == value and isinstance(given, bool) == isinstance(value, bool)


def _related(one: str, other: str) -> bool:
    """``workload`` and ``workload.limit`` are."""
    return one == other or one.startswith(f"{other}.") or other.startswith(f"{one}.")
