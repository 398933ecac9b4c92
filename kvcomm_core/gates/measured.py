"""Gates that run the prompt before they decide: ``gated`` and ``oracle``."""

from kvcomm_core.fidelity import compare_next_token
from kvcomm_core.gates.attempt import Attempt, run_dense
from kvcomm_core.gates.gate import Gate, Judgement


class DisagreementGate(Gate):
    """``gated``: reuse only if rotation alone and the estimate agree on the next token.

    Where the offsets change little, little can be wrong with them. So the turn is assembled twice, and its KL(estimate
    || rotation alone) must be at most ``max_kl``. Both attempts count as computed. An accepted turn is answered from
    the estimate's, whose last token alone runs again. So the estimate's time is not that of a test, which the paper's
    account leaves out.
    """

    def __init__(self, max_kl: float) -> None:
        self._max_kl = max_kl

    def judge(self, attempt: Attempt) -> Judgement:
        """Run both attempts."""
        with attempt.turn.stopwatch.phase("match"):
            rotated = attempt.run(corrected=False)
        with attempt.turn.stopwatch.phase("prefill"):
            estimate = attempt.run()
        with attempt.turn.stopwatch.phase("match"):
            kl = compare_next_token(estimate.logits_V, rotated.logits_V).kl
        tokens = rotated.recomputed.computed_tokens + estimate.recomputed.computed_tokens
        return Judgement(kl <= self._max_kl, kl, tokens, estimate)


class OracleGate(Gate):
    """``oracle``: reuse only if the true KL(dense || reuse) is at most ``max_kl``.

    This is the bound on every gate, not a method: who knows the true KL has prefilled the prompt already. So what it
    takes to know it, dense prefill and attempt, is left out of times and computed tokens.
    """

    def __init__(self, max_kl: float) -> None:
        self._max_kl = max_kl

    def judge(self, attempt: Attempt) -> Judgement:
        """Look at the truth, with the stopwatch paused."""
        with attempt.turn.stopwatch.paused():
            dense_V, _ = run_dense(attempt.model, attempt.turn.prompt)
            kl = compare_next_token(dense_V, attempt.run().logits_V).kl
        return Judgement(kl <= self._max_kl, kl)
