"""Prompts of models that follow instructions: token ids by the chat template that comes with a tokenizer."""

import re
from itertools import pairwise
from typing import Any

from jinja2 import TemplateError

from codestill.errors import ModelError
from codestill.models.codec import TextCodec


def require_template(codec: TextCodec, model: str, setting: str) -> None:
    """Raise ModelError, which names ``setting``, where a tokenizer has no chat template or one that cannot
    take a single user message."""
    if not codec.tokenizer.chat_template:
        raise ModelError(
            f"{setting} is set, but the tokenizer of {model} has no chat template.",
            next_step=f"Unset {setting}, or use the model's instruction-tuned version.",
        )
    try:
        chat_ids(codec, "Add 1 and 2.")
    except (TemplateError, TypeError, ValueError) as error:
        raise ModelError(
            f"The chat template of {model} does not take a single user message: {error}",
            next_step=f"Correct the template that comes with its tokenizer, or unset {setting}.",
        ) from error


def chat_ids(codec: TextCodec, message: str) -> list[int]:
    """Ids of a user's message and of the beginning of the answer, with one BOS where there is any.

    They are those of the rendered template, in which only the template writes control tokens: a message that
    spells one cannot end its turn.
    """
    forged = codec.reserved.search(message)
    ids = _around(codec, message) if forged else codec.native(_rendered(codec, message))
    return ids if ids[: len(codec.start)] == codec.start else [*codec.start, *ids]


def _rendered(codec: TextCodec, message: str) -> str:
    messages = [{"role": "user", "content": message}]
    template: Any = codec.tokenizer.apply_chat_template
    return str(template(messages, tokenize=False, add_generation_prompt=True))


def _around(codec: TextCodec, message: str) -> list[int]:
    """A tokenizer itself encodes what is between two control tokens by itself; here the spellings in the
    message carry a mark while control tokens are looked for."""
    mark = next(chr(code) for code in range(0xE000, 0xF900) if chr(code) not in message)
    cuts = [0, *(match.start() + 1 for match in codec.reserved.finditer(message)), len(message)]
    marked = mark.join(message[begin:end] for begin, end in pairwise(cuts))
    id_of = {token: id for id, token in codec.controls.items() if token}
    controls = re.compile("|".join(re.escape(token) for token in sorted(id_of, key=len, reverse=True)))
    ids: list[int] = []
    rendered, at = _rendered(codec, marked), 0
    for control in controls.finditer(rendered):
        ids += [*codec.text([rendered[at : control.start()].replace(mark, "")])[0], id_of[control[0]]]
        at = control.end()
    return [*ids, *codec.text([rendered[at:].replace(mark, "")])[0]]
