import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvcomm_core.template import Span, Template

ids = st.lists(st.integers(0, 99), max_size=4).map(tuple)
holes = st.sampled_from(["user_question", "agent_1_current", "agent_2_current"])


def encode(text: str) -> list[int]:
    return [ord(character) for character in text]


@given(
    st.lists(st.tuples(holes, ids), max_size=5),
    ids,
    st.fixed_dictionaries({h: ids for h in ("user_question", "agent_1_current", "agent_2_current")}),
)
def test_a_filled_prompt_is_the_pieces_in_order(
    rest: list[tuple[str, tuple[int, ...]]], first: tuple[int, ...], values: dict[str, tuple[int, ...]]
) -> None:
    """Would catch spans that drift where holes are adjacent, repeated or empty."""
    template = (
        Template(
            (first, *[text for _, text in rest][:-1], (*(rest[-1][1] if rest else ()), 7)),
            tuple(h for h, _ in rest),
        )
        if rest
        else Template(((*first, 7),), ())
    )
    prompt = template.fill(values)
    expected = list(template.texts[0])
    for hole, text in zip(template.holes, template.texts[1:], strict=True):
        expected += [*values[hole], *text]
    assert prompt.token_ids == tuple(expected)
    assert [prompt.token_ids[s.start : s.stop] for s in prompt.texts] == list(template.texts)
    assert [prompt.token_ids[s.start : s.stop] for s in prompt.holes] == [values[h] for h in template.holes]
    assert sum((piece.of(prompt.token_ids) for piece in prompt.pieces), ()) == prompt.token_ids
    assert (prompt.pieces[::2], prompt.pieces[1::2]) == (prompt.texts, prompt.holes)


@pytest.mark.parametrize(("other", "tokens"), [(Span(0, 3), 0), (Span(2, 5), 2), (Span(4, 5), 1), (Span(8, 9), 0)])
def test_tokens_in_two_spans(other: Span, tokens: int) -> None:
    """Would catch a negative number for spans apart, and an end that counts."""
    assert Span(3, 8).overlap(other) == other.overlap(Span(3, 8)) == tokens


def test_pieces_join_and_alternate() -> None:
    """Would catch tokenising two neighbouring texts apart, or losing the empty text between adjacent holes."""
    pieces = [("text", "a"), ("text", "b"), ("hole", "x"), ("hole", "y"), ("text", "c")]
    template = Template.from_pieces(pieces, encode)  # type: ignore[arg-type]
    assert template.texts == ((97, 98), (), (99,))
    assert template.holes == ("x", "y")


def test_a_template_needs_a_last_text() -> None:
    """Would catch a prompt whose last token, the one that is run, lies in a placeholder."""
    with pytest.raises(ValueError, match="the last text is empty"):
        Template.from_pieces([("text", "a"), ("hole", "x")], encode)


def test_a_hole_without_a_value_is_an_error() -> None:
    """Would catch filling it with nothing."""
    with pytest.raises(KeyError, match="x"):
        Template.from_pieces([("hole", "x"), ("text", "a")], encode).fill({})
