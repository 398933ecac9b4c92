"""Conversations, worked by hand: what is summed, what is divided, and what stays unknown.

These tests would catch a mean of ratios in place of a ratio of sums, the time of a batch divided by its size twice or
where a user waits for all of it, publishing left out, and a forward pass over a given answer taken for decoding.
"""

from types import SimpleNamespace

import pytest

from harness.results.conversations import MEASURES, Conversation, conversation_of


def turn(ttft_s, decode_s, store_s=0.0, publish_s=None, batch_size=1, stop_reason="eos", shares=(None, None)):
    return SimpleNamespace(
        ttft_s=ttft_s,
        decode_s=decode_s,
        phase_store_s=store_s,
        phase_publish_s=publish_s,
        batch_size=batch_size,
        ttft_share_s=shares[0],
        decode_share_s=shares[1],
        stop_reason=stop_reason,
    )


def test_all_turns_of_an_item_are_summed():
    made = conversation_of([turn(1.0, 2.0, 0.5), turn(0.25, 4.0, 0.0, publish_s=0.125)], energy_j=7.0)
    assert made == Conversation(1.25, 6.0, 7.875, 7.875, 7.0)


def test_an_item_of_a_batch_waits_for_the_batch_and_keeps_the_machine_for_a_part_of_it():
    made = conversation_of([turn(1.0, 2.0, 1.0, batch_size=4), turn(1.0, 3.0, batch_size=2)])
    assert (made.ttft_s, made.latency_s, made.busy_s) == (2.0, 8.0, 4.0 / 4 + 4.0 / 2)
    batch = [conversation_of([turn(1.0, 2.0, batch_size=3)])] * 3
    assert MEASURES["items_per_minute"].over(batch) == pytest.approx(60 * 3 / 3.0)
    published = [conversation_of([turn(1.0, 2.0, batch_size=3, publish_s=0.5)])] * 3
    assert MEASURES["items_per_minute"].over(published) == pytest.approx(60 * 3 / 4.5), "one after the other"


def test_items_that_share_rows_keep_the_machine_for_their_own_part():
    """Catches the time of a row counted for the machine, and storing that is divided though it is the turn's own."""
    made = conversation_of([turn(1.0, 9.0, 0.5, 0.25, batch_size=8, shares=(0.75, 2.0)), turn(2.0, 4.0, batch_size=2)])
    assert (made.latency_s, made.busy_s) == (10.75 + 6.0, 0.75 + 2.0 + 0.5 + 0.25 + 3.0)


def test_given_answers_are_not_decoded():
    made = conversation_of([turn(1.0, 2.0, stop_reason="given"), turn(0.5, 2.0, stop_reason="given")])
    assert made == Conversation(1.5, None, None, None)
    assert {name: measure.over([made]) for name, measure in MEASURES.items()} == {
        "ttft_sum_s": 1.5,
        "latency_s": None,
        "decode_share": None,
        "items_per_minute": None,
        "energy_j": None,
    }


def test_measures_are_ratios_of_sums():
    long, short = Conversation(1.0, 8.0, 9.0, 9.0, 30.0), Conversation(0.5, 0.5, 1.0, 1.0)
    found = {name: measure.over([long, short]) for name, measure in MEASURES.items()}
    assert found == {
        "ttft_sum_s": 0.75,
        "latency_s": 5.0,
        "decode_share": 8.5 / 10,
        "items_per_minute": 60 * 2 / 10,
        "energy_j": 30.0,
    }
    assert found["decode_share"] != pytest.approx((8 / 9 + 0.5) / 2)


def test_nothing_is_unknown():
    assert {measure.over([]) for measure in MEASURES.values()} == {None}
