"""Every measure against its definition written out with loops, and as a whole on turns of the engine."""

import math
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import VOCABULARY, tiny_model
from transformers import DynamicCache

from kvcomm_core.decode import Answer
from kvcomm_core.engine import Engine
from kvcomm_core.fidelity import (
    CONTINUATION_TOKENS,
    TurnFidelity,
    compare_answers,
    compare_continuation,
    compare_kv,
    compare_next_token,
    measure_fidelity,
)
from kvcomm_core.kv import KV
from kvcomm_core.method import Method
from kvcomm_core.methods.dense import Dense
from kvcomm_core.methods.naive import Naive
from kvcomm_core.methods.prefix import Prefix
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.template import Prompt, Span, Template, TokenIds
from kvcomm_core.turn import Turn

HEADER = (3, 4, 5)
FILLER = (9, 9)
TEMPLATE = Template(((3, 4, 5, 20, 21), (), (22, 23, 24)), ("question", "answer"))
MAX_NEW_TOKENS = 6


def take_turns(
    model: LoadedModel,
    method: Method,
    lengths: Sequence[int],
    *,
    keep_kv: Sequence[int],
    eos: int | None = None,
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> tuple[LoadedModel, list[Turn]]:
    """One batch of requests with questions of the given lengths."""
    model = model if eos is None else replace(model, eos_ids=frozenset([eos]))
    engine = Engine(model, method, FILLER)
    engine.register("1", TEMPLATE)
    generator = random.Random(7)
    with engine.open_batch(len(lengths)) as requests:
        for request, length in zip(requests, lengths, strict=True):
            for placeholder in TEMPLATE.holes:
                request.provide(placeholder, tuple(generator.randrange(VOCABULARY) for _ in range(length)))
        turns = engine.take_turns(requests, "1", max_new_tokens=max_new_tokens, keep_kv=keep_kv)
    with engine.open() as request:  # another turn, in the same storage
        for placeholder in TEMPLATE.holes:
            request.provide(placeholder, (50,) * 12)
        request.take_turn("1", max_new_tokens=MAX_NEW_TOKENS)
    return model, turns


def test_kl_equals_its_definition() -> None:
    """Would catch the divergence the other way round, which is another number."""
    dense, other = torch.randn(2, VOCABULARY, generator=torch.Generator().manual_seed(0)).mul(3).unbind()
    p, q = (torch.softmax(logits.double(), 0).tolist() for logits in (dense, other))
    fidelity = compare_next_token(dense, other)
    assert fidelity.kl == pytest.approx(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)), rel=1e-9)
    assert fidelity.top1_agree == (p.index(max(p)) == q.index(max(q)))
    same = compare_next_token(dense, dense + 5)
    assert same.kl == pytest.approx(0, abs=1e-9)
    assert same.top1_agree


answers = st.lists(st.integers(0, 2), max_size=6).map(tuple)


@given(answers, answers)
def test_answers_are_compared_position_by_position(dense: TokenIds, method: TokenIds) -> None:
    """Would catch an answer that stops early counted as equal, and a share of the shorter one."""
    first, agree = None, 0
    for index in range(max(len(dense), len(method))):
        same = index < min(len(dense), len(method)) and dense[index] == method[index]
        agree += same
        if not same and first is None:
            first = index
    fidelity = compare_answers(dense, method)
    assert fidelity.first_divergence == first
    assert fidelity.agreement == (agree / max(len(dense), len(method)) if dense or method else 1.0)
    assert (fidelity.first_divergence is None) == (dense == method) == (fidelity.agreement == 1.0)


def random_kv(tokens: int, seed: int) -> KV:
    """Two layer groups, of 2 and 1 layers; 2 heads of size 4."""
    generator = torch.Generator().manual_seed(seed)

    def tensors() -> tuple[torch.Tensor, ...]:
        return tuple(torch.randn(layers, 2, tokens, 4, generator=generator) for layers in (2, 1))

    return KV(tensors(), tensors())


def test_kv_is_compared_token_by_token_layer_by_layer() -> None:
    """Would catch layers of the second group numbered from 0, a cosine per head or over the whole segment, the
    leading text or the last token counted, and kinds mixed up."""
    texts, holes = (Span(0, 3), Span(5, 5), Span(9, 12)), (Span(3, 5), Span(5, 9))
    prompt = Prompt(tuple(range(12)), texts, holes)
    dense, method = random_kv(11, 0), random_kv(11, 1)
    kinds = {"text": [9, 10], "placeholder": [3, 4, 5, 6, 7, 8]}
    got = {(s.layer, s.kind, s.part): s for s in compare_kv(dense, method, prompt)}
    assert len(got) == 3 * 2 * 2
    for part in ("keys", "values"):
        dense_layers = [layer for group in getattr(dense, part) for layer in group]
        method_layers = [layer for group in getattr(method, part) for layer in group]
        for layer, (dense_HTD, method_HTD) in enumerate(zip(dense_layers, method_layers, strict=True)):
            for kind, tokens in kinds.items():
                cosines, errors = [], []
                for token in tokens:
                    a, b = dense_HTD[:, token].flatten().tolist(), method_HTD[:, token].flatten().tolist()
                    dot = sum(x * y for x, y in zip(a, b, strict=True))
                    cosines.append(dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b)))
                    errors.append(math.dist(a, b))
                segment = got[layer, kind, part]  # type: ignore[index]
                assert segment.tokens == len(tokens)
                assert segment.cosine == pytest.approx(sum(cosines) / len(tokens), abs=1e-6)
                assert segment.l2_error == pytest.approx(sum(errors) / len(tokens), rel=1e-5)
    fidelity = TurnFidelity(compare_next_token(torch.zeros(3), torch.zeros(3)), None, None, tuple(got.values()))
    weighed = [(s.cosine, s.tokens) for s in got.values() if s.part == "keys"]
    assert fidelity.mean_cosine("keys") == pytest.approx(sum(c * n for c, n in weighed) / sum(n for _, n in weighed))


def test_kinds_without_tokens_are_unknown() -> None:
    """Would catch a mean over nothing that is 0, NaN or an error: a prompt without holes, and empty holes."""
    assert compare_kv(random_kv(3, 0), random_kv(3, 1), Prompt((1, 2, 3, 4), (Span(0, 4),), ())) == ()
    prompt = Prompt((1, 2, 3, 4), (Span(0, 3), Span(3, 4)), (Span(3, 3),))
    assert compare_kv(random_kv(3, 0), random_kv(3, 1), prompt) == ()
    nothing = TurnFidelity(compare_next_token(torch.zeros(3), torch.zeros(3)), None, None, ())
    assert nothing.mean_cosine("values") is None


@pytest.mark.parametrize("lengths", [[6], [6, 2, 9]])
def test_exact_methods_are_at_no_distance(llama: LoadedModel, lengths: list[int]) -> None:
    """Would catch another position's logits, a row of another request, and the gap in a batch of unequal rows."""
    for method in (Dense(), Prefix(llama)):
        model, turns = take_turns(llama, method, lengths, keep_kv=range(len(lengths)))
        for turn in turns:
            [fidelity] = measure_fidelity(model, [turn], max_new_tokens=MAX_NEW_TOKENS)
            assert fidelity.next_token.kl == pytest.approx(0, abs=1e-8)
            assert fidelity.next_token.top1_agree
            assert fidelity.answer is not None
            assert (fidelity.answer.first_divergence, fidelity.answer.agreement) == (None, 1.0)
            assert fidelity.continuation is not None
            assert fidelity.continuation.kl == pytest.approx(0, abs=1e-8)
            assert (fidelity.continuation.top1_share, fidelity.continuation.tokens) == (1.0, MAX_NEW_TOKENS)
            assert len(fidelity.segments) == 6 * 2 * 2  # layers, kinds, parts
            for segment in fidelity.segments:
                assert segment.cosine == pytest.approx(1, abs=1e-5)
                assert segment.l2_error == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("eos", [None, 11, 76])
@pytest.mark.parametrize("lengths", [[6], [6, 2, 9]])
def test_a_turn_is_compared_with_transformers_own_pass(llama: LoadedModel, lengths: list[int], eos: int | None) -> None:
    """Against one plain forward pass per token. Would catch keys compared at other positions, the dense answer not
    ending at the end-of-sequence token or at the same limit, and KV overwritten by the turn after."""
    model, turns = take_turns(llama, Naive(llama, HEADER), lengths, keep_kv=range(len(lengths)), eos=eos)
    agreements = []
    for turn in turns:
        ids = list(turn.prompt.token_ids)
        with torch.inference_mode():
            cache = llama.network(torch.tensor([ids]), use_cache=True).past_key_values
            answer: list[int] = []
            while len(answer) < MAX_NEW_TOKENS:
                token = int(llama.network(torch.tensor([ids + answer])).logits[0, -1].argmax())
                if token == eos:
                    break
                answer.append(token)
        [fidelity] = measure_fidelity(model, [turn], max_new_tokens=MAX_NEW_TOKENS)
        assert fidelity.answer == compare_answers(tuple(answer), turn.answer_ids)
        agreements.append(fidelity.answer.agreement)
        assert turn.prompt_kv is not None
        last = len(ids) - 1
        dense = KV(
            (torch.stack([layer.keys[0, :, :last] for layer in cache.layers]),),
            (torch.stack([layer.values[0, :, :last] for layer in cache.layers]),),
        )
        for ours, theirs in zip(fidelity.segments, compare_kv(dense, turn.prompt_kv, turn.prompt), strict=True):
            assert (ours.layer, ours.kind, ours.part, ours.tokens) == (
                theirs.layer,
                theirs.kind,
                theirs.part,
                theirs.tokens,
            )
            assert ours.cosine == pytest.approx(theirs.cosine, abs=1e-5)
            assert ours.l2_error == pytest.approx(theirs.l2_error, abs=1e-4)
        # The values of layer 0 know no context and are exact; those of layer 1 are not.
        by_layer = {s.layer: s for s in fidelity.segments if s.part == "values" and s.kind == "placeholder"}
        assert by_layer[0].cosine == pytest.approx(1, abs=1e-5)
        assert by_layer[1].cosine < 0.999
    assert min(agreements) < 1, "the comparison must meet answers that differ"


@torch.inference_mode()
def forced_step_by_step(
    network: torch.nn.Module, prompt_kv: KV, last_id: int, answer: Sequence[int]
) -> list[list[float]]:
    """Distributions of the answer's tokens after cached KV of the prompt's other tokens, in a cache of transformers,
    one token at a time."""
    cache = DynamicCache()
    layers = [
        (keys, values)
        for keys_LHTD, values_LHTD in zip(prompt_kv.keys, prompt_kv.values, strict=True)
        for keys, values in zip(keys_LHTD, values_LHTD, strict=True)
    ]
    for index, (keys_HTD, values_HTD) in enumerate(layers):
        cache.update(keys_HTD[None].clone(), values_HTD[None].clone(), index)
    distributions = []
    for step, token in enumerate([last_id, *answer[:-1]]):
        position = torch.tensor([[len(prompt_kv) + step]])
        logits_V = network(torch.tensor([[token]]), position_ids=position, past_key_values=cache).logits[0, -1]
        distributions.append(torch.softmax(logits_V.double(), 0).tolist())
    return distributions


@pytest.mark.slow
@pytest.mark.parametrize(("eos", "max_new_tokens"), [(None, 6), (None, 40), (56, 40), (28, 40)])
@pytest.mark.parametrize("lengths", [[6], [6, 2, 9]])
def test_the_continuation_is_that_of_a_token_by_token_loop(
    llama: LoadedModel, lengths: list[int], eos: int | None, max_new_tokens: int
) -> None:
    """Against a network of its own and transformers' own cache. Would catch the last prompt token left out or run
    twice, positions off by one, the method's own answer forced instead of dense's, an end-of-sequence token that does
    not count (as the fourth token, and as the only one), and more than 32 tokens."""
    network = tiny_model().network
    model, turns = take_turns(
        llama, Naive(llama, HEADER), lengths, keep_kv=range(len(lengths)), eos=eos, max_new_tokens=max_new_tokens
    )
    stopped = []
    for turn in turns:
        ids = list(turn.prompt.token_ids)
        answer: list[int] = []
        with torch.inference_mode():
            cache = network(torch.tensor([ids[:-1]]), use_cache=True).past_key_values
            while len(answer) < max_new_tokens and eos not in answer:
                answer.append(int(network(torch.tensor([ids + answer])).logits[0, -1].argmax()))
        stopped.append(eos in answer)
        answer = answer[:32]
        keys, values = (
            (torch.stack([getattr(layer, part)[0] for layer in cache.layers]),) for part in ("keys", "values")
        )
        assert turn.prompt_kv is not None
        of_dense = forced_step_by_step(network, KV(keys, values), ids[-1], answer)
        of_method = forced_step_by_step(network, turn.prompt_kv, ids[-1], answer)
        kls = [
            sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
            for p, q in zip(of_dense, of_method, strict=True)
        ]
        same = [p.index(max(p)) == q.index(max(q)) for p, q in zip(of_dense, of_method, strict=True)]
        assert [p.index(max(p)) for p in of_dense] == answer

        [fidelity] = measure_fidelity(model, [turn], max_new_tokens=max_new_tokens)
        continuation = fidelity.continuation
        assert continuation is not None
        assert continuation.tokens == len(answer) == len(kls)
        assert continuation.kl == pytest.approx(sum(kls) / len(kls), rel=1e-4)
        assert continuation.top1_share == pytest.approx(sum(same) / len(same))
        assert fidelity.next_token.kl == pytest.approx(kls[0], rel=1e-4)
        assert continuation.kl > 0.01, "the comparison must meet distributions that differ"
    if eos is not None:
        assert any(stopped), "an answer must end before its limit"


def test_positions_are_averaged_one_by_one() -> None:
    """Would catch a divergence over all positions at once, and a top-1 share of something else."""
    dense_NV, method_NV = torch.randn(2, 5, VOCABULARY, generator=torch.Generator().manual_seed(3)).mul(3).unbind()
    method_NV[2] = dense_NV[2]
    single = [compare_next_token(a, b) for a, b in zip(dense_NV, method_NV, strict=True)]
    together = compare_continuation(dense_NV, method_NV)
    assert together.kl == pytest.approx(sum(one.kl for one in single) / 5)
    assert together.top1_share == sum(one.top1_agree for one in single) / 5
    assert 0 < together.top1_share < 1
    assert (together.tokens, CONTINUATION_TOKENS) == (5, 32)


def test_turns_of_a_batch_are_compared_as_one_by_one(llama: LoadedModel) -> None:
    """Prompts of unequal lengths, and one answer that was given. Catches a row compared with another one's dense KV,
    and answers that a shorter row's padding reaches."""
    model, turns = take_turns(llama, Naive(llama, HEADER), [6, 2, 9], keep_kv=range(3))
    turns[1] = replace(turns[1], stop_reason="given")
    together = measure_fidelity(model, turns, max_new_tokens=MAX_NEW_TOKENS)
    assert [one.answer is None for one in together] == [False, True, False]
    for turn, ours in zip(turns, together, strict=True):
        [alone] = measure_fidelity(model, [turn], max_new_tokens=MAX_NEW_TOKENS)
        assert ours.answer == alone.answer
        assert ours.next_token.kl == pytest.approx(alone.next_token.kl, rel=1e-3, abs=1e-6)
        if ours.continuation is not None and alone.continuation is not None:
            assert ours.continuation.kl == pytest.approx(alone.continuation.kl, rel=1e-3, abs=1e-6)
        for one, other in zip(ours.segments, alone.segments, strict=True):
            assert one.cosine == pytest.approx(other.cosine, abs=1e-5)
    assert measure_fidelity(model, [], max_new_tokens=MAX_NEW_TOKENS) == []


def test_only_what_is_asked_for_is_kept(llama: LoadedModel) -> None:
    """Would catch copies that nobody asked for, and a comparison without any KV to compare."""
    _, turns = take_turns(llama, Naive(llama, HEADER), [6, 2, 9], keep_kv=[1])
    assert [turn.prompt_kv is not None for turn in turns] == [False, True, False]
    with pytest.raises(ValueError, match="prompt_kv is None; allowed"):
        measure_fidelity(llama, turns[:1], max_new_tokens=MAX_NEW_TOKENS)


def test_a_given_answer_is_not_compared(llama: LoadedModel) -> None:
    """Would catch an agreement with an answer that nobody decoded."""
    _, [turn] = take_turns(llama, Naive(llama, HEADER), [6], keep_kv=[0])
    given_turn = replace(turn, stop_reason=Answer((), "given").stop_reason)
    [fidelity] = measure_fidelity(llama, [given_turn], max_new_tokens=MAX_NEW_TOKENS)
    assert fidelity.answer is None
    assert fidelity.continuation is None
    assert fidelity.segments
