"""The grade of a turn's answer: by what it says, or by the candidate that it picks.

An agent picks the candidate whose letter is the most probable first token of its answer. Free text would leave most
picks of small models unreadable.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor

from harness.results.trial_result import TurnRecord
from harness.workloads import Item, Workload
from kvcomm_core.template import TokenIds

PICKED: Final = "first_token"
"""The rule by which a pick is graded."""

GIVEN: Final = "given"
"""The rule of answers that are given: they are not graded."""


def letter_logprobs(first_logits_V: Tensor, letters: Mapping[str, TokenIds]) -> str:
    """Return the natural logarithm of each letter's probability at the answer's first token, as a JSON object.

    ``letters`` maps each letter to its token ids. Raise ``ValueError`` unless each has one token of its own.
    """
    if any(len(ids) != 1 for ids in letters.values()) or len(set(letters.values())) < len(letters):
        raise ValueError(f"the model's tokenizer has no token of its own for each of the letters {', '.join(letters)}")
    logprobs_V = torch.log_softmax(first_logits_V.double(), dim=-1)
    return json.dumps({letter: float(logprobs_V[ids[0]]) for letter, ids in letters.items()})


def picked_letter(turn: TurnRecord) -> str | None:
    """Return the most probable letter, the first of equals; None if the turn picks nothing."""
    if turn.letter_logprobs_json is None:
        return None
    logprobs: dict[str, float] = json.loads(turn.letter_logprobs_json)
    return max(logprobs, key=logprobs.__getitem__)


def graded_turn(workload: Workload, item: Item, turn: TurnRecord, *, allow_unsafe: bool) -> TurnRecord:
    """Return the turn with the grade of its answer, as if it were the final one."""
    if turn.agent_index <= len(item.given):
        return replace(turn, grade_rule=GIVEN)
    picked = picked_letter(turn)
    answer = turn.output_text or "" if picked is None else picked
    verdict = workload.grade(item, answer, allow_unsafe=allow_unsafe)
    rule = verdict.rule if picked is None else PICKED
    return replace(turn, outcome=verdict.outcome, extracted=verdict.extracted, grade_rule=rule)
