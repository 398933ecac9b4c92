"""Records read back from Parquet are those that were written."""

import pyarrow.parquet as pq

from harness.results.read_back import counted, read_result, read_rows
from harness.results.results_writer import ResultsWriter
from harness.spec import TrialSpec


def test_written_and_read_back_are_equal(tmp_path, make_result):
    """Catches values that change on the way: rounding, time zones, order, None that becomes NaN."""
    writer = ResultsWriter(tmp_path, "s")
    results = [make_result(TrialSpec(method="kvcomm", seed=seed), sweep="s", samples=3) for seed in (0, 1)]
    for result in results:
        writer.write(result)
    writer.close()
    back = [read_result(tmp_path / "s", row) for row in read_rows(tmp_path / "s")]
    by_trial = {result.trial.trial_id: result for result in back}
    assert [by_trial[result.trial.trial_id] for result in results] == results


def test_the_attempt_that_counts(tmp_path, make_result):
    """Catches a later failure that hides a success, and an earlier failure that hides a later one."""
    writer = ResultsWriter(tmp_path, "s")
    good, bad = TrialSpec(), TrialSpec(seed=1)
    for spec, status, attempt in [
        (good, "error", 1),
        (good, "ok", 2),
        (good, "killed", 3),
        (bad, "oom", 2),
        (bad, "error", 1),
    ]:
        writer.write(make_result(spec, sweep="s", status=status, attempt=attempt))
    writer.close()
    rows = counted(read_rows(tmp_path / "s"))
    assert {row.trial_id: (row.status, row.attempt) for row in rows} == {
        good.trial_id: ("ok", 2),
        bad.trial_id: ("oom", 2),
    }


def test_columns_of_other_versions(tmp_path, make_result):
    """Catches results of an earlier or a later version that can no longer be shown."""
    spec = TrialSpec()
    writer = ResultsWriter(tmp_path, "s")
    writer.write(make_result(spec, sweep="s"))
    writer.close()
    path = tmp_path / "s" / "turns" / f"{spec.trial_id}-1.parquet"
    with pq.ParquetFile(path) as file:
        table = file.read()
    table = table.drop_columns(["memory_bytes"]).append_column("of_tomorrow", table["ttft_s"])
    pq.write_table(table, path)
    (row,) = read_rows(tmp_path / "s")
    assert {turn.memory_bytes for turn in read_result(tmp_path / "s", row).turns} == {None}
