"""Small tokenizers with the chat markup of real models: bytes are tokens, and each markup token is one token.

The templates give the same result as those of the models for a text conversation; they omit all other features
(tools, images).
"""

from dataclasses import dataclass

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, slots=True)
class _Markup:
    bos: str | None
    eos: str
    others: tuple[str, ...]
    template: str


_CHATML_TURNS = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

_MARKUPS = {
    # ChatML; the template adds its own system turn if the conversation has none.
    "smollm2": _Markup(
        "<|im_start|>",
        "<|im_end|>",
        (),
        "{% if messages[0]['role'] != 'system' %}<|im_start|>system\n"
        "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n{% endif %}" + _CHATML_TURNS,
    ),
    "qwen2.5": _Markup(
        None,
        "<|im_end|>",
        ("<|im_start|>", "<|endoftext|>"),
        "{% if messages[0]['role'] != 'system' %}<|im_start|>system\n"
        "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n{% endif %}" + _CHATML_TURNS,
    ),
    # A system turn with two dates always comes first. The second is fixed here; Llama 3.2 asks for today.
    "llama3.1": _Markup(
        "<|begin_of_text|>",
        "<|eot_id|>",
        ("<|start_header_id|>", "<|end_header_id|>"),
        "{% set date_string = date_string | default('26 Jul 2024') %}"
        "{{ bos_token }}<|start_header_id|>system<|end_header_id|>\n\n"
        "Cutting Knowledge Date: December 2023\nToday Date: {{ date_string }}\n\n"
        "{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] | trim }}{% set messages = messages[1:] %}"
        "{% endif %}<|eot_id|>"
        "{% for message in messages %}<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n"
        "{{ message['content'] | trim }}<|eot_id|>{% endfor %}"
        "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
    ),
}

MARKUPS = tuple(_MARKUPS)


def chat_tokenizer(markup: str, template: str | None = None) -> PreTrainedTokenizerFast:
    """Build a tokenizer with one of ``MARKUPS``, or with another template for the same markup tokens."""
    of = _MARKUPS[markup]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({character: index for index, character in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=of.bos,
        eos_token=of.eos,
        additional_special_tokens=list(of.others),
        chat_template=template or of.template,
    )
