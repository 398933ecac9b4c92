"""The data dictionary: it has every column that the files have, with the types of the files, and says something."""

import json
import re

from made_up import write_results
from typer.testing import CliRunner

from harness.results.arrow_schemas import RECORDS, SCHEMAS
from harness.results.parameter_columns import parameter_schema
from harness.results.sweep_folder import read_trials
from harness.spec import TrialSpec
from sweeps.cli import app
from sweeps.language.column_docs import columns

BY_NAME = {(column.table, column.name): column for column in columns()}


def test_it_describes_the_columns_of_the_files(tmp_path, make_result):
    """Catches a new column without a description, one that has gone, and a type of an earlier version."""
    expected = {(table, field.name): str(field.type) for table in RECORDS for field in SCHEMAS[table]}
    expected |= {("trials", field.name): str(field.type) for field in parameter_schema()}
    assert {key: column.type for key, column in BY_NAME.items()} == expected
    write_results(tmp_path, make_result(TrialSpec(agents=2)))
    assert set(read_trials(tmp_path / "s").schema.names) == {name for table, name in expected if table == "trials"}


def test_it_says_when_a_column_is_null():
    """Catches a column that may be null and is said to be always there, and the reverse."""
    for (table, name), column in BY_NAME.items():
        nullable = name not in SCHEMAS[table].names or SCHEMAS[table].field(name).nullable
        assert (column.null_when is not None) == nullable, (table, name)


def test_each_column_means_something():
    """Catches an empty meaning, a clause cut in the middle, and markup of a docstring."""
    for key, column in BY_NAME.items():
        assert re.fullmatch(r"[^`]{6,}\.", column.meaning), key
        assert not re.search(r"(^|[.;] )None ", column.null_when or ""), key
        has_unit = re.search(r"(_s|_us|_j|bytes|_tokens|_rate)$", column.name) and column.type != "string"
        assert column.unit or not has_unit, key


def test_some_columns_word_for_word():
    """Catches the wrong half of a sentence."""
    energy = BY_NAME["samples", "energy_j"]
    assert (energy.unit, energy.null_when) == ("joules", "where no GPU tells")
    kl = BY_NAME["turns", "kl_next_token"]
    assert kl.meaning.startswith("KL(dense || this) of the next-token distribution")
    assert (kl.unit, kl.null_when) == ("nats", "if not checked")
    gamma = BY_NAME["trials", "kvcomm.gamma"]
    assert "unless the method is kvcomm" in (gamma.null_when or "")
    assert gamma.type == "double"


def test_the_command():
    """Catches lines that a terminal of 80 characters breaks, and JSON that is not one document."""
    done = CliRunner().invoke(app, ["schema", "--columns", "--json"])
    assert len(json.loads(done.stdout)["columns"]) == len(BY_NAME)
    printed = CliRunner().invoke(app, ["schema", "--columns"]).stdout
    assert "\ntrials\n  trial_id (string)\n" in printed
    assert "  kvcomm.gamma (double)\n" in printed
