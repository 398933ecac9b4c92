"""Strict YAML: what is read as what, and no exception but ``SweepError``, whatever the file holds."""

import string

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.spec import TRIAL_FIELDS
from sweeps.language.fields import SECTIONS, SETTINGS
from sweeps.language.strict_yaml import SweepError, dump_sweep, parse
from sweeps.language.sweep_spec import load_sweep


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("-12", -12),
        ("+7", 7),
        ("1_000", 1000),
        ("1e-3", 0.001),
        ("2E+1", 20.0),
        ("1.5", 1.5),
        (".5", 0.5),
        ("-1.", -1.0),
        ("1_0.5", 10.5),
        ("010", "010"),
        ("0x10", "0x10"),
        ("1:30", "1:30"),
        ("1:30.5", "1:30.5"),
        ("2024-01-01", "2024-01-01"),
        ("2024-02-31", "2024-02-31"),
        ("yEs", "yEs"),
        ("1e", "1e"),
        ("1.2.3", "1.2.3"),
        ("yes", True),
        ("OFF", False),
        ("~", None),
        ("'1'", "1"),
        ("é", "é"),
        ("[1, &a [x], *a]", [1, ["x"], ["x"]]),
    ],
)
def test_scalars(text, value):
    """Catches YAML 1.1 reading 010 as 8, 1:30 as 90, 1e-3 as text, and a date as anything else."""
    found = parse(text)
    assert (found, type(found)) == (value, type(value))


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path):
    """Catches a file saved by an editor of Windows being refused for a key that nobody can see."""
    path = tmp_path / "sweep.yaml"
    path.write_bytes("name: x".encode("utf-8-sig"))
    assert load_sweep(path).name == "x"


TEXTS = st.text(st.characters(exclude_categories=("C", "Z"), include_characters=" "), max_size=9)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    TEXTS,
    st.sampled_from(
        ["1e-3", "010", "1:30", "yes", "null", "<<", "=", "- a", "a: b", "2024-01-01", "1_000", ".5", "!x"]
    ),
)


@given(value=st.dictionaries(TEXTS.filter(bool), SCALARS | st.lists(SCALARS)))
def test_what_is_written_is_read_back(value):
    """Catches text that is written without quotes and read back as a number, a date or nothing."""
    assert parse(dump_sweep(value)) == value


NAMES = [*SETTINGS, *SECTIONS, *TRIAL_FIELDS, "extends", "profiles", "workload.limit", "workload.name", "kvcomm.gamma",
         "kvcomm.storage", "kvcomm.estimator", "cacheblend.ratio", "cacheblend.select", "samples", "fields", "uniform",
         "log_uniform", "int", "choice", "limit", "facts", "gamma"]  # fmt: skip
VALUES = ["x", "kvcomm", "dense", "recall", "gsm8k", "ttft", "blend", "mean", "int8", "sweep.yaml", "chain", 0, 1, 2, 3,
          0.5, True, None]  # fmt: skip
KEYS = st.sampled_from(NAMES) | st.text(max_size=5)
LEAVES = st.one_of(st.sampled_from(VALUES), st.integers(), st.floats(), st.text(max_size=5), st.dates(), st.binary())
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


def check(path, overrides=()):
    """The sweep in the file reads back from its own text, or is refused in one line."""
    try:
        sweep = load_sweep(path, overrides)
    except SweepError as error:
        message = str(error).removeprefix(str(path))
        assert len(message.splitlines()) == 1
        assert message.isprintable()
        assert len(message) < 1500
        return
    assert sweep.trials
    copy = path.with_name("copy.yaml")
    copy.write_text(sweep.text, encoding="utf-8")
    assert load_sweep(copy) == sweep


@settings(deadline=None, max_examples=150)
@given(document=st.dictionaries(KEYS, ANYTHING, max_size=5), named=st.booleans())
@example(document={"grid": {"method": ["dense", ["kvcomm"], {}]}}, named=True)
@example(document={"workload": {"name": {}}, "exclude": [{"agents": 3}]}, named=True)
@example(document={"method": {}, "exclude": [{"method": "dense"}]}, named=True)
@example(document={"kvcomm": 3, "kvcomm.gamma": 0.1, "method": "kvcomm"}, named=True)
@example(document={"method": "kvcomm", "kvcomm": [1], "exclude": [{"kvcomm.gamma": 0.1}]}, named=True)
@example(document={"list": [{}, {"agents": 2}], "repeats": 2}, named=True)
def test_any_structure_is_a_sweep_or_one_line(tmp_path_factory, document, named):
    """Catches every exception that is not a ``SweepError``, and a valid sweep whose text is another sweep."""
    path = tmp_path_factory.mktemp("sweep") / "sweep.yaml"
    path.write_text(yaml.safe_dump({**({"name": "x"} if named else {}), **document}), encoding="utf-8")
    check(path)


FIELDS = {
    "agents": st.integers(1, 5),
    "rounds": st.integers(1, 3),
    "method": st.sampled_from(["dense", "naive", "cacheblend", "kvcomm"]),
    "workload": st.sampled_from(["recall", {"name": "recall", "limit": 3}, "gsm8k", "ttft", "blend", {"name": "ttft"}]),
    "workload.anchors": st.integers(1, 21),
    "kvcomm.estimator": st.sampled_from(["mean", "l2_norm"]),
    "kvcomm.storage": st.sampled_from(["model", "int8"]),
    "kvcomm": st.sampled_from([{"gamma": 0.1}, {"window": 3}, None]),
    "max_new_tokens": st.integers(1, 3),
    "seed": st.integers(0, 3),
}
ROWS = st.lists(st.sampled_from(sorted(FIELDS)), max_size=3, unique=True).flatmap(
    lambda names: st.fixed_dictionaries({name: FIELDS[name] for name in names})
)
COLUMNS = st.lists(st.sampled_from(sorted(FIELDS)), min_size=1, max_size=2, unique=True).flatmap(
    lambda names: st.fixed_dictionaries({n: st.lists(FIELDS[n], min_size=1, max_size=2) for n in names})
)
DRAWS = COLUMNS.map(lambda columns: {name: {"choice": values} for name, values in columns.items()})
SECTIONS_OF_A_SWEEP = {
    "grid": COLUMNS,
    "zip": COLUMNS,
    "list": st.lists(ROWS, min_size=1, max_size=3),
    "random": st.fixed_dictionaries({"samples": st.integers(1, 3), "fields": DRAWS}),
    "repeats": st.integers(1, 3),
    "exclude": st.lists(ROWS.filter(bool), max_size=2),
}
SWEEPS = st.tuples(ROWS, st.fixed_dictionaries({}, optional=SECTIONS_OF_A_SWEEP)).map(lambda parts: parts[0] | parts[1])


@pytest.mark.slow
@settings(deadline=None, max_examples=100)
@given(document=SWEEPS, base=SWEEPS, key=st.sampled_from(sorted(FIELDS)), data=st.data())
def test_what_looks_like_a_sweep_is_one_or_one_line(tmp_path_factory, document, base, key, data):
    """Catches the same in files that are almost or wholly right, alone, over another file, and with an override."""
    folder = tmp_path_factory.mktemp("sweep")
    path, low = folder / "sweep.yaml", folder / "base.yaml"
    low.write_text(yaml.safe_dump({"name": "low", **base}), encoding="utf-8")
    check(low)
    path.write_text(yaml.safe_dump({"name": "x", "extends": "base.yaml", **document}), encoding="utf-8")
    check(path)
    value = data.draw(FIELDS[key] | st.lists(FIELDS[key], min_size=1, max_size=2))
    check(low, [f"{key}={yaml.safe_dump(value, default_flow_style=True).splitlines()[0]}"])


@settings(deadline=None, max_examples=150)
@given(data=st.binary(max_size=60) | st.text(string.printable + "é\u2028\ud7ff", max_size=60).map(str.encode))
@example(data=b"!!int ''")
@example(data=b"!!float ''")
@example(data=b"!!bool maybe")
@example(data=b"!!timestamp x")
@example(data=b"? [a]\n: b")
@example(data=b"? {a: b}\n: c")
@example(data=b"&a [*a]")
@example(data=b"name: =")
@example(data=b"- " * 3000)
@example(data=b"? " * 3000)
def test_any_bytes_are_a_sweep_or_one_line(tmp_path_factory, data):
    """Catches exceptions that PyYAML raises beside its own."""
    path = tmp_path_factory.mktemp("sweep") / "sweep.yaml"
    path.write_bytes(data)
    check(path)
