"""Malformed sweep files, given to the command itself: one line that names file, field and value, exit code 2, nothing
touched.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sweeps.cli import app

KVCOMM = "method: kvcomm\n"

FILES = {
    "base.yaml": "name: base\ngrid: {agents: [2, 3]}",
    "circle.yaml": "name: circle\nextends: sweep.yaml",
    "misspelt.yaml": "name: misspelt\nagnets: 3",
    "two_documents.yaml": "name: a\n---\nname: b",
}
"""Beside the sweep file, for those that extend another."""

BOMB = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))]
)
WIDE_BOMB = f"a: &a [{', '.join(['1'] * 1000)}]\nb: &b [{', '.join(['*a'] * 1000)}]"

MALFORMED: dict[str, tuple[str | bytes, str]] = {
    # not text, not YAML, not a mapping
    "empty": ("", "is None; allowed: a mapping"),
    "only a comment": ("# name: x", "is None; allowed: a mapping"),
    "a list at the top": ("- name: x", "is [{'name': 'x'}]; allowed: a mapping"),
    "text at the top": ("smoke", "is 'smoke'; allowed: a mapping"),
    "not UTF-8": (b"name: \xff\xfe", "not UTF-8 text (byte 6)"),
    "UTF-16": ("name: x".encode("utf-16"), "not UTF-8 text (byte 0)"),
    "NUL": (b"name: \x00", "not YAML: unacceptable character #x0000"),
    "tab for spaces": ("name: x\ngrid:\n\tagents: [2]", "line 3: while scanning for the next token: found character"),
    "bracket left open": ("name: x\ngrid: {agents: [2", "line 2: while parsing a flow sequence"),
    "quote left open": ("name: 'x", "line 1: while scanning a quoted scalar"),
    "two documents": ("name: x\n---\nname: y", "line 2: expected a single document"),
    "unknown alias": (f"name: *{'x' * 5000}", "line 1: found undefined alias"),
    "too large": (b"name: x\n#" + b"x" * 2_000_000, "is larger than a sweep file may be; allowed: 1,000,000 bytes"),
    "nested without end": ("name: x\ngrid: " + "[" * 20_000, "is nested more than 9 levels deep"),
    "nested deeply": ("name: x\ngrid: " + "[" * 50 + "]" * 50, "is nested more than 9 levels deep"),
    "nested deeply by mappings": ("grid: " + "{a: " * 50 + "1" + "}" * 50, "is nested more than 9 levels deep"),
    "aliases that grow exponentially": (BOMB, "has too many values, aliases expanded; allowed: 500,000"),
    "aliases that grow widely": (WIDE_BOMB, "has too many values, aliases expanded; allowed: 500,000"),
    "refers to itself": ("name: x\ngrid: &g {agents: *g}", "is nested more than 9 levels deep"),
    "merge key": ("name: x\nworkload: &w {name: recall}\ngrid: {workload: [{<<: *w}]}", "line 3: merge key '<<'"),
    # keys
    "key given twice": ("name: x\nseed: 1\nseed: 2", "line 3: key 'seed' is given twice"),
    "key given twice inside": ("name: x\nworkload: {limit: 2, limit: 3}", "line 2: key 'limit' is given twice"),
    "list as a key": ("? [name]\n: x", "line 1: a list or mapping as a key; allowed: text"),
    "number as a key": ("name: x\n2: 3", "key 2 is not text"),
    "boolean as a key": ("name: x\ngrid: {on: [2]}", "key True of grid is not text"),
    "nothing as a key": ("name: x\n'': 3", "key ''; allowed: printable text of 1 to 100 characters"),
    "long key": (f"name: x\n? {'k' * 5000}\n: 3", "allowed: printable text of 1 to 100 characters"),
    "key with a line break": ('name: x\n"a\\nb": 3', "key 'a\\nb'; allowed: printable text"),
    "key that looks right": (
        "name: x\n\u0430gents: 3",
        "'\\u0430gents' is not a key of a sweep file; did you mean age",
    ),
    "misspelt key": ("name: x\nagnets: 3", "'agnets' is not a key of a sweep file; did you mean agents?"),
    "unknown workload field": ("name: x\nworkload: {name: recall, x: 1}", "'workload.x' is not a field of workload"),
    "name of a workload by itself": ("name: x\nworkload.name: recall", "workload.name stands by itself; allowed: 'wor"),
    "unknown method field": ("name: x\nmethod: kvcomm\nkvcomm: {x: 1}", "'kvcomm.x' is not a field of kvcomm"),
    # values
    "no name": ("agents: 3", "name is missing"),
    "name that leads elsewhere": ("name: ../../etc", "name is '../../etc'; allowed: letters, digits"),
    "very long name": (f"name: {'x' * 900}", "allowed: letters, digits"),
    "very long text": (f"name: x\nmodel: {'y' * 5000}", "allowed: printable text of up to 1000 characters"),
    "line break in a value": ('name: "x\\ny"', "name is 'x\\ny'; allowed: printable text"),
    "control characters in a value": ('name: "\\e[2J"', "name is '\\x1b[2J'; allowed: printable text"),
    "half a character": ('name: x\nmodel: "\\ud800"', "model is '\\ud800'; allowed: printable text"),
    "line separator in a value": ('name: x\nmodel: "a\\u2028b"', "model is 'a\\u2028b'; allowed: printable text"),
    "method that looks right": ("name: x\nmethod: d\u0435nse", "method is 'd\\u0435nse'; allowed: dense, "),
    "Python object": ("name: !!python/object/apply:os.system [true]", "line 1: tag '!!python/object/apply:os.system'"),
    "Python name": ("name: !!python/name:os.system ''", "line 1: tag '!!python/name:os.system'"),
    "empty whole number": ("name: x\nseed: !!int ''", "line 2: tag '!!int'; allowed: values without tags"),
    "number that a tag makes text": ("name: !!str 12", "line 1: tag '!!str'; allowed: values without tags"),
    "tag of a key": ("!!str name: x", "line 1: tag '!!str'; allowed: values without tags"),
    "bytes": ("name: !!binary aGk=", "line 1: tag '!!binary'"),
    "tag of a list": ("name: x\ngrid: !mine [1]", "line 2: tag '!mine'"),
    "date": ("name: x\nseed: 2024-01-01", "seed is '2024-01-01'; allowed: a whole number"),
    "not a number": ("name: x\nfidelity: .nan", "fidelity is .nan; allowed: 64-bit and finite numbers"),
    "infinite": ("name: x\ngrid: {fidelity: [0, -.inf]}", "grid.fidelity[1] is -.inf; allowed: 64-bit and finite"),
    "overflows to infinity": ("name: x\nfidelity: 1e999", "fidelity is 1e999; allowed: 64-bit and finite numbers"),
    "beyond 64 bits": ("name: x\nseed: 9223372036854775808", "seed is 9223372036854775808; allowed: "),
    "5000 digits": (f"name: x\nseed: {'9' * 5000}", f"seed is {'9' * 40}; allowed: 64-bit and finite numbers"),
    "minutes and seconds": ("name: x\nseed: 1:30", "seed is '1:30'; allowed: a whole number"),
    "octal": ("name: x\nseed: 010", "seed is '010'; allowed: a whole number"),
    "yes for a number": ("name: x\nseed: yes", "seed is True; allowed: a whole number"),
    "no for a method": ("name: x\nmethod: no", "method is False; allowed: dense, "),
    "text for a number": ("name: x\nagents: '3'", "agents is '3'; allowed: a whole number"),
    "mapping for a number": ("name: x\nagents: {a: 1}", "agents is {'a': 1}; allowed: a whole number"),
    "list for a number": (
        "name: x\nagents: [2, 3]",
        "agents is [2, 3]; allowed: a whole number (several go under grid",
    ),
    "nothing for a number": ("name: x\nagents:", "agents is None; allowed: a whole number"),
    "one agent": ("name: x\nagents: 1", "agents is 1; allowed: 2 to 1000; 1 with topology single"),
    "huge number of agents": ("name: x\nagents: 1000000000000", "agents is 1000000000000; allowed: 2 to 1000"),
    "huge number of items": (
        "name: x\nworkload.limit: 1000000000000",
        "workload.limit is 1000000000000; allowed: 1 to",
    ),
    "data with a very long name": (
        f"name: x\nworkload: {{name: gsm8k, path: {'y' * 900}}}",
        "cannot be looked for: File name too long",
    ),
    "data in a folder": ("name: x\nworkload: {name: gsm8k, path: .}", ". is a folder; allowed: a file"),
    "unknown model": ("name: x\nmodel: nonsense", "model is 'nonsense'; allowed: embedded, "),
    "model of an unknown user": (
        "name: x\nmodel: ~nobody_here/model",
        "model is '~nobody_here/model', which is no path: ",
    ),
    "model with a very long name": (f"name: x\nmodel: {'y' * 900}", ", which is no path: "),
    "workload of a list": ("name: x\nworkload: [recall]", "workload.name is ['recall']; allowed: aime, "),
    "workload named by a list": ("name: x\nworkload: {name: [recall]}", "workload.name is ['recall']; allowed: aime"),
    "half a replica": ("name: x\nreplicas: 0.5", "replicas is 0.5; allowed: a whole number"),
    # grid, zip and list
    "grid of nothing": ("name: x\ngrid:", "grid is None; allowed: a mapping of trial fields to lists of values"),
    "grid of a list": ("name: x\ngrid: [agents]", "grid is ['agents']; allowed: a mapping"),
    "empty axis": ("name: x\ngrid: {agents: []}", "grid.agents is []; allowed: a list with at least one value"),
    "text for an axis": (
        "name: x\ngrid: {agents: '23'}",
        "grid.agents is '23'; allowed: a list with at least one value",
    ),
    "setting on an axis": (
        "name: x\ngrid: {replicas: [1, 2]}",
        "'replicas' is not a key of a sweep file; allowed: mod",
    ),
    "grid in a grid": ("name: x\ngrid: {grid: [1]}", "'grid' is not a key of a sweep file; allowed: "),
    "top and grid": ("name: x\nseed: 1\ngrid: {seed: [2]}", "seed stands both at the top and under grid"),
    "grid and zip": (
        "name: x\ngrid: {seed: [2]}\nzip: {seed: [1], agents: [2]}",
        "seed stands both under zip and under grid; allowed: one of them",
    ),
    "empty zip": ("name: x\nzip: {}", "zip is {}; allowed: a mapping of trial fields to lists of equal length"),
    "zip of texts": ("name: x\nzip: [agents]", "zip is ['agents']; allowed: a mapping of trial fields"),
    "empty zip column": ("name: x\nzip: {agents: []}", "zip.agents is []; allowed: a list with at least one value"),
    "unequal zip": (
        "name: x\nzip: {agents: [2, 3], seed: [1]}",
        "zip.agents has 2 values and zip.seed 1; allowed: lists of equal length, which move together",
    ),
    "empty list": ("name: x\nlist: []", "list is []; allowed: a list of mappings"),
    "mapping for a list": ("name: x\nlist: {agents: [2]}", "list is {'agents': [2]}; allowed: a list of mappings"),
    "number in a list": ("name: x\nlist: [{agents: 2}, 3]", "list[1] is 3; allowed: a mapping of trial fields"),
    "misspelt in a list": (
        "name: x\nlist: [{agnets: 2}]",
        "'agnets' is not a key of a sweep file; did you mean agents",
    ),
    "twice in a list": (
        "name: x\nlist: [{workload: {name: recall, limit: 2}, workload.limit: 3}]",
        "workload.limit is given twice, by itself and in workload",
    ),
    "parameter without its method": ("name: x\nlist: [{kvcomm.gamma: 0.1}]", "kvcomm.gamma is given without method"),
    # random
    "random of nothing": ("name: x\nrandom:", "random is None; allowed: a mapping with samples, seed and fields"),
    "random without samples": ("name: x\nrandom: {fields: {seed: {int: [1, 2]}}}", "random.samples is missing"),
    "random without fields": ("name: x\nrandom: {samples: 3}", "random.fields is missing"),
    "misspelt in random": ("name: x\nrandom: {sample: 3}", "'sample' is not a key of random; did you mean samples?"),
    "no samples": (
        "name: x\nrandom: {samples: 0, fields: {seed: {int: [1, 2]}}}",
        "random.samples is 0; allowed: a whole number from 1 to 100000",
    ),
    "seed of random below zero": (
        "name: x\nrandom: {samples: 1, seed: -1, fields: {agents: {int: [2, 3]}}}",
        "random.seed is -1; allowed: a whole number from 0",
    ),
    "list for a distribution": (
        "name: x\nrandom: {samples: 3, fields: {agents: [2, 3]}}",
        "random.fields.agents is [2, 3]; allowed: one of uniform, log_uniform, int, choice",
    ),
    "two distributions": (
        "name: x\nrandom: {samples: 3, fields: {agents: {int: [2, 3], choice: [2]}}}",
        "random.fields.agents is {'choice': [2], 'int': [2, 3]}; allowed: one of",
    ),
    "unknown distribution": (
        "name: x\nrandom: {samples: 3, fields: {fidelity: {normal: [0, 1]}}}",
        "random.fields.fidelity is {'normal': [0, 1]}; allowed: one of",
    ),
    "reversed bounds": (
        "name: x\nrandom: {samples: 3, fields: {fidelity: {uniform: [1, 0]}}}",
        "random.fields.fidelity.uniform is [1, 0]; allowed: [low, high], two numbers, the smaller one first",
    ),
    "three bounds": (
        "name: x\nrandom: {samples: 3, fields: {fidelity: {uniform: [0, 1, 2]}}}",
        "random.fields.fidelity.uniform is [0, 1, 2]; allowed: [low, high]",
    ),
    "fractions for whole bounds": (
        "name: x\nrandom: {samples: 3, fields: {agents: {int: [2.0, 3.0]}}}",
        "random.fields.agents.int is [2.0, 3.0]; allowed: [low, high], two whole numbers",
    ),
    "logarithm of zero": (
        "name: x\nrandom: {samples: 3, fields: {fidelity: {log_uniform: [0, 1]}}}",
        "random.fields.fidelity.log_uniform is [0, 1]; allowed: [low, high], two numbers above 0",
    ),
    "choice of nothing": (
        "name: x\nrandom: {samples: 3, fields: {agents: {choice: []}}}",
        "random.fields.agents.choice is []; allowed: a list with at least one value",
    ),
    "fractions drawn for a whole number": (
        "name: x\nrandom: {samples: 3, fields: {agents: {uniform: [2, 5]}}}",
        "; allowed: a whole number",
    ),
    # repeats, exclude, what records refuse, sizes
    "no repeats": ("name: x\nrepeats: 0", "repeats is 0; allowed: a whole number from 1 to 100000"),
    "repeats that are true": ("name: x\nrepeats: true", "repeats is True; allowed: a whole number"),
    "a fraction of repeats": ("name: x\nrepeats: 2.0", "repeats is 2.0; allowed: a whole number"),
    "repeats beside seeds": ("name: x\nrepeats: 2\ngrid: {seed: [1]}", "repeats is given, and seed stands under grid"),
    "repeats of text": ("name: x\nrepeats: 2\nseed: a", "seed is 'a'; allowed: a whole number"),
    "repeats beyond 64 bits": ("name: x\nrepeats: 2\nseed: 9223372036854775807", "seed is 9223372036854775807; allowe"),
    "one rule for a list of rules": ("name: x\nexclude: {agents: 3}", "exclude is {'agents': 3}; allowed: a list of"),
    "empty rule": ("name: x\nexclude: [{}]", "exclude[0] is {}; allowed: a mapping of trial fields to values"),
    "rule with a list": ("name: x\nexclude: [{agents: [2, 3]}]", "exclude[0].agents is [2, 3]; allowed: one value"),
    "misspelt in a rule": (
        "name: x\nexclude: [{workload: {limt: 3}}]",
        "'workload.limt' is not a key of a sweep file;",
    ),
    "rule that matches nothing": (
        "name: x\ngrid: {agents: [2, 3]}\nexclude: [{agents: 3}, {agents: 4}]",
        "exclude[1] is {'agents': 4}, which matches no combination; allowed: rules that do",
    ),
    "rule for another type": (
        "name: x\ngrid: {agents: [2, 3]}\nexclude: [{agents: '3'}]",
        "exclude[0] is {'agents': '3'}, which matches no combination",
    ),
    "rules that match everything": (
        "name: x\ngrid: {agents: [2, 3]}\nexclude: [{agents: 3}, {method: dense}]",
        "exclude drops all 2 combinations; allowed: at least one left",
    ),
    "combination that a record refuses": (
        f"name: x\n{KVCOMM}grid: {{kvcomm.storage: [model, int8], kvcomm.estimator: [l2_norm, mean]}}",
        "kvcomm.storage is 'int8'; allowed: model, with estimator mean (in the combination kvcomm.storage: 'int8', "
        "kvcomm.estimator: 'mean'; exclude can drop it)",
    ),
    "huge grid": (
        "name: x\ngrid: {"
        + ", ".join(f"{field}: {list(range(2, 1002))}" for field in ("agents", "seed", "rounds", "batch_size"))
        + "}",
        "the sweep has 1,000,000,000,000 combinations (1,000 of grid x 1,000 of grid x 1,000 of grid x 1,000 of grid)",
    ),
    "huge number of samples": (
        "name: x\nrandom: {samples: 1000000000000, fields: {seed: {int: [0, 9]}}}",
        "random.samples is 1000000000000; allowed: a whole number from 1 to 100000",
    ),
    "huge number of repeats": ("name: x\nrepeats: 1000000000000", "repeats is 1000000000000; allowed: a whole number"),
    "samples times repeats": (
        "name: x\nrepeats: 100000\nrandom: {samples: 100000, fields: {agents: {int: [2, 9]}}}",
        "the sweep has 10,000,000,000 combinations (100,000 of random x 100,000 of repeats)",
    ),
    # profiles and extends
    "no profile chosen": ("name: x\nprofiles: {a: {agents: 2}}", "no profile is chosen; allowed: --profile a"),
    "profiles of a list": ("name: x\nprofiles: [a]", "profiles is ['a']; allowed: a mapping of names to entries"),
    "extends a number": ("name: x\nextends: 3", "extends is 3; allowed: the path of a sweep file, relative to this"),
    "extends a list": ("name: x\nextends: [base.yaml]", "extends is ['base.yaml']; allowed: the path of a sweep file"),
    "extends nothing": ("name: x\nextends: ''", "extends is ''; allowed: the path of a sweep file"),
    "extends a missing file": (
        "name: x\nextends: missing.yaml",
        "extends is 'missing.yaml': cannot be read: No such file or directory",
    ),
    "extends a folder": ("name: x\nextends: .", "extends is '.': cannot be read: Is a directory"),
    "extends itself": ("name: x\nextends: sweep.yaml", "extends is 'sweep.yaml', which goes in a circle"),
    "extends itself by another path": ("name: x\nextends: ./../{here}/sweep.yaml", "', which goes in a circle"),
    "extends in a circle": (
        "name: x\nextends: circle.yaml",
        "extends is 'sweep.yaml', which goes in a circle: 'sweep.yaml -> circle.yaml -> sweep.yaml'",
    ),
    "extends without a name": ("extends: base.yaml", "name is missing; a file that extends another has a name"),
    "extends a file with a mistake": (
        "name: x\nextends: misspelt.yaml",
        "extends is 'misspelt.yaml': 'agnets' is not a key of a sweep file; did you mean agents?",
    ),
    "extends what is no sweep file": (
        "name: x\nextends: two_documents.yaml",
        "extends is 'two_documents.yaml': line 2: expected a single document",
    ),
    "mistake beside extends": (
        "name: x\nextends: base.yaml\nseed: -1",
        "sweep.yaml (extends base.yaml): seed is -1; allowed: 0 or more",
    ),
    "twice in a file that extends": (
        "name: x\nextends: base.yaml\nseed: 1\ngrid: {seed: [1, 2]}",
        "seed stands both at the top and under grid",
    ),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current directory, with the files that sweeps may extend."""
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        Path(name).write_text(text)
    return tmp_path


def write(text):
    here = Path.cwd().name
    data = text if isinstance(text, bytes) else text.replace("{here}", here).encode("utf-8")
    Path("sweep.yaml").write_bytes(data)


def snapshot():
    return {path: path.read_bytes() if path.is_file() else None for path in Path().rglob("*")}


def test_there_are_at_least_sixty():
    """Catches cases that shadow each other under one name (a repeated key of a dict is no error in Python)."""
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    written = [line for line in lines if line.startswith('    "') and '": (' in line]
    assert len(written) == len(MALFORMED) >= 60


@pytest.mark.slow
@pytest.mark.parametrize("command", ["plan", "run"])
@pytest.mark.parametrize("name", MALFORMED)
def test_one_line_exit_code_2_and_nothing_touched(folder, command, name):
    """Catches a traceback, a hang, a message of many lines or of kilobytes, one that is about something else, and
    files or folders left behind.
    """
    text, message = MALFORMED[name]
    write(text)
    before = snapshot()
    done = CliRunner().invoke(app, [command, "sweep.yaml"])
    assert done.exit_code == 2
    assert done.stdout == ""
    assert message in done.stderr
    assert done.stderr.startswith("kvcomm: ")
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.rstrip("\n").isprintable()
    assert len(done.stderr) < 1200
    assert snapshot() == before


@pytest.mark.slow
@pytest.mark.parametrize("name", ["not UTF-8", "huge grid", "control characters in a value"])
def test_the_same_in_a_process_of_its_own(folder, name):
    """Catches what the test runner hides: text on stdout, a traceback at exit, a locale that cannot print it."""
    text, message = MALFORMED[name]
    write(text)
    before = snapshot()
    done = subprocess.run(
        [sys.executable, "-c", "from sweeps.cli import main; main()", "run", "sweep.yaml"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LC_ALL": "C", "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert snapshot() == before
