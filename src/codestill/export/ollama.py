"""Ollama: a directory with the GGUF file and the Modelfile that ``ollama create`` reads."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codestill.errors import ModelError
from codestill.export import gguf
from codestill.export.form import Form
from codestill.files.whole import written_whole

if TYPE_CHECKING:
    from codestill.models.alone import Reader
    from codestill.models.saved import SavedForm

WEIGHTS, MODELFILE = "model.gguf", "Modelfile"
LONGEST = 8192
"""Tokens of context that are asked for at most: a longer one takes memory from the first word on."""
_BEYOND = ", which Ollama's templates cannot follow."
_INSTEAD = "Take the target gguf, and write the Modelfile yourself."
_MARKS = ("\x01system\x01", "\x01ask\x01", "\x01answer\x01", "\x01again\x01")


def write(source: str, place: Path, kind: str) -> None:
    """The file, and how it is asked: template, ends of an answer, context, licence."""
    from transformers import AutoConfig, PreTrainedTokenizerFast

    from codestill.models.batch import position_limit
    from codestill.models.licence import licence_text
    from codestill.models.saved import SavedForm, read_saved_form

    tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(source)
    limit = position_limit(AutoConfig.from_pretrained(source)) or LONGEST
    said = read_saved_form(Path(source)) or SavedForm()
    licence = licence_text(Path(source)) or gguf.licence(source)
    text = modelfile(tokenizer, said, min(limit, LONGEST), licence)
    with written_whole(place) as temporary:
        gguf.write(source, temporary / WEIGHTS, kind)
        (temporary / MODELFILE).write_text(text, encoding="utf-8")


def modelfile(tokenizer: Any, said: "SavedForm", context: int, licence: str = "") -> str:
    """What the Modelfile of a model that was saved so says: of gaps nothing where it was not trained to fill
    them. Raises ModelError for a chat template that Ollama's cannot follow."""
    from codestill.models.fim import fim_tokens

    fim = fim_tokens(tokenizer)
    chat = None if said.chat is False or not tokenizer.chat_template else ChatTemplate.of(tokenizer)
    body = chat.in_go if chat else "{{ .Prompt }}"
    if {"fim_pre", "fim_suf", "fim_mid"} <= fim.keys() and said.fills_gaps is not False:
        prefix, suffix, middle = (_go(fim[name]) for name in ("fim_pre", "fim_suf", "fim_mid"))
        gap = f"{prefix}{{{{ .Prompt }}}}{suffix}{{{{ .Suffix }}}}{middle}"
        body = f"{{{{ if .Suffix }}}}{gap}{{{{ else }}}}{body}{{{{ end }}}}"
    ends = [tokenizer.eos_token, *([chat.end] if chat else []), *fim.values()]
    lines = [f"FROM ./{WEIGHTS}", f'TEMPLATE """{body}"""', f"PARAMETER num_ctx {context}"]
    lines += [f"PARAMETER stop {json.dumps(end)}" for end in dict.fromkeys(filter(None, ends))]
    lines += ["PARAMETER temperature 0"]
    if licence:
        lines += [f'LICENSE """{licence.strip()}"""']
    if any('"""' in part for part in (body, licence)):
        raise ModelError(
            'a template or licence with """ in it cannot stand in a Modelfile.',
            next_step=_INSTEAD,
        )
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class ChatTemplate:
    """What a chat template writes around its texts."""

    before_system: str
    after_system: str
    """Up to the first question."""
    without_system: str
    """Up to the first question where no system prompt is given."""
    before_answer: str
    between: str
    """From an answer to the next question."""
    end: str
    """Token that ends an answer."""

    @classmethod
    def of(cls, tokenizer: Any) -> "ChatTemplate":
        """Read off what the template makes of marked texts. Raises ModelError where it makes more of them."""
        system, ask, answer, again = _MARKS
        turns = [("user", ask), ("assistant", answer), ("user", again)]
        whole = _applied(tokenizer, [("system", system), *turns])
        plain = _applied(tokenizer, turns)
        if any(whole.count(mark) != 1 for mark in _MARKS) or plain.count(ask) != 1:
            raise ModelError(
                f"the chat template changes or repeats what it is given{_BEYOND}", next_step=_INSTEAD
            )
        before_system, rest = whole.split(system)
        after_system, rest = rest.split(ask)
        before_answer, rest = rest.split(answer)
        between, _ = rest.split(again)
        found = cls(
            before_system,
            after_system,
            plain.split(ask)[0],
            before_answer,
            between,
            end=tokenizer.decode(tokenizer(between, add_special_tokens=False)["input_ids"][:1]),
        )
        for messages in (turns, turns[:1], [("system", system), *turns], [("system", system), *turns[:1]]):
            if found.applied(messages) != _applied(tokenizer, messages):
                raise ModelError(
                    f"the chat template writes more than its turns one after another{_BEYOND}",
                    next_step=_INSTEAD,
                )
        return found

    def applied(self, messages: Sequence[tuple[str, str]]) -> str:
        """The prompt of (role, text) messages, as Ollama makes it of :attr:`in_go`."""
        system = "".join(text for role, text in messages if role == "system")
        text = f"{self.before_system}{system}{self.after_system}" if system else self.without_system
        first = True
        for role, said in messages:
            if role == "user":
                text += ("" if first else self.between) + said + self.before_answer
                first = False
            elif role == "assistant":
                text += said
        return text

    @property
    def in_go(self) -> str:
        """In the template language of Go, which Ollama reads."""
        system = f"{_go(self.before_system)}{{{{ .System }}}}{_go(self.after_system)}"
        head = f"{{{{ if .System }}}}{system}{{{{ else }}}}{_go(self.without_system)}{{{{ end }}}}"
        user = (
            f"{{{{ if $asked }}}}{_go(self.between)}{{{{ end }}}}{{{{ .Content }}}}{_go(self.before_answer)}"
        )
        turn = (
            f'{{{{ if eq .Role "user" }}}}{user}{{{{ $asked = true }}}}'
            '{{ else if eq .Role "assistant" }}{{ .Content }}{{ end }}'
        )
        return f"{head}{{{{ $asked := false }}}}{{{{ range .Messages }}}}{turn}{{{{ end }}}}"


def _applied(tokenizer: Any, messages: Sequence[tuple[str, str]]) -> str:
    said: list[Mapping[str, str]] = [{"role": role, "content": text} for role, text in messages]
    return tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)


def _go(text: str) -> str:
    """A text as it stands in a template."""
    return text.replace("{{", '{{ "{{" }}')


def _open(place: Path, threads: int, positions: int) -> "Reader":
    return gguf.FORM.open(place / WEIGHTS, threads, positions)


FORM = Form(
    name="ollama",
    kinds=gguf.FORM.kinds,
    write=write,
    open=_open,
    program=gguf.FORM.program,
    package=gguf.FORM.package,
    writes_with=gguf.FORM.writes_with,
    extra=gguf.FORM.extra,
)
