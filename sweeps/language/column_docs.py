"""The data dictionary: every column of every table of the results, from the documentation that the fields have.

A column is a field of a record class, or of a spec (``harness/results/parameter_columns.py``). The string below a field
says what it means, and where it begins a sentence or a clause with "None", also when it is null. Columns whose names
say it have no such string, and are described here.
"""

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import pyarrow as pa

from harness.results.arrow_schemas import RECORDS, SCHEMAS, Table
from harness.results.parameter_columns import parameter_schema
from sweeps.language.field_docs import documented, dotted_fields, trial_fields

_EARLIER = "in results from before it was recorded"
_UNUSED = "where the probe does not use it"

_PLAIN = {
    "trial_id": "Identity of the trial: twelve hexadecimal digits of its spec.",
    "attempt": "Attempt at the trial, from 1. The last one that is ok counts, or else the last one.",
    "sweep": "Name of the sweep, which is that of its folder.",
    "status": "How the attempt ended: ok, error, oom, timeout or killed.",
    "model": "Name of the model, as in the sweep file.",
    "method": "Name of the method, as in the sweep file.",
    "workload": "Name of the workload, as in the sweep file.",
    "topology": "Name of the topology: who reads whom.",
    "agents": "Number of agents, the decision agent included.",
    "rounds": "Rounds of conversation per item.",
    "seed": "Seed of generated items and of every random choice.",
    "spec_json": "The whole spec of the trial, as a JSON object, from which the columns of its fields are made.",
    "env_json": "Software and machine, as a JSON object.",
    "n_samples": "Number of items. None if the attempt failed, and for a trial without graded items.",
    "n_correct": "Number of items answered correctly. None if answers are not graded.",
    "accuracy": "Correct items over items; an unparsable answer counts as wrong. None if answers are not graded.",
    "pool_bytes_max": "Peak bytes of all pools together. None for methods without pools.",
    "started_at": "When the attempt began.",
    "ended_at": "When the attempt ended.",
    "host": "Name of the machine.",
    "git_commit": "Commit of the harness that ran. None if it was not run from a git checkout.",
    "git_dirty": "Whether tracked files differed from that commit. None if there is no commit.",
    "item_id": "Id of the item in its data set.",
    "agent_role": "Name of the agent's role.",
    "prompt_tokens": "Tokens of the prompt.",
    "output_tokens": "Tokens of the answer.",
    "stop_reason": "Why the answer ended: eos, length, or given where it was not decoded.",
    "phase_base_kv_s": "Prefilling new placeholders alone, for their base KV.",
    "phase_blend_s": "Assembling the prompt's KV: rotation of keys, and offsets.",
    "phase_prefill_s": "The forward pass to the first token.",
    "prompt_sha256": "Digest of the prompt's token ids.",
    "extracted": "The answer as the grader read it. None if nothing could be read, or answers are not graded.",
    "grade_rule": "Rule by which the answer was graded. None where answers are not graded.",
    "tool_outcome": "How the call of the tool ended. None without a tool.",
    "answer_text": "The decision agent's answer.",
    "expected": "The right answer, as the data set has it.",
    "arm": "The method that took the turn.",
    "sample_index": "Position of the item in the trial's order, from 0.",
    "agent_index": "The agent's id, from 1.",
    "round": "Round, from 0.",
    "layer": "Layer index, from 0.",
    "part": "Keys or values.",
    "seconds": "Time that the step took.",
    "step": "Step of blending.",
    "prompt_text": "The prompt, with its markup.",
    "output_text": "The answer.",
    "outcome": "The grade of the final answer: correct, wrong or unparsable.",
    "value": "The number.",
    "kind": "Kind of segment: text or placeholder.",
    "probe": "The probe of keys and values.",
    "token_text": "Text of the token.",
    "tokenizer_digest": "SHA-256 of the tokenizer.",
}
"""Columns whose fields do not say what they mean."""

_NULL_WHEN = {
    "no_reuse_placeholder": "where there is no such reason",
    "entropy_ratio": "where no placeholder was judged by entropy",
    "nearest_distance": "where no pool had a candidate anchor",
    "value_cosine": "if not checked",
    **dict.fromkeys(("token_reuse_rate", "turn_reuse_rate"), "if the attempt failed or took no turns"),
    **dict.fromkeys(("exact_prefix_rate", "estimated_rate"), f"if the attempt took no turns, and {_EARLIER}"),
    "top1_rate": "if none was checked",
    "top1_continuation_mean": "if none has one",
    "phase_publish_s": f"on other turns, and {_EARLIER}",
    "tool_text": "without a tool",
    "tool_s": "without a tool",
    "load_average_end": "for a trial in shards",
    "others_cpu_s": "for a trial in shards",
    "weights_digest": "if no model was loaded",
    "tokenizer_digest": "if no model was loaded",
    "template_digest": "if no model was loaded",
    "pool_bytes_public_layout": "for methods without pools",
    **dict.fromkeys(("part", "agent_index", "kind", "aligned", "bin", "token_index", "token_text"), _UNUSED),
}
"""Columns whose fields do not say when they are null."""

_UNITS = (
    (r"_us$", "microseconds"),
    (r"(_s|^seconds)$", "seconds"),
    (r"_j$", "joules"),
    (r"(bytes|_bytes_max|bytes_read|_layout)$", "bytes"),
    (r"(^|_|\.)tokens$|^tokens$", "tokens"),
    (r"^kl_|^kl$", "nats"),
    (r"(_rate|_mean|_agreement|^accuracy|^top1_continuation|^fidelity)$", "0 to 1"),
    (r"_cosine$", "-1 to 1"),
    (r"_at$", "UTC"),
)
"""Units by the ends of names; the first that fits counts."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table."""

    table: Table
    name: str
    type: str
    """Arrow's name of it."""
    unit: str | None
    """None for what has no unit."""
    meaning: str
    null_when: str | None
    """None for a column that is never null."""

    def to_dict(self) -> dict[str, str | None]:
        """Return plain data for JSON."""
        return asdict(self)


def columns() -> Iterator[Column]:
    """Yield every column of every table, in their order: those of trials with their parameters."""
    for table, record in RECORDS.items():
        texts = {field.name: field.text for field in documented(record)}
        for field in SCHEMAS[table]:
            meaning, null_when = _divided(texts[field.name])
            if not meaning:
                meaning, null_of_plain = _divided(_PLAIN[field.name])
                null_when = null_when or null_of_plain
            null = null_when or _NULL_WHEN.get(field.name, _EARLIER) if field.nullable else None
            yield Column(table, field.name, str(field.type), _unit(field), meaning, null)
    yield from _parameters()


def _parameters() -> Iterator[Column]:
    """Yield the columns of ``trials`` for the fields of a spec."""
    texts = {field.name: field.text for field in trial_fields()}
    owners: dict[str, list[str]] = {}
    for name, owner, doc in dotted_fields():
        texts.setdefault(name, doc.text)
        owners.setdefault(name, []).append(owner.split()[1])
    for field in parameter_schema():
        meaning, null = texts[field.name].replace("``", ""), f"where it is not set, and {_EARLIER}"
        if field.name in owners:
            kind = "workload" if field.name.startswith("workload.") else "method"
            null = f"unless the {kind} is {' or '.join(owners[field.name])}, {null}"
        yield Column("trials", field.name, str(field.type), _unit(field), meaning, null)


def _unit(field: pa.Field) -> str | None:
    if not (pa.types.is_integer(field.type) or pa.types.is_floating(field.type) or pa.types.is_timestamp(field.type)):
        return None
    return next((unit for pattern, unit in _UNITS if re.search(pattern, field.name)), None)


def _divided(text: str) -> tuple[str, str | None]:
    """Divide a field's documentation into what it means and when it is null."""
    text = re.sub(r"Like the next \w+ fields, ", "", text.replace("``", ""))
    clauses = re.findall(r"(?:^|[.;] )None (\w[^.]*)", text)
    meaning = re.sub(r"(^|[.;] )None \w[^.]*\.?", lambda found: "." if found[1] else "", text).strip()
    return meaning, "; ".join(clauses) or None
