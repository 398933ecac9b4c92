"""The rows of one engine call, from prompts and plans to answers, side by side in one buffer."""

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor

from kvcomm_core.decode import Answer, advance, advance_one, advance_rows, decode_greedily, to_logits
from kvcomm_core.devices.transfers import send, to_device
from kvcomm_core.kv import KV, KVBuffer
from kvcomm_core.method import Decoded, Plan
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.recompute import NOTHING, recompute_and_advance
from kvcomm_core.template import Prompt, TokenIds


class Batch:
    """The rows of one call: prompts of different lengths, partly supplied by the method, decoded side by side.

    Prompts that leave more than one token to run come first in the buffer. They are grouped by how many tokens are
    supplied and run group by group, without padding. Prompts that leave one token follow. A prompt with tokens to
    recompute runs alone. Answers begin in the slot after the longest prompt.

    A method may still fill a plan in until ``prefill`` runs, which recomputes what is pending then.
    """

    def __init__(self, model: LoadedModel, prompts: Sequence[Prompt], plans: Sequence[Plan], buffer: KVBuffer) -> None:
        self.model, self.prompts, self.plans, self.buffer = model, prompts, plans, buffer
        self.longest = max(map(len, prompts))
        self._order = sorted(range(len(prompts)), key=lambda index: (self._leaves_one(index), plans[index].supplied))
        self.rows = [self._order.index(index) for index in range(len(prompts))]
        """Row of each prompt."""
        self.recomputed = [NOTHING] * len(prompts)
        """The tokens that ``prefill`` has recomputed, by prompt."""
        self._assembled: set[int] = set()
        """The prompts of which ``prefill`` runs the last token alone, which may then stand behind a gap."""
        self._visible_BC: Tensor | None = None

    def prefill(self) -> Tensor:
        """Run the tokens that are not supplied. Return next-token logits ``[B, vocabulary]`` in the order of the
        prompts."""
        self._assembled = {i for i, plan in enumerate(self.plans) if self._leaves_one(i) and not plan.pending}
        self._visible_BC = self._visibility()
        hidden = [self._run_group(list(rows)) for _, rows in groupby(range(len(self._order)), key=self._kind)]
        logits_BV = to_logits(self.model, torch.cat(hidden))
        self.buffer.length = self.longest
        return logits_BV[to_device(self.rows, logits_BV.device)]

    def decode(self, first_ids: Sequence[int], max_new_tokens: int) -> list[Answer]:
        """Decode all rows and return the answers in the order of the prompts."""
        answers = decode_greedily(
            self.model,
            [first_ids[index] for index in self._order],
            self.buffer,
            positions=[len(self.prompts[index]) for index in self._order],
            visible_BC=self._visible_BC,
            max_new_tokens=max_new_tokens,
            eos_ids=self.model.eos_ids,
        )
        return [answers[row] for row in self.rows]

    def follow(self, answers: Sequence[TokenIds], *, needs_kv: bool) -> list[Answer]:
        """Take the given answers whole instead of decoding."""
        if needs_kv and any(answers):
            if self._visible_BC is None:
                advance(self.model, [answers[index] or (0,) for index in self._order], self.buffer)
            else:
                for index, answer in enumerate(answers):
                    self._run_answer(index, answer)
        return [Answer(tuple(answer), "given") for answer in answers]

    def _run_answer(self, index: int, answer: TokenIds) -> None:
        """Compute an answer's KV beside the buffer, where its row has no gap, and move it to its slots."""
        kv, end = self.assembled_kv(index), len(self.prompts[index])
        # The prompt's last token runs once more, since it may stand behind the gap.
        ids = (self.prompts[index].token_ids[-1], *answer)
        alone = KVBuffer(self.model.layout, rows=1, capacity=end + len(answer))
        kv.copy_to(alone.view(0, len(kv)))
        alone.length = len(kv)
        advance(self.model, [ids], alone)
        place = self.buffer.view(self.longest, self.longest + len(answer), self.rows[index])
        alone.view(end, end + len(answer)).copy_to(place)

    def complete(self, answers: Sequence[Answer]) -> None:
        """Feed the last token of answers that were cut off by length to the model, for its KV; decoding never did."""
        if not any(answer.stop_reason == "length" for answer in answers):
            return
        ended = [answers[index].token_ids or (0,) for index in self._order]
        steps = self.buffer.length - self.longest
        advance_one(
            self.model,
            [ids[-1] for ids in ended],
            self.buffer,
            slots=[self.buffer.length] * len(ended),
            positions=[len(self.prompts[index]) + steps for index in self._order],
            visible_BC=self._visible_BC,
        )

    def decoded(self, index: int, answer: Answer, first_logits_V: Tensor) -> Decoded:
        """Return what the session of prompt ``index`` may learn from."""
        row, prompt = self.rows[index], self.prompts[index]
        if index in self._assembled and len(prompt) < self.longest:
            # The prompt's last token ran in slot longest - 1. Decoding is over, so it may move to its place in the gap.
            last = self.buffer.view(self.longest - 1, self.longest, row)
            last.copy_to(self.buffer.view(len(prompt) - 1, len(prompt), row))
        return Decoded(
            plan=self.plans[index],
            prompt_kv=self.buffer.view(0, len(prompt), row),
            answer_ids=answer.token_ids,
            answer_kv=self.buffer.view(self.longest, self.longest + len(answer.token_ids), row),
            first_logits_V=first_logits_V,
        )

    def assembled_kv(self, index: int) -> KV:
        """Return the KV of prompt ``index`` without its last token, which may stand elsewhere in the row."""
        return self.buffer.view(0, len(self.prompts[index]) - 1, self.rows[index])

    def _kind(self, row: int) -> tuple[str, int]:
        """Return what rows have in common that run together."""
        index = self._order[row]
        if self.plans[index].pending:
            return "alone", row
        return ("assembled", 0) if index in self._assembled else ("in order", self.plans[index].supplied)

    def _run_group(self, rows: list[int]) -> Tensor:
        """Run the tokens that are left of some rows of one kind, one row after the other in the buffer. Return the
        decoder's last hidden states ``[B, hidden size]``."""
        group = KVBuffer.within(self.buffer, slice(rows[0], rows[-1] + 1), self.buffer.capacity)
        first = self._order[rows[0]]
        prompts, plan = [self.prompts[self._order[row]] for row in rows], self.plans[first]
        if plan.pending:
            hidden_BE, self.recomputed[first] = recompute_and_advance(
                self.model, prompts[0].token_ids, group, plan.supplied, plan.pending
            )
            return hidden_BE
        if first not in self._assembled:
            left = [prompt.token_ids[plan.supplied :] for prompt in prompts]
            if len(set(map(len, left))) > 1:  # padding would take time that the prompts do not need
                return advance_rows(self.model, left, group, starts=[plan.supplied] * len(left))
            group.length = plan.supplied
            return advance(self.model, left, group)
        return advance_one(
            self.model,
            [prompt.token_ids[-1] for prompt in prompts],
            group,
            slots=[self.longest - 1] * len(prompts),
            positions=[len(prompt) - 1 for prompt in prompts],
            visible_BC=None if self._visible_BC is None else self._visible_BC[rows[0] : rows[-1] + 1],
        )

    def _leaves_one(self, index: int) -> bool:
        """Return whether all but the prompt's last token is supplied."""
        return 0 < self.plans[index].supplied == len(self.prompts[index]) - 1

    def _visibility(self) -> Tensor | None:
        """Return which slots each row may attend to, ``[B, C]``; None if all rows are equally long and have no gap."""
        if all(len(prompt) == self.longest for prompt in self.prompts):
            return None
        visible_BC = torch.ones((len(self.prompts), self.buffer.capacity), dtype=torch.bool)
        for index, row in enumerate(self.rows):
            # The last token of an assembled prompt stands in slot longest - 1. Any other prompt is in one piece.
            last = int(index in self._assembled)
            visible_BC[row, len(self.prompts[index]) - last : self.longest - last] = False
        return send(visible_BC, self.model.device)
