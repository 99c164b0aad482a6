"""Text to token ids and back, so that a model is trained on what it is asked and its answer is what it wrote.

Text is text: a special token that it spells (``"<|endoftext|>"`` in a string literal) is encoded as the
characters it is made of. Control tokens are written by a tokenizer's post-processor, its chat template, the
end of a training example, and the model.
"""

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

from transformers import PreTrainedTokenizerBase

from codestill.errors import ModelError
from codestill.models.fim import FimIds, fim_ids
from codestill.types import ChatForm, Request

# Added tokens that no file declares special, but that are spelled like markers (<|file_sep|>, <｜User｜>).
_MARKER = re.compile(r"<[|｜][^\s<>]+[|｜]>")
_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
# Texts that another follows, where a tokenizer would join it with the prompt or put a space before it.
_ANCHORS = ("\n", ":", ")", "x", '"', " ")


class TextCodec:
    """Encodes and decodes with one tokenizer as it stands."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer

    @cached_property
    def controls(self) -> dict[int, str]:
        """Ids that stand for no text, with their spelling: special tokens and other markers."""
        added = self.tokenizer.added_tokens_decoder
        ids = {id for id, token in added.items() if token.special or _MARKER.fullmatch(token.content)}
        ids.update(self.tokenizer.all_special_ids)
        spelled = {id: str(self.tokenizer.convert_ids_to_tokens(id)) for id in sorted(ids)}
        return {id: token for id, token in spelled.items() if not _BYTE.fullmatch(token)}

    @cached_property
    def reserved(self) -> re.Pattern[str]:
        """Finds every place where the spelling of a control token, or of a byte's token, begins."""
        patterns = [re.escape(token) for token in self.controls.values() if len(token) > 1]
        patterns += [_BYTE.pattern] if self._bytes else []
        return re.compile(f"(?={'|'.join(patterns)})" if patterns else "(?!)")

    @cached_property
    def start(self) -> list[int]:
        """Ids that the tokenizer puts before every text: its BOS, where it adds one."""
        bare = self._call(["a"], add_special_tokens=False)[0]
        full = self._call(["a"], add_special_tokens=True)[0]
        places = range(len(full) - len(bare) + 1)
        begin = next((i for i in places if full[i : i + len(bare)] == bare), 0)
        return list(dict.fromkeys(full[:begin]))

    @property
    def form(self) -> ChatForm | None:
        """The chat template around prompts; none here."""
        return None

    @property
    def end(self) -> int:
        """The id that ends a sequence; training appends it to completions."""
        return self.text_end

    @property
    def text_end(self) -> int:
        """The tokenizer's end of sequence, which ends a text whatever template there is."""
        return int(self.tokenizer.eos_token_id)  # pyright: ignore[reportArgumentType]

    def text(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, none of which is a control token's, and nothing around them."""
        if not texts:
            return []
        called = self._call(texts, add_special_tokens=False, split_special_tokens=True)
        encoded = [
            ids if text else [] for text, ids in zip(texts, called, strict=True)
        ]  # no space of its own
        return [
            self._broken(text) if self.reserved.search(text) and self.decode((), ids) != text else ids
            for text, ids in zip(texts, encoded, strict=True)
        ]

    def native(self, text: str) -> list[int]:
        """Ids of a text that spells control tokens to write them, with nothing around them."""
        return self._call([text], add_special_tokens=False, split_special_tokens=False)[0]

    def prompt(self, prompt: str) -> list[int]:
        """Ids of a prompt, with a leading BOS if the tokenizer adds one, but never a trailing EOS."""
        return self._begun(self.text([prompt])[0])

    @cached_property
    def fim(self) -> FimIds | None:
        """Ids of the tokens that frame a gap; None where the tokenizer has none."""
        return fim_ids(self.tokenizer)

    def gap(self, prefix: str, suffix: str) -> list[int]:
        """Ids of what stands before and after a gap, up to where the middle begins; a chat template stands
        around neither. Raises ModelError where the tokenizer has no tokens for it."""
        if self.fim is None:
            raise ModelError(
                "the model's tokenizer has no tokens for fill-in-the-middle, so it cannot be asked for what "
                "stands between two texts.",
                next_step="Give a model whose tokenizer has them: Qwen2.5-Coder and StarCoder2 do, and so do "
                "students with their tokenizers.",
            )
        before, after = self.text([prefix, suffix])
        return [*self.start, self.fim.prefix, *before, self.fim.suffix, *after, self.fim.middle]

    def middle(self, gap: Sequence[int], text: str) -> list[int]:
        """Ids of the text that fills a gap, its end included: the tokenizer's own end of a text."""
        return [*self.continuation(gap, text), self.text_end]

    def request(self, request: Request) -> list[int]:
        """Ids of what the model reads of a request: its prompt, or what surrounds its gap."""
        if request.suffix is None:
            return self.prompt(request.prompt)
        return self.gap(request.prompt, request.suffix)

    def examples(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[list[int], list[int]]]:
        """Ids of each prompt, and of the completion that follows it.

        A prompt has the ids that it has when only it is known. The completion's are those behind them in the
        ids of the whole text; where a token of the whole text spans both, those of :meth:`continuation`.
        """
        prompts = self.text([prompt for prompt, _ in pairs])
        wholes = self.text([prompt + completion for prompt, completion in pairs])
        encoded = []
        for (_, completion), prompt, whole in zip(pairs, prompts, wholes, strict=True):
            begun = self._begun(prompt)
            follows = bool(prompt) and whole[: len(prompt)] == prompt
            encoded.append((begun, whole[len(prompt) :] if follows else self.continuation(begun, completion)))
        return encoded

    def continuation(self, before: Sequence[int], text: str) -> list[int]:
        """Ids of a text behind other ids: its own, or else those it has behind a character that no token
        joins with it, whichever first read back as the text. (Prefix-space tokenizers put a space before a
        text of its own.)"""
        own = self.text([text])[0]
        if self.decode(before, own) == text:
            return own
        spaced, *others = self.text([" " + text, *(anchor + text for anchor in _ANCHORS)])
        anchored = [
            ids[len(anchor) :]
            for anchor, ids in zip(self.text(_ANCHORS), others, strict=True)
            if ids[: len(anchor)] == anchor
        ]
        for ids in (*anchored, spaced):
            if self.decode(before, ids) == text:
                return ids
        # As with a tokenizer that normalises text: at least without a space of the tokenizer's own.
        return anchored[0] if anchored else own

    def answer(self, before: Sequence[int], ids: Sequence[int]) -> str:
        """Text of the answer that a model generated behind a prompt."""
        return self.decode(before, ids)

    def decode(self, before: Sequence[int], ids: Iterable[int]) -> str:
        """Text of ``ids`` as a continuation of other ids, without control tokens.

        SentencePiece decoders strip a leading space and join bytes to characters, so the end of what comes
        before is decoded with them, and its text cut off.
        """
        new = [id for id in ids if id not in self.controls]
        context: list[int] = []
        for id in reversed(before):
            if id in self.controls:
                break
            context.insert(0, id)
            if id not in self._bytes:
                break
        known, both = self._decode(context), self._decode([*context, *new])
        return both[len(known) :] if both.startswith(known) else self._decode(new)

    def _begun(self, ids: list[int]) -> list[int]:
        """With the BOS that the tokenizer adds; never nothing at all, which no model could read."""
        if self.start or ids:
            return [*self.start, *ids]
        bos = self.tokenizer.bos_token_id
        return [int(self.tokenizer.eos_token_id if bos is None else bos)]  # pyright: ignore[reportArgumentType]

    def _broken(self, text: str) -> list[int]:
        """Ids of a text in parts: reserved spellings are broken after their first character. Some tokenizers
        find them in text nonetheless: a Unigram model takes any piece of its vocabulary, and markers that are
        not declared special match."""
        cuts = [0, *(match.start() + 1 for match in self.reserved.finditer(text)), len(text)]
        ids: list[int] = []
        for begin, end in pairwise(cuts):
            part = text[begin:end]
            ids += self.continuation(ids, part) if begin else self.text([part])[0]
        return ids

    @cached_property
    def _bytes(self) -> frozenset[int]:
        """Ids of the tokens that stand for one byte each."""
        found: list[Any] = [self.tokenizer.convert_tokens_to_ids(f"<0x{byte:02X}>") for byte in range(256)]
        return frozenset(id for id in found if id is not None and id != self.tokenizer.unk_token_id)

    def _call(self, texts: Sequence[str], **options: Any) -> list[list[int]]:
        call: Any = self.tokenizer
        return call(list(texts), verbose=False, **options)["input_ids"]

    def _decode(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, clean_up_tokenization_spaces=False))
