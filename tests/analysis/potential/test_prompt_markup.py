"""Rendered prompts become the messages they were rendered from."""

import pytest
from chat_tokenizers import chat_tokenizer
from hypothesis import given
from hypothesis import strategies as st

from analysis.potential.prompt_markup import messages_of

TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="<|>[]"), min_size=1, max_size=30)


@given(TEXTS.filter(str.strip), TEXTS.filter(str.strip), TEXTS.filter(str.strip))
@pytest.mark.parametrize("markup", ["smollm2", "qwen2.5"])
def test_chatml(markup: str, system: str, user: str, answer: str) -> None:
    """Catches text that is lost at the edge of a message, and the empty message that the answer would fill."""
    said = [("system", system), ("user", user), ("assistant", answer), ("user", user)]
    conversation = [{"role": role, "content": text} for role, text in said]
    for generation in (True, False):
        prompt = chat_tokenizer(markup).apply_chat_template(
            conversation, tokenize=False, add_generation_prompt=generation
        )
        assert messages_of(prompt) == said


def test_llama() -> None:
    prompt = chat_tokenizer("llama3.1").apply_chat_template(
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi\n\nthere"}],
        tokenize=False,
        add_generation_prompt=True,
    )
    found = messages_of(prompt)
    assert found is not None
    assert [role for role, _ in found] == ["system", "user"]
    assert found[0][1].endswith("Today Date: 26 Jul 2024\n\nBe brief.")
    assert found[1][1] == "Hi\n\nthere"


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("<s>[INST] Hi\n\nthere [/INST]", [("user", "Hi\n\nthere")]),
        ("<s>[INST] a[/INST] b</s>[INST] c[/INST]", [("user", "a"), ("assistant", " b"), ("user", "c")]),
        ("<s>[SYSTEM_PROMPT]s[/SYSTEM_PROMPT][INST]a[/INST]", [("system", "s"), ("user", "a")]),
        ("user: Hi", None),
        ("Hi<|im_start|>user\nthere<|im_end|>\n", None),
        ("<|im_start|>user\nthere<|im_end|>\nand more", None),
        ("", None),
    ],
)
def test_others(prompt: str, said: list[tuple[str, str]] | None) -> None:
    """Catches a prompt of which a part is silently left out."""
    assert messages_of(prompt) == said
