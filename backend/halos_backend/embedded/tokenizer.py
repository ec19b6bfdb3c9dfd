"""Makes the task's tokenizer; stands alone because transformers, which it needs, imports slowly.

Each digit is a word; the chat template is an ordinary Hugging Face one.
"""

from __future__ import annotations

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from halos_backend.embedded.task import VERB

PAD, START, END, USER, ASSISTANT, GOOD, BAD = SPECIAL = (
    "<|pad|>",
    "<|start|>",
    "<|end|>",
    "<|user|>",
    "<|assistant|>",
    "<|good|>",
    "<|bad|>",
)
WORDS = (*SPECIAL, VERB, *map(str, range(10)))

CHAT_TEMPLATE = (
    "{{ '" + START + "' }}"
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ '" + END + "' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '" + ASSISTANT + "' }}{% endif %}"
)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Makes a tokenizer: text is words apart by spaces; special tokens stand by themselves."""
    tokenizer = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token=PAD)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=START,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[USER, ASSISTANT, GOOD, BAD],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )
