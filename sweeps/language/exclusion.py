"""``exclude``: rules that drop combinations.

    exclude:
      - {method: kvcomm, agents: 2}
      - {kvcomm.storage: int8, kvcomm.estimator: mean}

A rule drops the combinations that match all of its entries. A field that the sweep does not set has its default. A
field that does not apply to a combination's method or workload matches nothing. A rule that drops nothing is an error,
unless it names a field that a profile, an extending file or the command line has replaced.
"""

from collections.abc import Sequence

from kvcomm_core.config import shown
from sweeps.language.combinations import Row
from sweeps.language.fields import check_known, check_name, method_parameters
from sweeps.language.strict_yaml import Plain, SweepError
from sweeps.language.trial_building import settings_of


def read_rules(rules: Plain) -> list[Row]:
    """Read the value of ``exclude`` as mappings with dotted keys only. Raises ``SweepError``."""
    if not isinstance(rules, list):
        raise SweepError(f"exclude is {shown(rules)}; allowed: a list of mappings of trial fields to values")
    return [_read_rule(f"exclude[{index}]", rule) for index, rule in enumerate(rules)]


def excluded(combinations: Sequence[Row], rules: Sequence[Row], replaced: set[str]) -> tuple[list[Row], list[int]]:
    """Return the remaining combinations, and the number that each rule matches.

    Rules on the trial fields in ``replaced`` may match nothing. Raises ``SweepError`` for any other rule that matches
    nothing, and if no combination remains.
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
        elif key == "workload" or key in method_parameters():
            if not isinstance(value, dict) or not value:
                raise SweepError(f"{where}.{key} is {shown(value)}; allowed: a mapping of its fields to values")
            flat |= {f"{key}.{leaf}": item for leaf, item in value.items()}
        else:
            flat[key] = value
    for key, value in flat.items():
        if key != "workload.name":
            check_known(key)
        if isinstance(value, list | dict):
            raise SweepError(f"{where}.{key} is {shown(value)}; allowed: one value")
    return flat


def _agree(settings: Row, key: str, value: Plain) -> bool:
    if key not in settings:
        return False
    given = settings[key]
    return given == value and isinstance(given, bool) == isinstance(value, bool)


def _related(one: str, other: str) -> bool:
    """Return whether one field contains the other, as ``workload`` contains ``workload.limit``."""
    return one == other or one.startswith(f"{other}.") or other.startswith(f"{one}.")
