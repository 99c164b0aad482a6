"""Models that follow instructions: a prompt becomes a user's message in the chat template that comes with a
tokenizer, and an answer a turn of it."""

import re
from collections.abc import Mapping, Sequence
from datetime import date
from functools import cached_property
from itertools import pairwise
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from codestill.errors import ModelError
from codestill.files.serialize import fingerprint
from codestill.models.codec import TextCodec
from codestill.models.settings import ChatConfig
from codestill.types import ChatForm

_MESSAGE, _ANSWER = "Add 1 and 2.", "They make 3."
_REFUSALS = (TemplateError, TypeError, ValueError)
_TODAY = re.compile(r"strftime_now\(\s*(['\"])(.*?)\1\s*\)")
_DAY = date(2024, 7, 26)
"""The date of every prompt whose template writes one: rows, caches and kept answers outlive a day. It is the
date that Llama's templates write where they are told none."""


def require_template(
    tokenizer: PreTrainedTokenizerBase, config: ChatConfig, model: str, setting: str
) -> None:
    """Raise ModelError, which names ``setting``, where a tokenizer has no chat template, or one that cannot
    take a single user message, or the system prompt."""
    if not tokenizer.chat_template:
        raise ModelError(
            f"{setting} is set, but the tokenizer of {model} has no chat template.",
            next_step=f"Unset {setting}, or use the model's instruction-tuned version.",
        )
    for with_system in (False, True) if config.system_prompt else (False,):
        system = config.system_prompt if with_system else None
        what = "system prompt" if with_system else "single user message"
        try:
            rendered = ChatCodec(tokenizer, config.model_copy(update={"system_prompt": system})).render(
                _MESSAGE
            )
        except _REFUSALS as error:
            raise ModelError(
                f"The chat template of {model} does not take a {what}: {error}",
                next_step="Unset system_prompt."
                if with_system
                else f"Correct the template that comes with its tokenizer, or unset {setting}.",
            ) from error
        if system and system.strip() not in rendered:
            raise ModelError(
                f"The chat template of {model} leaves the system prompt out.",
                next_step="Unset system_prompt, and say it in the prompts.",
            )


def form_of(
    config: ChatConfig, tokenizer: PreTrainedTokenizerBase, eos_ids: frozenset[int], model: str, setting: str
) -> ChatConfig | None:
    """How a model with these end-of-sequence ids is asked by the settings; None where it continues text.

    Raises ModelError, which names ``setting``, where they want a chat template and there is none that serves.
    """
    wanted = _ends_its_turns(tokenizer, eos_ids) if config.undecided else config.chat
    if not wanted:
        return None
    require_template(tokenizer, config, model, setting)
    return config.alone.model_copy(update={"chat": True})


def codec_of(tokenizer: PreTrainedTokenizerBase, chat: ChatConfig | None) -> TextCodec:
    """Encodes messages in a chat template, or without one text that goes on."""
    return ChatCodec(tokenizer, chat) if chat else TextCodec(tokenizer)


def codec_for(config: ChatConfig, tokenizer: PreTrainedTokenizerBase, model: str) -> TextCodec:
    """Encodes what a model reads of which the tokenizer alone is here. Raises as :func:`form_of`."""
    own = tokenizer.eos_token_id
    eos_ids = frozenset() if own is None else frozenset([own])
    form = form_of(config, tokenizer, eos_ids, model, "chat")  # pyright: ignore[reportArgumentType]
    return codec_of(tokenizer, form)


def _ends_its_turns(tokenizer: PreTrainedTokenizerBase, eos_ids: frozenset[int]) -> bool:
    """Whether a model with these end-of-sequence ids answers in its tokenizer's chat template.

    Base models often come with the template of their instruction-tuned version, but were not trained to end
    a turn: their end of sequence is another token than the one that ends the template's turns.
    """
    if not tokenizer.chat_template:
        return False
    return ChatCodec(tokenizer, ChatConfig()).turn_end in eos_ids


class ChatCodec(TextCodec):
    """Encodes messages and answers in a tokenizer's chat template.

    Control tokens are those of the rendered template alone: a message that spells one cannot end its turn.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, config: ChatConfig) -> None:
        super().__init__(tokenizer)
        self.config = config

    def prompt(self, prompt: str) -> list[int]:
        """Ids of a user's message and of the beginning of the answer, with one BOS where there is any."""
        return self.conversation([{"role": "user", "content": prompt}])

    def conversation(self, turns: Sequence[Mapping[str, str]]) -> list[int]:
        """Ids of turns, each with ``role`` and ``content``, and of the beginning of the next answer.

        The system prompt of the settings stands before turns that bring none. Raises ModelError for turns
        that the template refuses.
        """
        try:
            forged = any(self.reserved.search(turn["content"]) for turn in turns)
            ids = self._around(turns) if forged else self.native(self._rendered(turns))
        except _REFUSALS as error:
            raise ModelError(
                f"The chat template does not take these messages: {error}",
                next_step="Send turns of user and assistant one after the other, the first and the last the "
                "user's.",
            ) from error
        ids = ids if ids[: len(self.start)] == self.start else [*self.start, *ids]
        prefix = self.config.answer_prefix
        return [*ids, *self.continuation(ids, prefix)] if prefix else ids

    def examples(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[list[int], list[int]]]:
        """Ids of each message, and of the answer behind it, whose prefix belongs to the prompt."""
        prompts = {prompt: self.prompt(prompt) for prompt in dict.fromkeys(prompt for prompt, _ in pairs)}
        prefix = self.config.answer_prefix
        return [
            (prompts[prompt], self.continuation(prompts[prompt], answer.removeprefix(prefix)))
            for prompt, answer in pairs
        ]

    def answer(self, before: Sequence[int], ids: Sequence[int]) -> str:
        """The answer's text, its prefix included."""
        return self.config.answer_prefix + super().answer(before, ids)

    @property
    def end(self) -> int:
        """The id that ends a turn; the tokenizer's eos where the template ends it with none."""
        return super().end if self.turn_end is None else self.turn_end

    @cached_property
    def turn_end(self) -> int | None:
        """The control token behind an answer in the template; None where there is none to be seen."""
        turns = [{"role": "user", "content": _MESSAGE}, {"role": "assistant", "content": _ANSWER}]
        try:
            _, found, after = self._template(turns, add_generation_prompt=False).rpartition(_ANSWER)
        except _REFUSALS:  # it takes no turn of an assistant
            return None
        return next((id for id in self.native(after) if id in self.controls), None) if found else None

    @property
    def form(self) -> ChatForm:
        """The chat template around prompts."""
        return self._form

    @cached_property
    def _form(self) -> ChatForm:
        return ChatForm(
            template=fingerprint(str(self.tokenizer.chat_template)),
            frame=self.render("{message}") + self.config.answer_prefix,
            system_prompt=self._system(),
        )

    def render(self, message: str) -> str:
        """The template around a message, up to where the answer begins."""
        return self._rendered([{"role": "user", "content": message}])

    def _rendered(self, turns: Sequence[Mapping[str, str]]) -> str:
        system = self.config.system_prompt
        if system is not None and all(turn["role"] != "system" for turn in turns):
            turns = [{"role": "system", "content": system}, *turns]
        return self._template(turns, add_generation_prompt=True)

    def _template(self, turns: Sequence[Mapping[str, str]], **options: Any) -> str:
        if self.config.reasoning is not None:
            options["enable_thinking"] = self.config.reasoning
        template = self.tokenizer.chat_template
        if isinstance(template, str):
            options["chat_template"] = _TODAY.sub(lambda call: repr(_DAY.strftime(call[2])), template)
        render: Any = self.tokenizer.apply_chat_template
        return str(render([*turns], tokenize=False, date_string=_DAY.strftime("%d %b %Y"), **options))

    def _system(self) -> str | None:
        """The system prompt, also one that the template adds by itself."""
        if self.config.system_prompt is not None:
            return self.config.system_prompt
        turns = [{"role": "system", "content": _ANSWER}, {"role": "user", "content": _MESSAGE}]
        try:
            before, found, after = self._template(turns, add_generation_prompt=True).partition(_ANSWER)
        except _REFUSALS:
            return None
        rendered = self.render(_MESSAGE)
        if not found or not (rendered.startswith(before) and rendered.endswith(after)):
            return None
        return rendered[len(before) : len(rendered) - len(after)] or None

    def _around(self, turns: Sequence[Mapping[str, str]]) -> list[int]:
        """A tokenizer itself encodes what is between two control tokens by itself; here the spellings in the
        messages carry a mark while control tokens are looked for."""
        said = "".join(turn["content"] for turn in turns)
        mark = next(chr(code) for code in range(0xE000, 0xF900) if chr(code) not in said)
        id_of = {token: id for id, token in self.controls.items() if token}
        controls = re.compile("|".join(re.escape(token) for token in sorted(id_of, key=len, reverse=True)))
        marked = [{**turn, "content": self._marked(turn["content"], mark)} for turn in turns]
        ids: list[int] = []
        rendered, at = self._rendered(marked), 0
        for control in controls.finditer(rendered):
            ids += [*self.text([rendered[at : control.start()].replace(mark, "")])[0], id_of[control[0]]]
            at = control.end()
        return [*ids, *self.text([rendered[at:].replace(mark, "")])[0]]

    def _marked(self, message: str, mark: str) -> str:
        cuts = [0, *(match.start() + 1 for match in self.reserved.finditer(message)), len(message)]
        return mark.join(message[begin:end] for begin, end in pairwise(cuts))
