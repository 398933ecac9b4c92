"""Trials that are interrupted and begun again: their rows must be those of a trial that was left in peace."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from same_rows import differences
from tiny_models import tiny_chat_model

from harness.identity import IDENTITY_VERSION
from harness.results import checkpoint
from harness.results.checkpoint import Checkpoints, remove_checkpoint
from harness.results.trial_result import TrialResult
from harness.spec import TrialSpec
from harness.trials.runner import run_trial
from harness.workloads.recall import RecallSpec
from kvcomm_core.config import KVCommConfig, MethodConfig
from kvcomm_core.models.loading import LoadedModel

ALWAYS = 1e-9
"""Seconds between checkpoints that make one due at the end of every batch."""

CONFIG = KVCommConfig(gamma=1.0, max_anchors=3, window=2)
SPEC = TrialSpec(
    workload=RecallSpec(limit=7), agents=2, rounds=2, max_new_tokens=4, method="kvcomm", parameters=CONFIG, fidelity=1.0
)
FIVE = replace(SPEC, workload=RecallSpec(limit=5))
"""For tests of attempts that each go on for one batch: more items than anchors and than the window."""
SHORT = replace(SPEC, workload=RecallSpec(limit=3), rounds=1, fidelity=0.0)
"""For tests of what becomes of the one checkpoint that an attempt left."""
CONFIGS = [
    (replace(CONFIG, estimator=estimator, storage=storage, placement=placement), batch_size)
    for estimator, storage, placement, batch_size in (
        ("l2_norm", "model", "device", 1),
        ("l2_norm", "int8", "host", 3),
        ("upstream", "int8", "device", 1),
        ("upstream", "model", "host", 3),
        ("cosine", "int8", "host", 1),
        ("cosine", "model", "device", 3),
        ("nearest", "model", "host", 1),
        ("nearest", "int8", "device", 3),
        ("mean", "model", "device", 1),
        ("mean", "model", "host", 3),
        ("affine", "model", "device", 1),
        ("affine", "model", "host", 3),
    )
]
"""Every two values of two fields meet, but running sums with int8, which is refused."""

N_FAST = 4
"""The first four, with both values of storage, placement and batch size, are fast tests; the others are slow ones."""


class KilledError(BaseException):
    """Stands for the end of the process."""


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return tiny_chat_model()


@pytest.fixture(scope="module")
def undisturbed(model: LoadedModel) -> TrialResult:
    return run_trial(SPEC, model)


@pytest.fixture(scope="module")
def undisturbed_short(model: LoadedModel) -> TrialResult:
    return run_trial(SHORT, model)


@pytest.fixture
def sweep_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "sweep"
    folder.mkdir()
    return folder


def die_at(batch: int) -> Callable[[int, int], None]:
    """Die when the ``batch``-th batch of this attempt, from 1, is done and not yet in a checkpoint."""
    reports = []

    def on_sample(done: int, total: int) -> None:
        reports.append(done)
        if len(reports) == batch:
            raise KilledError

    return on_sample


def leave_one(spec: TrialSpec, model: LoadedModel, sweep_folder: Path, *, batches: int = 2) -> Path:
    """The folder of a checkpoint after ``batches`` batches, from an attempt that died in the next."""
    with pytest.raises(KilledError):
        run_trial(spec, model, on_sample=die_at(batches + 1), checkpoints=Checkpoints(sweep_folder, ALWAYS))
    return sweep_folder / "checkpoints" / spec.trial_id / "0"


def interrupted_all_the_time(spec: TrialSpec, model: LoadedModel, sweep_folder: Path) -> TrialResult:
    """A trial whose attempts each die in their second batch, until one comes to the end."""
    for attempt in range(1, 20):
        try:
            return run_trial(
                spec, model, attempt=attempt, on_sample=die_at(2), checkpoints=Checkpoints(sweep_folder, ALWAYS)
            )
        except KilledError:
            pass
    raise AssertionError("no attempt gets any further than the one before")


@pytest.mark.parametrize(
    ("config", "batch_size"),
    [
        pytest.param(
            config,
            batch_size,
            marks=[pytest.mark.slow] if number >= N_FAST else [],
            id=f"{config.estimator} {config.storage} {config.placement} {batch_size}",
        )
        for number, (config, batch_size) in enumerate(CONFIGS)
    ],
)
def test_rows_are_those_of_an_undisturbed_trial(
    config: KVCommConfig, batch_size: int, model: LoadedModel, sweep_folder: Path
) -> None:
    """Would catch anchors, means, use counts, ages or records that are lost, doubled or rounded on the way, at any
    border between batches."""
    spec = replace(FIVE, parameters=config, batch_size=batch_size)
    expected = run_trial(spec, model)
    assert expected.trial.error is None
    assert {turn.mode for turn in expected.turns} == {"dense", "reuse"}
    found = interrupted_all_the_time(spec, model, sweep_folder)
    assert differences(found, expected) == []
    assert found.messages == []
    attempts = -(-5 // batch_size)
    assert {r.attempt for r in (found.trial, *found.turns, *found.samples, *found.fidelity)} == {attempts}
    assert found.trial.resumed_from == (attempts - 1) * batch_size
    assert expected.trial.resumed_from == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "dtype"),
    [
        ({"method": "dense", "parameters": MethodConfig()}, torch.float32),
        ({"method": "cacheblend", "parameters": MethodConfig()}, torch.float32),
        ({"parameters": replace(CONFIG, fallback="partial", criterion="length", top_k=2)}, torch.bfloat16),
        ({"parameters": replace(CONFIG, criterion="always", estimator="mean")}, torch.bfloat16),
        ({"parameters": replace(CONFIG, pool_bytes=60_000)}, torch.float32),
    ],
    ids=["dense", "cacheblend", "partial bfloat16", "always bfloat16", "budget"],
)
def test_other_methods_and_dtypes(
    changed: dict[str, object], dtype: torch.dtype, model: LoadedModel, sweep_folder: Path
) -> None:
    """Would catch a dtype that does not survive, and a method without pools that has no checkpoints."""
    if dtype == torch.bfloat16:
        model = tiny_chat_model(dtype)
    spec = replace(FIVE, **changed)  # type: ignore[arg-type]
    expected = run_trial(spec, model)
    assert expected.trial.error is None
    found = interrupted_all_the_time(spec, model, sweep_folder)
    assert differences(found, expected) == []


VICTIMS = """
import json, os, signal, sys
from contextlib import contextmanager
from dataclasses import replace as replace_fields
from pathlib import Path
from harness.workloads import read_workload
from tiny_models import tiny_chat_model
from harness.results import checkpoint
from harness.results import tensor_files
from harness.results.checkpoint import Checkpoints
from harness.trials.runner import run_trial
from harness.identity import IDENTITY_VERSION
from harness.spec import TrialSpec
from kvcomm_core.config import KVCommConfig
from pydantic import TypeAdapter

die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
writes = []
replacing, save_file = checkpoint.replacing, tensor_files.save_file

@contextmanager
def dying(target, scratch):
    writes.append(target)
    if len(writes) == 3 and where == "before the state":
        die()
    with replacing(target, scratch) as new:
        yield new
        if len(writes) == 3 and where == "in the state":
            os.truncate(new, new.stat().st_size // 2)
            die()

def save(tensors, path):
    save_file(tensors, path)
    if len(writes) == 2 and where == "in the tensors":
        os.truncate(path, path.stat().st_size // 2)
        die()

checkpoint.replacing, tensor_files.save_file = dying, save
for line in sys.stdin:
    folder, where, spec = json.loads(line)
    if victim := os.fork():
        print(os.waitstatus_to_exitcode(os.waitpid(victim, 0)[1]), flush=True)
        continue
    on_sample = die if where == "in the first batch" else lambda done, _: done == 6 and where == "in a turn" and die()
    replaced = {"workload": read_workload(spec.pop("workload")), "parameters": KVCommConfig(**spec.pop("kvcomm"))}
    spec = replace_fields(TypeAdapter(TrialSpec).validate_json(json.dumps(spec)), **replaced)
    run_trial(spec, tiny_chat_model(), on_sample=on_sample, checkpoints=Checkpoints(Path(folder), 1e-9))
    os._exit(0)
"""
"""Runs a trial in a process of its own for each line, and says how it ended. They are forked, since each would import
PyTorch for seconds otherwise."""


@pytest.fixture(scope="module")
def exit_code_of_victim() -> Iterator[Callable[[Path, str], int]]:
    """``exit_code_of_victim(sweep_folder, where)``: of a process that runs ``SPEC`` and is killed there."""
    root = Path(__file__).parents[3]
    paths = os.pathsep.join([str(root), str(root / "tests" / "support")])
    command = [sys.executable, "-c", VICTIMS]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, text=True, env={**os.environ, "PYTHONPATH": paths}) as victims:
        assert victims.stdin is not None
        assert victims.stdout is not None
        talk_to, hear = victims.stdin, victims.stdout

        def run(sweep_folder: Path, where: str) -> int:
            print(json.dumps([str(sweep_folder), where, SPEC.to_dict()]), file=talk_to, flush=True)
            return int(hear.readline())

        yield run
        talk_to.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "resumed_from"),
    [
        ("in the first batch", 0),
        ("in the tensors", 2),
        ("before the state", 2),
        ("in the state", 2),
        ("in a turn", 5),
    ],
)
def test_a_killed_process_leaves_a_whole_checkpoint(
    where: str,
    resumed_from: int,
    undisturbed: TrialResult,
    model: LoadedModel,
    sweep_folder: Path,
    exit_code_of_victim: Callable[[Path, str], int],
) -> None:
    """SIGKILL at the worst moments. Would catch a checkpoint that is half the old and half the new one, and leftovers
    of a write that are taken for damage or stay for ever."""
    assert exit_code_of_victim(sweep_folder, where) == -signal.SIGKILL
    found = run_trial(SPEC, model, attempt=2, checkpoints=Checkpoints(sweep_folder, ALWAYS))
    assert found.messages == []
    assert found.trial.resumed_from == resumed_from
    assert differences(found, undisturbed) == []
    folder = sweep_folder / "checkpoints" / SPEC.trial_id / "0"
    files = json.loads((folder / "state.jsonl").read_text().splitlines()[1])["files"]
    assert {path.name for path in folder.iterdir()} == {"state.jsonl", *files}


def damage_tensors(folder: Path) -> None:
    path = next(folder.glob("*.safetensors"))
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def damage_state(folder: Path) -> None:
    path = folder / "state.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"dense"', b'"reuse"', 1))


def change_header(name: str, value: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "state.jsonl"
        header, body = path.read_text().split("\n")
        path.write_text(json.dumps({**json.loads(header), name: value}) + "\n" + body)

    return change


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (damage_tensors, "safetensors is not as it was written"),
        (damage_state, "state.jsonl is not as it was written"),
        (lambda folder: (folder / "state.jsonl").write_bytes(b"\x00" * 50), "Expecting value"),
        (lambda folder: (folder / "state.jsonl").write_bytes(b""), "Expecting value"),
        (
            lambda folder: (folder / "state.jsonl").write_bytes(b"[1]\n[2]"),
            "the first line of state.jsonl is [1]; allowed",
        ),
        (lambda folder: (folder / "state.jsonl").write_bytes(b"\xff\xfe\n"), "decode"),
        (lambda folder: next(folder.glob("*.safetensors")).unlink(), "No such file"),
        (change_header("format", 0), "format is 0; allowed: 4"),
        (change_header("trial", "0123456789ab-0"), "trial is '0123456789ab-0'; allowed: "),
        (change_header("identity_version", 1), "identity_version is 1; allowed: "),
        (change_header("layout", "80 layers on cuda"), "layout is '80 layers on cuda'; allowed: '2 layers on cpu"),
        (change_header("weights", "f00d"), "weights is 'f00d'; allowed: "),
        (change_header("config", "f00d"), "config is 'f00d'; allowed: "),
        (change_header("tokenizer", "f00d"), "tokenizer is 'f00d'; allowed: "),
    ],
)
def test_what_cannot_be_trusted_is_set_aside(
    damage: Callable[[Path], None],
    reason: str,
    model: LoadedModel,
    undisturbed_short: TrialResult,
    sweep_folder: Path,
) -> None:
    """Would catch rows that are wrong without a word, a trial that can never be run again, and evidence deleted."""
    folder = leave_one(SHORT, model, sweep_folder)
    damage(folder)
    found = run_trial(SHORT, model, checkpoints=Checkpoints(sweep_folder, 1000.0))
    target = sweep_folder / "damaged" / "checkpoints" / f"{SHORT.trial_id}-0"
    [message] = found.messages
    assert message.startswith(f"checkpoint {folder}: ")
    assert reason in message
    assert message.endswith(f"; moved to {target}; trial {SHORT.trial_id} begins anew")
    assert "\n" not in message
    assert (target / "state.jsonl").exists()
    assert not folder.exists()
    assert found.trial.resumed_from == 0
    assert differences(found, undisturbed_short) == []


def test_what_is_set_aside_twice_is_kept_twice(model: LoadedModel, sweep_folder: Path) -> None:
    """Would catch evidence written over by later evidence."""
    for name, content in ((f"{SHORT.trial_id}-0", b"torn"), (f"{SHORT.trial_id}-0.2", b"torn again")):
        (leave_one(SHORT, model, sweep_folder) / "state.jsonl").write_bytes(content)
        assert run_trial(SHORT, model, checkpoints=Checkpoints(sweep_folder, 1000.0)).trial.resumed_from == 0
        assert (sweep_folder / "damaged" / "checkpoints" / name / "state.jsonl").read_bytes() == content
    assert (sweep_folder / "damaged" / "checkpoints" / f"{SHORT.trial_id}-0" / "state.jsonl").read_bytes() == b"torn"


HEADER = {"format": checkpoint.FORMAT, "identity_version": IDENTITY_VERSION, "trial": "x-0", "layout": "l"}
BODY = {"turns": {}, "samples": {}, "fidelity": {}, "method_state": {}, "tensors": [], "files": {}}


def state(**changes: object) -> bytes:
    """``state.jsonl`` with another body, whose digest is right."""
    return sealed(json.dumps({**BODY, **changes}).encode())


def sealed(body: bytes) -> bytes:
    return json.dumps({**HEADER, "sha256": hashlib.sha256(body).hexdigest()}).encode() + b"\n" + body


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


BRIEF, LONG = b"\x08\0\0\0\0\0\0\0{}", b"\xff" * 8 + b"{}"
STATES = {
    "header nested without end": (b"[" * 100_000 + b"\n{}", "nested more than 50 levels deep"),
    "header of 5000 digits": (b'{"format": ' + b"9" * 5000 + b"}\n{}", "Exceeds the limit"),
    "header with half of a surrogate pair": (b'{"format": "\\ud800"}\n{}', "half of a surrogate pair"),
    "header with a key twice": (b'{"format": 2, "format": 2}\n{}', "key 'format' is given twice"),
    "header of a long value": (json.dumps({**HEADER, "layout": "x" * 9000}).encode() + b"\n{}", "layout is 'xxx"),
    "header without end": (b'{"format": "' + b"x" * 1_000_000, "Unterminated string"),
    "no body": (json.dumps(HEADER).encode(), "state.jsonl is not as it was written"),
    "body nested without end": (sealed(b"[" * 100_000), "recursion"),
    "body that is a list": (sealed(b"[1]"), "list indices must be integers"),
    "body without turns": (sealed(b'{"tensors": []}'), "'turns'"),
    "turns that are a list": (state(turns=[1]), "list"),
    "turns of other fields": (state(turns={"a": [1]}), "unexpected keyword argument 'a'"),
    "turns of unequal length": (state(turns={"a": [1], "b": []}), "shorter"),
    "files that are a list": (state(files=[1]), "'list' object has no attribute 'items'"),
    "file elsewhere": (
        state(files={"../f": digest(BRIEF)}),
        "a tensor file is called '../f'; allowed: the name of a file",
    ),
    "file that is a pipe": (state(files={"pipe": ""}), "not a regular file"),
    "tensors in no file": (state(tensors=[["f", "0"]]), "('f', '0')"),
    "header of tensors cut short": (state(files={"short": digest(BRIEF)}), "header"),
    "header of tensors without end": (state(files={"long": digest(LONG)}), "header too large"),
}


@pytest.mark.parametrize(("content", "reason"), STATES.values(), ids=STATES)
def test_states_of_another_shape(content: bytes, reason: str, sweep_folder: Path) -> None:
    """Would catch an error that ends the trial each time it is begun, or a file outside the folder that is read."""
    place = Checkpoints(sweep_folder, ALWAYS)
    folder = sweep_folder / "checkpoints" / "x" / "0"
    folder.mkdir(parents=True)
    (folder / "state.jsonl").write_bytes(content)
    (folder / "short").write_bytes(BRIEF)
    (folder / "long").write_bytes(LONG)
    (folder.parent / "f").write_bytes(BRIEF)
    os.mkfifo(folder / "pipe")
    found = place.of("x", 0, {"layout": "l"})
    assert found.load() is None
    [message] = found.messages
    assert reason in message
    assert "begins anew" in message
    assert len(message) < 1000
    assert "\n" not in message
    assert not folder.exists()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_state_that_is_no_file(make: Callable[[Path], None], sweep_folder: Path) -> None:
    """Would catch a trial that waits for the other end of a pipe for ever."""
    folder = sweep_folder / "checkpoints" / "x" / "0"
    folder.mkdir(parents=True)
    make(folder / "state.jsonl")
    found = Checkpoints(sweep_folder, ALWAYS).of("x", 0, {"layout": "l"})
    assert found.load() is None
    assert "not a regular file" in found.messages[0]


def test_what_can_not_even_be_set_aside_is_left_alone(
    model: LoadedModel, sweep_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that has become read-only. Would catch a trial that fails for it, and evidence written over."""
    folder = leave_one(SPEC, model, sweep_folder)
    (folder / "state.jsonl").write_bytes(b"torn")

    def refuse(self: Path, target: Path) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "rename", refuse)
    found = run_trial(SPEC, model, checkpoints=Checkpoints(sweep_folder, ALWAYS))
    assert found.trial.status == "ok"
    [message] = found.messages
    assert message.endswith(f"Read-only file system; trial {SPEC.trial_id} begins anew, without checkpoints")
    assert (folder / "state.jsonl").read_bytes() == b"torn"


def test_a_checkpoint_on_other_items_is_set_aside(model: LoadedModel, sweep_folder: Path, monkeypatch) -> None:
    """Would catch answers to questions that have changed in the file since."""
    leave_one(SPEC, model, sweep_folder)
    items = [replace(item, item_id=f"new {item.item_id}") for item in SPEC.workload.load(SPEC.seed)]
    monkeypatch.setattr(RecallSpec, "load", lambda workload, seed: items)
    found = run_trial(SPEC, model, checkpoints=Checkpoints(sweep_folder, ALWAYS))
    [message] = found.messages
    assert "its items are not those of the workload" in message
    assert [sample.item_id for sample in found.samples] == [item.item_id for item in items]


@pytest.mark.slow
def test_a_checkpoint_that_cannot_be_written_is_no_failure(
    model: LoadedModel, undisturbed: TrialResult, sweep_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full from the third checkpoint on. Would catch a trial that fails for a convenience, an earlier
    checkpoint that is lost with it, and a line per sample."""
    written = []

    def replacing(target: Path, scratch: Path) -> AbstractContextManager[Path]:
        written.append(target)
        if len(written) > 2:
            raise OSError(28, f"No space left on device after {len(written)}")
        return original(target, scratch)

    original = checkpoint.replacing
    monkeypatch.setattr(checkpoint, "replacing", replacing)
    found = run_trial(SPEC, model, checkpoints=Checkpoints(sweep_folder, ALWAYS))
    assert len(written) > 3
    folder = sweep_folder / "checkpoints" / SPEC.trial_id / "0"
    line = f"checkpoint {folder} cannot be written: [Errno 28] No space left on device after 3; the trial goes on"
    assert found.messages == [line]
    assert differences(found, undisturbed) == []
    monkeypatch.undo()
    again = run_trial(SPEC, model, checkpoints=Checkpoints(sweep_folder, ALWAYS))
    assert again.trial.resumed_from == 2
    assert differences(again, undisturbed) == []


def test_checkpoints_are_written_when_due_and_only_then(
    model: LoadedModel, sweep_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock by which each report of a batch takes 40 s. Would catch a checkpoint per sample, none, or one of a
    trial that is done anyway."""
    clock = [0.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: clock[0])
    written = []
    monkeypatch.setattr(checkpoint.Checkpoint, "_write", lambda self, state, attempt: written.append(len(state.turns)))

    def on_sample(done: int, total: int) -> None:
        clock[0] += 40

    run_trial(SPEC, model, on_sample=on_sample, checkpoints=Checkpoints(sweep_folder, 100.0))
    assert [turns // 4 for turns in written] == [3, 6]


def test_where_the_results_are_not_to_be_seen_there_are_none(model: LoadedModel, tmp_path: Path) -> None:
    """Would catch folders strewn over the nodes of a cluster, where nobody looks for them."""
    gone = tmp_path / "not" / "here"
    result = run_trial(replace(SPEC, workload=RecallSpec(limit=2)), model, checkpoints=Checkpoints(gone, ALWAYS))
    assert result.trial.status == "ok"
    assert list(tmp_path.iterdir()) == []


def test_removing_takes_those_of_one_trial(model: LoadedModel, sweep_folder: Path) -> None:
    """Would catch the checkpoint of a running trial removed with that of another."""
    other = replace(SPEC, seed=1)
    folders = [leave_one(spec, model, sweep_folder, batches=1) for spec in (SPEC, other)]
    remove_checkpoint(sweep_folder, SPEC.trial_id)
    remove_checkpoint(sweep_folder, "not there")
    assert [folder.exists() for folder in folders] == [False, True]
