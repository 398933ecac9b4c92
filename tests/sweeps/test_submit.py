"""Jobs: what is sent, how the ways in which that fails read, and real jobs of a real head."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray_head
import strangers
from chaos_sweep import write_model
from ray.dashboard.modules.job.common import JobStatus
from tiny_files import write_gguf
from typer.testing import CliRunner

import sweeps.submit
from harness.results.sweep_folder import read_trials
from sweeps.cli import app
from sweeps.jobs.job import Job, entrypoint
from sweeps.language.strict_yaml import SweepError
from sweeps.language.sweep_spec import load_sweep
from sweeps.submit import Auth, Cluster, JobError

ROOT = Path(__file__).parents[2]

SWEEP = """
name: tiny
workload: {name: recall, limit: 12}
max_new_tokens: 4
grid:
  agents: [2]
  method: [dense, kvcomm]
"""


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    Path("sweep.yaml").write_text(SWEEP)


def kvcomm(*arguments):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def job(*overrides, results="/results"):
    return Job(load_sweep(Path("sweep.yaml"), overrides), results)


@pytest.mark.parametrize(
    ("results", "argument"),
    [
        ("/results", "/results"),
        ("~/kvcomm-results", "~/kvcomm-results"),
        ("~/my results; rm -rf x", "~/'my results; rm -rf x'"),
        ("s3://bucket/a?region=us-west-2", "'s3://bucket/a?region=us-west-2'"),
        ("/a$(b)", "'/a$(b)'"),
    ],
)
def test_the_command_of_a_job(results, argument):
    """Catches a home that is not the head's, and text that the head's shell takes for commands."""
    command = f"python -m sweeps.cli run sweep.yaml --results {argument}"
    assert entrypoint("sweep.yaml", results) == command
    assert entrypoint("sweep.yaml", results, allow_unsafe_code=True) == f"{command} --allow-unsafe-code"


def test_what_is_packed(tmp_path):
    """Catches results, caches and credentials that are sent, code or data that is not, and a commit that is lost."""
    for name in ("results/tiny/x.parquet", ".git/config", ".venv/x", "data/recall.jsonl", "data/huge.bin"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("?")
    folder = tmp_path / "package"
    folder.mkdir()
    job("workload.limit=2").pack(folder)
    packed = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    code = {path for path in packed if path.partition("/")[0] in ("kvcomm_core", "harness", "sweeps", "analysis")}
    assert packed - code == {"pyproject.toml", "sweep.yaml", "git-state.json", "data/recall.jsonl"}
    assert {"sweeps/submit.py", "sweeps/smoke.yaml", "harness/agents/recall/reader.txt"} <= code
    assert not [path for path in code if path.endswith(".pyc")]
    zipped = Path(shutil.make_archive(str(tmp_path / "sent"), "zip", folder))
    assert zipped.stat().st_size < 1.5e6, "Ray sends a zip file"
    assert load_sweep(folder / "sweep.yaml").trials == job("workload.limit=2").sweep.trials

    state = {"git_commit": "a" * 40, "git_dirty": True}
    (folder / "git-state.json").write_text(json.dumps(state))
    code = "from harness.environment import capture_environment as c; print(c().git_commit, c().git_dirty)"
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    assert done.stdout == f"{'a' * 40} True\n"


def test_named_data_is_packed_where_it_was(tmp_path):
    """Catches a job that looks for its questions in vain, or runs other trials than those of the sweep."""
    Path("mine").mkdir()
    Path("mine/some.jsonl").write_text("{}")
    folder = tmp_path / "package"
    folder.mkdir()
    job("workload={name: gsm8k, path: mine/some.jsonl}").pack(folder)
    assert (folder / "mine" / "some.jsonl").is_file()
    job("workload={name: gsm8k, path: /data/some.jsonl}")
    with pytest.raises(SweepError, match=r"workload.path is 'mine/none.jsonl'; allowed: something below"):
        job("workload={name: gsm8k, path: mine/none.jsonl}")
    with pytest.raises(SweepError, match=r"workload.path is '../x'; allowed"):
        job("workload={name: gsm8k, path: ../x}")


def test_a_team_and_its_prompts_are_packed(tmp_path):
    """Catches a job that looks for its agents in vain, or whose trials have other ids than those of the sweep here."""
    Path("mine").mkdir()
    Path("mine/one.txt").write_text("[system]\nS\n[user]\n{user_question}\n")
    Path("mine/team.yaml").write_text("roles: [{name: One, prompt: one.txt}]\nreads: {}\n")
    Path("mine/q.jsonl").write_text('{"question": "Why?"}\n')
    Path("mine/sweep.yaml").write_text(
        "name: x\nteam: team.yaml\nworkload: {name: questions, path: q.jsonl, grader: none}\n"
    )
    folder = tmp_path / "package"
    folder.mkdir()
    sent = Job(load_sweep(Path("mine/sweep.yaml")), "/results")
    sent.pack(folder)
    os.chdir(folder)
    assert load_sweep(Path("sweep.yaml")).trials == sent.sweep.trials
    os.chdir(folder / "harness")
    with pytest.raises(
        SweepError, match=r"team has the file '../mine/team.yaml'; allowed: files below the current folder"
    ):
        Job(load_sweep(folder / "sweep.yaml", ["team=../mine/team.yaml", "workload=recall"]), "/results")


def test_what_would_mean_something_else_there_is_refused():
    """Catches results in a folder that Ray deletes, and a model that only this machine has."""
    with pytest.raises(SweepError, match=r"--results is 'results'; allowed: a URI, or a path that begins with / or ~/"):
        job(results="results")
    Path("embedded").mkdir()
    job()
    Path("model").mkdir()
    with pytest.raises(SweepError, match=r"model is './model', which lies on this machine; allowed: embedded, "):
        job("model=./model")


BAD = {
    "a sweep that is no sweep": (["submit", "sweep.yaml", "--set", "agent=3"], "did you mean agents?"),
    "no profile": (["submit", "sweep.yaml", "--profile", "x"], "this sweep has no profiles"),
    "neither": (["submit"], "submit is given neither a sweep nor --attach; allowed: one of them"),
    "both": (["submit", "sweep.yaml", "--attach", "x"], "submit is given a sweep and --attach; allowed: one of them"),
    "no address": (["submit", "sweep.yaml", "--address", "head:8265"], "--address is 'head:8265'; allowed: http://"),
    "no port": (["submit", "sweep.yaml", "--address", "http://head:x"], "--address is 'http://head:x'; allowed"),
    "no host": (["submit", "sweep.yaml", "--address", "http://no-such-host.invalid:1"], "cannot be reached: "),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_nothing_is_sent(name):
    """Catches tracebacks, and jobs sent for sweeps that could not run."""
    arguments, said = BAD[name]
    done = kvcomm(*arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_nobody_listens():
    """Catches minutes of waiting, and a traceback of urllib3."""
    address = f"http://127.0.0.1:{ray_head.free_port()}"
    done = kvcomm("submit", "sweep.yaml", "--address", address)
    assert (done.exit_code, done.stderr) == (2, f"kvcomm: {address} cannot be reached: Connection refused\n")


def made_up_cluster(status, code=None, message=None):
    """A cluster whose only job has ended."""

    async def tail(job_id):
        for line in ("one\n", "two\n"):
            yield line

    details = SimpleNamespace(status=JobStatus(status), driver_exit_code=code, message=message)
    cluster = object.__new__(Cluster)
    cluster._address, cluster._auth = "http://head:8265", Auth.DISABLED
    cluster._client = SimpleNamespace(get_job_info=lambda job_id: details, tail_job_logs=tail)
    return cluster


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [("SUCCEEDED", 0, 0), ("FAILED", 1, 1), ("FAILED", 2, 2), ("FAILED", 130, 130), ("STOPPED", None, 130)],
)
def test_the_exit_code_comes_back(status, code, expected, capsys):
    """Catches a script that takes a failed sweep for a good one."""
    assert made_up_cluster(status, code).follow("job", lambda line: None) == expected
    assert capsys.readouterr().out == "one\ntwo\n"


@pytest.mark.parametrize("drops", [1, 4, 5])
def test_a_lost_connection_is_taken_up_again(drops, monkeypatch, capsys):
    """Catches a job left alone when its head's proxy drops the connection, a line printed twice or not at all, and a
    head that is gone for good and asked for ever."""
    monkeypatch.setattr(sweeps.submit, "_POLL_S", 0.0)
    cluster, left = made_up_cluster("SUCCEEDED", 0), [drops]

    async def tail(job_id):
        yield "one\n"
        yield "two\n" if left[0] < drops else "tw"
        left[0] -= 1
        if left[0] >= 0:
            raise RuntimeError("WebSocket closed with code 1006")
        yield "three\n"

    cluster._client.tail_job_logs = tail
    if drops < sweeps.submit._RETRIES:
        assert cluster.follow("job", lambda line: None) == 0
        assert capsys.readouterr().out == "one\ntwo\nthree\n"
    else:
        with pytest.raises(JobError, match="closed with code 1006"):
            cluster.follow("job", lambda line: None)


@pytest.mark.parametrize("code", [None, 127, 137])
def test_a_job_that_died_is_one_line(code):
    """Catches the exit code of a shell, or of a kill, that passes for one of ours."""
    with pytest.raises(JobError, match=r"^job raysubmit_1 died") as caught:
        made_up_cluster("FAILED", code, "python: not found\nsomewhere\n" * 99).follow("raysubmit_1", print)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """A head of ours that asks for a token, and the file with the token."""
    token = ray_head.token_file(tmp_path_factory.mktemp("head"))
    with ray_head.ray_head("token", RAY_AUTH_TOKEN_PATH=str(token)) as head:
        yield head, token


def submit(*arguments, **variables):
    """In a process of its own, since Ray reads the mode of authentication once."""
    return subprocess.run(
        [sys.executable, "-m", "sweeps.cli", "submit", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=500,
    )


@pytest.mark.slow
@pytest.mark.ray
def test_jobs_on_a_real_head(head, tmp_path, mlflow_db):
    """Catches a package that lacks something, an exit code or a log that gets lost, and a job that starts afresh
    although another one has finished its trials."""
    (address, _, _), token = head
    options = ["--address", address]
    ours = {"RAY_AUTH_TOKEN_PATH": str(token)}
    model = write_model(tmp_path)
    small = [f"model={model}", "workload=recall", "agents=2", "kvcomm.gamma=0.3", "max_new_tokens=4", "replicas=1"]
    smoke = [ROOT / "sweeps" / "smoke.yaml", *options, *(f"--set={entry}" for entry in small), "--limit=2"]
    smoke += ["--tracking-uri", f"sqlite:///{mlflow_db}"]
    results = tmp_path / "bucket"
    smoke += ["--results", results.as_uri()]

    # Two of four fail, as their model cannot be loaded.
    broken = tmp_path / "broken.gguf"
    write_gguf(broken, leave_out=("blk.0.attn_q.weight",))  # which is seen when it is loaded
    failing = ["--set", f"model=[{model}, {broken}]"]
    sent = submit(*smoke, *failing, "--no-wait", XDG_CACHE_HOME=str(tmp_path / "here"), **ours)
    assert (sent.returncode, sent.stderr) == (0, "")
    assert "asks for no token" not in sent.stdout
    [line] = [line for line in sent.stdout.splitlines() if line.startswith("follow: kvcomm submit ")]
    done = submit(*line.removeprefix("follow: kvcomm submit ").split(), **ours)
    assert (done.returncode, done.stderr) == (1, "")
    assert "4 trials, 0 done, 4 to run" in done.stdout
    assert "/4] ok in " in done.stdout
    rows = read_trials(results / "smoke").to_pylist()
    assert sorted(row["status"] for row in rows) == ["error", "error", "ok", "ok"]
    assert len({row["git_commit"] for row in rows}) == 1

    done = submit(*smoke, **ours)
    assert (done.returncode, done.stderr) == (0, "")
    assert "nothing to run: 2 of 2 trials are done" in done.stdout
    assert len(read_trials(results / "smoke")) == 4

    done = submit("--attach", "raysubmit_none", *options, **ours)
    assert done.returncode == 2
    assert done.stderr.startswith(f"kvcomm: {address}: ")
    assert "raysubmit_none" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.ray
def test_a_head_that_wants_a_token(head, tmp_path):
    """Catches a token that is made or left behind, one that is not sent, and a refusal that is not understood."""
    (address, _, _), right = head
    wrong = ray_head.token_file(tmp_path)
    home = tmp_path / "home"
    home.mkdir()
    attach = ["--attach", "raysubmit_none", "--address", address]
    for options, token in [([], None), ([], wrong), (["--auth", "disabled"], right)]:
        variables = {"RAY_AUTH_TOKEN_PATH": str(token)} if token else {}
        done = submit(*attach, *options, HOME=str(home), **variables)
        assert done.returncode == 2
        assert done.stderr.startswith(f"kvcomm: {address} wants a token that is not ours; allowed: --auth token with")
        assert len(done.stderr.splitlines()) == 1
    assert list(home.iterdir()) == [], "no token was made"
    done = submit(*attach, HOME=str(home), RAY_AUTH_TOKEN_PATH=str(right))
    assert "raysubmit_none does not exist" in done.stderr


@pytest.mark.slow
def test_nobody_sends_jobs_to_a_head_without_its_token(head, tmp_path):
    """Catches a head of ours that listens to the network, or lets somebody on this machine run a command."""
    doors = strangers.doors(head[0].pid)
    assert doors
    assert [door for door in doors if not door.is_on_loopback] == []
    proof = tmp_path / "proof"
    for door in doors:
        for path in ("/api/jobs/", "/api/job_agent/jobs/"):
            answer = strangers.ask_http(door.port, "POST", path, {"entrypoint": f"touch {proof}"})
            assert answer is None or answer[0] in (401, 403, 405), (door, answer)
    assert not proof.exists()
