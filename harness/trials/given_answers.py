"""The answers that agents do not decode themselves: those of an item, and those of dense turns."""

from collections.abc import Callable, Sequence
from pathlib import Path

from harness.spec import TrialSpec
from harness.workloads import Item
from kvcomm_core.engine import Engine, Request
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.references.reference import Reference
from kvcomm_core.references.reference_files import ReferenceFiles
from kvcomm_core.template import TokenIds

REFERENCE_CACHE = Path("~/.cache/kvcomm/references")


class GivenAnswers:
    """The source of given answers in one trial."""

    def __init__(self, spec: TrialSpec, model: LoadedModel, encode: Callable[[str], TokenIds]) -> None:
        """``encode`` returns the token ids of an answer's text."""
        self._encode, self._rounds = encode, spec.rounds
        self._decision_agent = spec.graph.decision_agent
        self._files = ReferenceFiles(model, REFERENCE_CACHE.expanduser()) if spec.answers == "dense" else None

    def references(
        self, engine: Engine, requests: Sequence[Request], template: str, max_new_tokens: int
    ) -> list[Reference] | None:
        """Return dense turns on the prompts that come next; None if the trial's answers are the method's own."""
        if self._files is None:
            return None
        return self._files.of(engine.prompts_of(requests, template), max_new_tokens)

    def of(
        self, items: Sequence[Item], agent_id: int, round_: int, references: Sequence[Reference] | None
    ) -> list[TokenIds] | None:
        """Return an agent's answers, one per item; None if it decodes them."""
        if agent_id <= len(items[0].given):
            return [self._encode(item.given[agent_id - 1]) for item in items]
        is_last = agent_id == self._decision_agent and round_ == self._rounds - 1
        return None if references is None or is_last else [each.answer.token_ids for each in references]
