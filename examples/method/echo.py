"""``echo``: take each piece of a prompt from an earlier prompt that held it, moved to its new place, and recompute the
first tokens of each piece."""

from dataclasses import dataclass

from kvcomm_core.blending import lift, place
from kvcomm_core.config import MethodConfig, require
from kvcomm_core.kv import KV
from kvcomm_core.method import Method, NoReuse, Plan, Session
from kvcomm_core.template import Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Echo(MethodConfig):
    alpha: float = 0.2  # share of each piece, from its beginning, that is recomputed
    pieces: int = 40  # most pieces kept; the longest unused are forgotten first

    def __post_init__(self):
        require(0.0 <= self.alpha < 1.0, "alpha", self.alpha, "0 to below 1")
        require(self.pieces >= 1, "pieces", self.pieces, "1 or more")

    def build(self, model, header_ids):  # noqa: ARG002
        return Echoes(model, self)


class Echoes(Method):
    needs_answer_kv = True  # ``learn`` reads the KV of the whole answer

    def __init__(self, model, config):
        self.model, self.config = model, config
        self.known = {}  # KV by token ids, keys at local positions 0, 1, 2, ...

    @property
    def pool_bytes(self):
        return sum(kv.nbytes for kv in self.known.values())

    def open(self):
        return EchoSession(self)

    def describe_state(self):
        return {"pieces": list(self.known)}, [tensor for kv in self.known.values() for tensor in kv.tensors]

    def restore(self, description, tensors):
        left = iter(tensors)
        self.known = {tuple(ids): KV.next_of(left, self.model.layout) for ids in description["pieces"]}


class EchoSession(Session):
    def __init__(self, method):
        self.method, self.pool_bytes = method, method.pool_bytes
        self.known, self.used = dict(method.known), {}  # what this request sees; what it uses or adds

    def plan(self, turn):
        prompt, alpha = turn.prompt, self.method.config.alpha
        self.found = [span for span in prompt.pieces if not span or span.of(prompt.token_ids) in self.known]
        self.kept = [Span(span.start + int(alpha * len(span)), span.stop) for span in self.found]
        around = zip(turn.template.holes, prompt.holes, prompt.texts[1:], strict=True)
        why = [NoReuse("cold", hole) for hole, *spans in around if not all(span in self.found for span in spans)]
        return Plan.taking_over(prompt, self.kept, no_reuse=why[0] if why else None, pool_bytes=self.pool_bytes)

    def fill(self, turn, plan, row):
        ids, rope = turn.prompt.token_ids, self.method.model.rope
        for span in filter(None, self.found):
            self.used[span.of(ids)] = kv = self.known[span.of(ids)]
            place(kv, [], row.view(span.start, min(span.stop, plan.supplied)), rope, by=span.start)
        return plan

    def learn(self, turn, decoded):
        ids, kv, rope = turn.prompt.token_ids, decoded.prompt_kv, self.method.model.rope
        seen = {span.of(ids): (kv.slice(span.start, span.stop), span.start) for span in turn.prompt.pieces}
        seen[decoded.answer_ids] = (decoded.answer_kv, len(turn.prompt))
        new = {ids: lift(kv, rope, start) for ids, (kv, start) in seen.items() if ids and ids not in self.known}
        self.known, self.used = self.known | new, self.used | new

    def close(self):
        known = {ids: kv for ids, kv in self.method.known.items() if ids not in self.used} | self.used
        self.method.known = dict(list(known.items())[-self.method.config.pieces :])
