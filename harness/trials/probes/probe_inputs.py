"""Inputs of probes: real prefixes, and the tokens of real prompts."""

import random
from collections.abc import Sequence

import torch
from torch import Tensor

from harness.agents import built_in_teams, chat_header, render_segments, roles_for
from harness.spec import TrialSpec
from harness.text import storable
from harness.workloads.probes import KVProbeSpec
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.template import TokenIds


class Sources:
    """Texts of one trial as tokens of its model."""

    def __init__(self, spec: TrialSpec, workload: KVProbeSpec, model: LoadedModel) -> None:
        """Raise ``ValueError`` for a model without a tokenizer, ``DataMissingError`` without questions."""
        if model.tokenizer is None:
            raise ValueError(f"model is {spec.model!r}, which has no tokenizer; the workload {workload.name} is text")
        self._model, self._spec, self._workload = model, spec, workload
        self._questions = [item.question for item in workload.load(spec.seed)]

    @property
    def header(self) -> TokenIds:
        """The chat markup before a plain user message, which is the reference context of base KV."""
        return self.encode(chat_header(self._model.tokenizer))  # type: ignore[arg-type]  # it is not None

    def prefixes(self) -> list[TokenIds]:
        """Return one prefix per question: an agent's prompt before its question, and the question. Agents take
        turns."""
        assert self._model.tokenizer is not None  # noqa: S101 - checked when the trial began
        roles = roles_for(self._workload.questions, self._spec.agents)
        leading = [render_segments(role, [], self._model.tokenizer)[0][1] for role in roles]
        return [
            self.encode(leading[number % len(leading)]) + self.encode_content(question)
            for number, question in enumerate(self._questions)
        ]

    def words(self) -> list[int]:
        """Return the different tokens of the questions, in ascending order; only those that are words, if there are
        any."""
        ids = sorted({token for question in self._questions for token in self.encode_content(question)})
        words = [token for token in ids if (text := self.text(token).strip()).isalpha() and len(text) > 2]
        return words or ids

    def vocabulary(self) -> list[int]:
        """Return the different tokens of the questions and of the roles of all workloads, in ascending order."""
        texts = []
        for team in built_in_teams().values():
            for role in team.roles:
                texts += [role.system, role.user]
        of_questions = {token for question in self._questions for token in self.encode_content(question)}
        return sorted(of_questions | {token for text in texts for token in self.encode(text)})

    def rng(self, purpose: str) -> random.Random:
        """Return a random generator for a purpose, by the trial's seed."""
        return random.Random(f"{self._workload.name} {self._spec.seed} {purpose}")

    def embeddings(self, token_ids: Sequence[int]) -> Tensor:
        """Return input embeddings, ``[N, hidden size]`` float32 on the CPU."""
        weight: Tensor = self._model.network.get_input_embeddings().weight
        return weight[torch.tensor(token_ids, device=weight.device)].float().cpu()

    def encode(self, text: str) -> TokenIds:
        """Return the token ids of a piece of a template; see ``Conversation.encode``."""
        assert self._model.tokenizer is not None  # noqa: S101 - checked when the trial began
        return tuple(self._model.tokenizer(text, add_special_tokens=False).input_ids)

    def encode_content(self, text: str) -> TokenIds:
        """Return the token ids of a question, in which nothing is chat markup; see ``Conversation.encode_content``."""
        assert self._model.tokenizer is not None  # noqa: S101 - checked when the trial began
        ids = self._model.tokenizer(storable(text), add_special_tokens=False, split_special_tokens=True).input_ids
        return tuple(ids)

    def text(self, token: int) -> str:
        """Return the text of one token."""
        assert self._model.tokenizer is not None  # noqa: S101 - checked when the trial began
        return str(self._model.tokenizer.decode([token]))
