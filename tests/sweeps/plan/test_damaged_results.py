"""Damaged files of results, given to the commands themselves: a table of what is damaged and which line comes.

Each is named by ``status`` and ``plan``, refused by ``show`` with one line and exit code 2, set aside by ``run``, and
its trial is run again.
"""

import errno
import json
import os
import shutil
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_up import with_fidelity
from typer.testing import CliRunner

from harness.results.arrow_schemas import SCHEMAS
from harness.results.read_back import read_result, read_rows
from harness.results.results_writer import ResultsWriter
from sweeps.cli import app
from sweeps.language.sweep_spec import load_sweep
from sweeps.tracking.run_view import view_of

SWEEP = """
name: small
model: random:smollm2-135m
workload: {name: recall, limit: 2}
agents: 2
grid:
  method: [dense, kvcomm]
"""
NAN, INF = float("nan"), float("inf")
DEEP = '{"a":' * 2000 + "1" + "}" * 2000


@pytest.fixture
def trials(tmp_path, monkeypatch, make_result):
    """A folder with two whole trials in ``results``; the ids of both."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    Path("sweep.yaml").write_text(SWEEP)
    sweep = load_sweep(Path("sweep.yaml"))
    writer = ResultsWriter(Path("results"), "small")
    writer.write_text("sweep.yaml", sweep.text)
    for trial in sweep.trials:
        result = make_result(trial, sweep="small")
        writer.write(with_fidelity(result, lambda _: 0.05) if trial.method == "kvcomm" else result)
    writer.close()
    return tuple(trial.trial_id for trial in sweep.trials)


def kvcomm(*arguments):
    """The command, which must not end in a traceback."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert isinstance(done.exception, SystemExit | None), done.exception
    assert "Traceback" not in done.output
    return done


def refused(*arguments):
    """The line with which the command refuses; ``run`` has said before what it is about to do."""
    done = kvcomm(*arguments)
    assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1)
    assert arguments[0] == "run" or done.stdout == ""
    return done.stderr


def column(name, value, kind=None):
    """Another value in the first row of a column, or a column of another type."""

    def change(rows):
        index = rows.schema.get_field_index(name)
        field = rows.schema.field(index)
        if kind is not None:
            return rows.set_column(index, name, pa.array([value] * len(rows), kind))
        values = [value, *rows[name].to_pylist()[1:]]
        return rows.set_column(index, field.with_nullable(True), pa.array(values, field.type))

    return change


def spec(**changes):
    """Other fields in the spec."""

    def change(rows):
        given = json.loads(rows["spec_json"][0].as_py())
        return column("spec_json", json.dumps({**given, **changes}))(rows)

    return change


def without(name):
    """A column less."""
    return lambda rows: rows.drop_columns([name])


def rows_of(*indices):
    """Other rows."""
    return lambda rows: rows.take(list(indices))


CHANGES = {
    "spec that is no JSON": ("trials", column("spec_json", "{nope"), "spec_json is '{nope': Expecting property name"),
    "spec that is a list": ("trials", column("spec_json", "[1]"), "spec_json is '[1]'; allowed: one JSON object"),
    "spec nested deeply": ("trials", column("spec_json", DEEP), "nested more than 50 levels deep"),
    "brackets without end": ("trials", column("spec_json", "[" * 100_000), "nested more than 50 levels deep"),
    "spec of too many digits": ("trials", column("spec_json", f'{{"seed": {"9" * 5000}}}'), "Exceeds the limit"),
    "spec with NaN": ("trials", spec(fidelity=NAN), "NaN is no JSON; allowed: finite numbers"),
    "spec with a key twice": ("trials", column("spec_json", '{"seed": 1, "seed": 2}'), "key 'seed' is given twice"),
    "spec without a workload": ("trials", column("spec_json", "{}"), "spec_json: workload is None; allowed: an object"),
    "spec whose workload is text": ("trials", spec(workload="recall"), "workload is 'recall'; allowed: an object"),
    "spec of another method": ("trials", spec(method="dense"), "method is 'dense'; allowed: 'kvcomm', as in the"),
    "spec of another model": ("trials", spec(model=3), "spec_json: model is 3; allowed: 'random:smollm2-135m'"),
    "spec whose parameters are text": ("trials", spec(kvcomm="x"), "kvcomm is 'x'; allowed: an object or null"),
    "spec whose shards are text": ("trials", spec(shards="x"), "spec_json: shards is 'x'; allowed: 0 or more"),
    "spec that is null": ("trials", column("spec_json", None), "row 1: spec_json is null; allowed: a value"),
    "spec that is a number": (
        "trials",
        column("spec_json", 3, pa.int64()),
        "spec_json is of type int64; allowed: string",
    ),
    "spec that is not there": ("trials", without("spec_json"), "has no column spec_json"),
    "environment that is no JSON": ("trials", column("env_json", "nope"), "env_json is 'nope': Expecting value"),
    "environment that is a list": ("trials", column("env_json", "[1]"), "env_json is '[1]'; allowed: one JSON object"),
    "environment nested deeply": ("trials", column("env_json", DEEP), "nested more than 50 levels deep"),
    "packages that are text": (
        "trials",
        column("env_json", '{"packages": "x"}'),
        "packages is 'x'; allowed: an object",
    ),
    "GPUs that are a number": ("trials", column("env_json", '{"gpus": 3}'), "gpus is 3; allowed: a list of names"),
    "unknown status": (
        "trials",
        column("status", "fine"),
        "status is 'fine'; allowed: ok, error, oom, timeout, killed",
    ),
    "status that is a number": ("trials", column("status", 3, pa.int64()), "status is of type int64; allowed: string"),
    "attempt that is text": (
        "trials",
        column("attempt", "1", pa.string()),
        "attempt is of type string; allowed: int64",
    ),
    "attempt of another name": ("trials", column("attempt", 2), "holds rows of "),
    "accuracy that is NaN": ("trials", column("accuracy", NAN), "row 1: accuracy is nan; allowed: 0 to 1"),
    "accuracy in percent": ("trials", column("accuracy", 87.5), "row 1: accuracy is 87.5; allowed: 0 to 1"),
    "accuracy that is text": ("trials", column("accuracy", "x", pa.string()), "accuracy is of type string"),
    "no end": ("trials", without("ended_at"), "has no column ended_at"),
    "start unknown": ("trials", column("started_at", None), "row 1: started_at is null; allowed: a value"),
    "end that is text": ("trials", column("ended_at", "now", pa.string()), "ended_at is of type string; allowed: time"),
    "end after all dates": (
        "trials",
        lambda rows: rows.set_column(
            rows.schema.get_field_index("ended_at"),
            rows.schema.field("ended_at"),
            pa.array([2**62], pa.int64()).cast(pa.timestamp("us", tz="UTC")),
        ),
        "row 1: ended_at is 4611686018427387904; allowed: microseconds from 1970 to 9999",
    ),
    "no rows": ("trials", lambda rows: rows.slice(0, 0), "has 0 rows instead of one"),
    "two rows": ("trials", rows_of(0, 0), "has 2 rows instead of one"),
    "two columns of a name": ("turns", lambda t: t.append_column("mode", t["mode"]), "has two columns mode"),
    "time that is NaN": ("turns", column("ttft_s", NAN), "row 1: ttft_s is nan; allowed: seconds above 0"),
    "time without end": ("turns", column("ttft_s", INF), "row 1: ttft_s is inf; allowed: seconds above 0"),
    "time below 0": ("turns", column("decode_s", -1.0), "row 1: decode_s is -1.0; allowed: seconds, from 0"),
    "time of 0": ("turns", column("ttft_s", 0.0), "row 1: ttft_s is 0.0; allowed: seconds above 0"),
    "time that is null": ("turns", column("ttft_s", None), "row 1: ttft_s is null; allowed: a value"),
    "time that is text": ("turns", column("ttft_s", "x", pa.string()), "ttft_s is of type string; allowed: double"),
    "no time": ("turns", without("ttft_s"), "has no column ttft_s"),
    "batch of none": ("turns", column("batch_size", 0), "row 1: batch_size is 0; allowed: 1 or more"),
    "prompt of no tokens": ("turns", column("prompt_tokens", 0), "row 1: prompt_tokens is 0; allowed: 1 or more"),
    "tokens below 0": ("turns", column("reused_tokens", -5), "row 1: reused_tokens is -5; allowed: 0 or more"),
    "top-1 share above 1": (
        "turns",
        column("top1_continuation", 1.5),
        "row 1: top1_continuation is 1.5; allowed: 0 to 1",
    ),
    "no token compared": (
        "turns",
        column("continuation_tokens", 0),
        "row 1: continuation_tokens is 0; allowed: 1 or more",
    ),
    "KL that is NaN": ("turns", column("kl_next_token", NAN), "row 1: kl_next_token is nan; allowed: finite numbers"),
    "unknown mode": ("turns", column("mode", "x"), "row 1: mode is 'x'; allowed: dense, reuse, partial"),
    "turn given twice": ("turns", rows_of(0, 1, 1), "has two rows of the same arm, sample_index, round, agent_index"),
    "turns of another trial": ("turns", column("trial_id", "0" * 12), "holds rows of 000000000000-1"),
    "unknown outcome": ("samples", column("outcome", "x"), "row 1: outcome is 'x'; allowed: correct, wrong"),
    "sample given twice": ("samples", rows_of(0, 1, 1), "has two rows of the same sample_index"),
    "latency below 0": ("samples", column("latency_s", -1.0), "latency_s is -1.0; allowed: seconds, from 0"),
}


def damage(trial_id, table, change):
    """Change a file of the results; where it is."""
    path = Path("results/small") / table / f"{trial_id}-1.parquet"
    pq.write_table(change(pq.read_table(path)), path, write_page_checksum=True)
    return path


@pytest.mark.slow
@pytest.mark.parametrize(("table", "change", "line"), CHANGES.values(), ids=CHANGES)
def test_a_file_that_is_no_result(trials, table, change, line):
    """Catches a traceback, and a wrong number taken for a result."""
    path = damage(trials[1], table, change)
    done = kvcomm("status", "results")
    assert done.exit_code == 0
    assert f"{path} is damaged and not counted: " in done.stdout
    assert line in done.stdout
    message = refused("show", "results")
    assert message.startswith(f"kvcomm: {path} is damaged: ")
    assert line in message


@pytest.mark.slow
@pytest.mark.parametrize("case", ["spec of another method", "time that is NaN", "sample given twice"])
def test_a_trial_whose_file_is_no_result_is_run_again(trials, made_up, case):
    """Catches damage that only some commands find, and a trial that counts as done for ever."""
    table, change, line = CHANGES[case]
    path = damage(trials[1], table, change)
    content = path.read_bytes()
    assert str(path) in refused("compare", "results", "results")
    done = kvcomm("plan", "sweep.yaml")
    assert (done.exit_code, f"damaged: {path}: " in done.stdout, line in done.stdout) == (0, True, True)
    _, ran = made_up
    done = kvcomm("run", "sweep.yaml", "--in-process")
    assert (done.exit_code, line in done.stdout) == (0, True)
    assert [trial.trial_id for trial in ran] == [trials[1]]
    assert Path("results/small/damaged", table, path.name).read_bytes() == content
    assert kvcomm("show", "results").exit_code == 0


def a_pipe(path):
    path.unlink()
    os.mkfifo(path)


def a_folder(path):
    path.unlink()
    path.mkdir()


def a_link_to_nothing(path):
    path.unlink()
    path.symlink_to("nowhere")


@pytest.mark.parametrize("table", ["trials", "turns"])
@pytest.mark.parametrize("change", [a_pipe, a_folder, a_link_to_nothing])
def test_something_that_is_no_file(trials, table, change):
    """Catches a reader that waits for a writer for ever, and a trial that is shown without its turns."""
    path = Path("results/small") / table / f"{trials[1]}-1.parquet"
    change(path)
    assert f"{path} is damaged and not counted: no Parquet file" in kvcomm("status", "results").stdout
    assert f"{path} cannot be read as Parquet: " in refused("show", "results")


def test_columns_of_other_versions(trials):
    """Catches an older file without the columns that came later, or a newer one with one more, being refused."""
    for trial in trials:
        for table, gone in (("trials", ["exclusive", "kl_mean", "anchors_at_end"]), ("turns", ["arm", "batch_size"])):
            path = Path("results/small") / table / f"{trial}-1.parquet"
            rows = pq.read_table(path).drop_columns(gone)
            pq.write_table(rows.append_column("later", pa.array([{"a": 1}] * len(rows))), path)
    assert "damaged" not in kvcomm("status", "results").stdout
    assert kvcomm("show", "results", "--json").exit_code == 0
    assert kvcomm("plan", "sweep.yaml", "--set", "agents=3").exit_code == 0


@pytest.mark.slow
def test_files_without_any_column_that_may_be_unknown(trials, blank_pictures):
    """Catches a command that needs a column of a later version, such as the divergence over an answer."""
    for trial in trials:
        for table in ("trials", "turns", "samples"):
            path = Path("results/small") / table / f"{trial}-1.parquet"
            known = [field.name for field in SCHEMAS[table] if not field.nullable]
            pq.write_table(pq.read_table(path).select(known), path)
    assert "damaged" not in kvcomm("status", "results").stdout
    for command in (
        ("show", "results"),
        ("show", "results", "--json"),
        ("plan", "sweep.yaml", "--set", "agents=3"),
        ("compare", "results", "results"),
        ("report", "results", "--out", "report.html"),
        ("figures", "results", "--out", "figures"),
    ):
        assert kvcomm(*command).exit_code == 0, command
    for row in read_rows(Path("results/small")):
        view = view_of(read_result(Path("results/small"), row), "a name", {})
        assert not {"kl_mean", "kl_continuation_mean"} & {name for name, _, _ in view.metrics}


def test_columns_that_no_version_knows_and_that_do_not_go_together(trials):
    """Catches Arrow's own error for two files whose unknown columns differ in type."""
    for trial, value in zip(trials, ("x", 1), strict=True):
        path = Path("results/small/trials") / f"{trial}-1.parquet"
        pq.write_table(pq.read_table(path).append_column("later", pa.array([value])), path)
    assert "the files in results/small/trials do not go together" in refused("show", "results")


SNAPSHOT = {
    "sweep": "small",
    "host": "elsewhere",
    "pid": 1,
    "process_started_s": 0.0,
    "started_at": "2026-01-02T03:04:05Z",
    "updated_at": "2026-01-02T03:04:05Z",
    "n_to_run": 1,
    "n_by_status": {},
    "n_running": 0,
    "samples_done": 0,
    "trials_per_minute": None,
    "seconds_left": None,
    "replicas_ready": 0,
    "replicas_wanted": 1,
    "working": [],
    "last_failures": [],
}
RUNNING = {
    "empty": (b"", "content is b'': Invalid JSON"),
    "brackets without end": (b"[" * 100_000, "Invalid JSON: recursion limit exceeded"),
    "not UTF-8": (b"\xff\xfe", "Invalid JSON"),
    "a number": (b"3", "content is 3: "),
    "no process id": (json.dumps({**SNAPSHOT, "pid": -1}).encode(), "pid is -1: Input should be greater than or equal"),
    "process id without end": (json.dumps({**SNAPSHOT, "pid": 10**30}).encode(), "pid is 1"),
    "a moment nowhere": (json.dumps({**SNAPSHOT, "updated_at": "2026-01-02"}).encode(), "updated_at is '2026-01-02'"),
    "a moment without a zone": (
        json.dumps({**SNAPSHOT, "updated_at": "2026-01-02T03:04:05"}).encode(),
        "updated_at is '2026-01-02T03:04:05': Input should have timezone info",
    ),
    "seconds that are NaN": (json.dumps({**SNAPSHOT, "seconds_left": NAN}).encode(), "Input should be a finite number"),
}


@pytest.mark.parametrize(("content", "line"), RUNNING.values(), ids=RUNNING)
def test_a_damaged_snapshot_of_a_running_sweep(trials, content, line):
    """Catches a traceback of ``status``, or a controller that is looked for by a process id which cannot be one."""
    Path("results/small/running.json").write_bytes(json.dumps(SNAPSHOT).encode())
    assert "its controller is gone" in kvcomm("status", "results").stdout
    Path("results/small/running.json").write_bytes(content)
    message = refused("status", "results")
    assert message.startswith("kvcomm: results/small/running.json cannot be read: ")
    assert line in message
    assert len(message) < 500


@pytest.mark.parametrize("name", ["running.json", ".lock"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_pipes_and_folders_in_place_of_files(trials, made_up, name, make):
    """Catches a command that waits for ever for the other end of a pipe."""
    path = Path("results/small", name)
    path.unlink(missing_ok=True)
    make(path)
    command = ("status", "results") if name == "running.json" else ("run", "sweep.yaml", "--in-process", "--limit", "1")
    assert str(path) in refused(*command)


def test_a_lock_that_leads_elsewhere(trials, made_up, monkeypatch):
    """Catches a lock that is opened through a link, which empties the file at its other end."""
    Path("precious").write_text("precious")
    lock = Path("results/small/.lock")
    lock.unlink()
    lock.symlink_to(Path("precious").absolute())
    message = refused("run", "sweep.yaml", "--in-process", "--limit", "1")
    assert f"{lock} is a link, a folder or a socket; allowed: a regular file" in message
    monkeypatch.delitem(sys.modules, "mlflow")  # it only seems to be missing
    assert str(lock) in refused("mlflow-sync", "results")
    assert Path("precious").read_text() == "precious"


def test_a_lock_that_was_written_to(trials, made_up):
    """Catches a lock file that is emptied: it may be a file of somebody else under another name."""
    lock = Path("results/small/.lock")
    lock.write_text("precious")
    assert kvcomm("run", "sweep.yaml", "--in-process", "--limit", "1").exit_code == 0
    assert lock.read_text() == "precious"


def test_a_folder_of_partial_files_that_leads_elsewhere(trials, made_up):
    """Catches a run that empties a folder of somebody else through a link."""
    Path("precious").mkdir()
    Path("precious/file").touch()
    partial = Path("results/small/.partial")
    partial.rmdir()
    partial.symlink_to(Path("precious").absolute())
    assert f"a link where a folder must be ({partial})" in refused("run", "sweep.yaml", "--in-process", "--limit", "1")
    assert Path("precious/file").exists()


def test_what_stands_where_folders_should_be(trials, made_up):
    """Catches a traceback for a file in place of a folder, and a message that does not say which."""
    shutil.rmtree("results/small/.partial")
    Path("results/small/.partial").touch()
    assert "results/small/.partial" in refused("run", "sweep.yaml", "--in-process", "--limit", "1")
    shutil.rmtree("results/small")
    Path("results/small").touch()
    assert "results holds no results" in refused("show", "results")
    assert os.strerror(errno.ENOTDIR) in refused("run", "sweep.yaml", "--in-process", "--limit", "1")


BOUNDS = {
    "400 digits": f"accuracy_change < {'9' * 400}",
    "400 digits in a product": f"{'9' * 400} * {'9' * 50} > accuracy_a",
    "a float without end": "ttft_ratio > 1e999",
    "hexadecimal": f"0x{'f' * 400} < 1",
}


@pytest.mark.parametrize("check", BOUNDS.values(), ids=BOUNDS)
def test_numbers_beyond_a_float_in_a_check(trials, check):
    """Catches ``OverflowError`` where a whole number meets a float."""
    assert "--fail-on is a number is too large; allowed: finite" in refused(
        "compare", "results", "results", "--fail-on", check
    )


DEEP_CHECKS = {
    "brackets": f"{'(' * 240}1 < 2{')' * 240}",
    "minus signs": f"{'-' * 480}1 < 2",
    "sums": f"1{' + 1' * 120} < 2",
    "negations": f"{'not ' * 120}1 < 2",
    "half of a surrogate pair": "\udcff < 1",
    "letters without end": f"{'x' * 480} < 1",
}


@pytest.mark.parametrize("check", DEEP_CHECKS.values(), ids=DEEP_CHECKS)
def test_deep_checks(trials, check):
    """Catches Python's own limits met by a check: it is judged, or refused with one short line."""
    done = kvcomm("compare", "results", "results", "--fail-on", check)
    assert done.exit_code in (0, 1, 2)
    assert done.exit_code != 2 or (len(done.stderr.splitlines()) == 1 and len(done.stderr) < 1000)


@pytest.mark.slow
def test_a_pipe_in_place_of_the_sweep_file(trials, made_up, tmp_path, blank_pictures):
    """Catches a report that waits for ever for the other end of a pipe."""
    path = Path("results/small/sweep.yaml")
    path.unlink()
    os.mkfifo(path)
    done = kvcomm("report", "results", "--out", "report.html")
    assert done.exit_code == 0
    assert "is no regular file" in Path("report.html").read_text()
    assert kvcomm("figures", "results", "--out", "figures").exit_code in (0, 1)
