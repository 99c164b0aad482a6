"""Tokens and their log-probabilities as OpenAI's, vLLM's and llama.cpp's answers name them."""

from codecs import getincrementaldecoder
from collections.abc import Sequence
from typing import Any

from codestill.errors import VocabularyError
from codestill.models.codec import TextCodec
from codestill.models.token_bytes import token_bytes
from codestill.serve.jobs import Listed


class Spelling:
    """Names the tokens of one tokenizer."""

    def __init__(self, codec: TextCodec) -> None:
        self.codec = codec
        try:
            self._bytes = token_bytes(codec)
        except VocabularyError:  # it does not tell; then its decoder must do
            self._bytes = {}
        self._names: dict[int, str] = {}

    def data(self, id: int) -> bytes:
        """The bytes that a token stands for; none for a control token."""
        if id in self.codec.controls:
            return b""
        found = self._bytes.get(id)
        return self.codec.decode((), [id]).encode() if found is None else found

    def name(self, id: int, as_id: bool = False) -> str:
        """The token's text, its spelling where it is a control token, ``bytes:\\xf0\\x9f`` where its
        bytes are no text; or ``token_id:7``."""
        if as_id:
            return f"token_id:{id}"
        if id not in self._names:
            try:
                name = self.codec.controls.get(id) or self.data(id).decode()
            except UnicodeDecodeError:
                name = "bytes:" + "".join(f"\\x{byte:02x}" for byte in self.data(id))
            self._names[id] = name
        return self._names[id]

    def of_completion(
        self, positions: Sequence[Listed], start: int = 0, as_ids: bool = False, first: int | None = None
    ) -> dict[str, Any]:
        """``logprobs`` of a choice of ``/v1/completions``, of which ``token_ids`` is an addition to OpenAI's
        form. Text offsets count from ``start``; ``first`` is a prompt's first token, which has no probability
        and comes before the others. Where two likely tokens have one name, the likelier one has it."""
        ids = [*([] if first is None else [first]), *(listed[0][0] for listed in positions)]
        known: list[Listed | None] = [*([] if first is None else [None]), *positions]
        offsets, reader, place = [], getincrementaldecoder("utf-8")("replace"), start
        for id in ids:
            offsets.append(place)
            place += len(reader.decode(self.data(id)))
        return {
            "tokens": [self.name(id, as_ids) for id in ids],
            "token_ids": ids,
            "token_logprobs": [listed and _finite(listed[0][1]) for listed in known],
            "top_logprobs": [listed and self._named(listed[1:], as_ids) for listed in known],
            "text_offset": offsets,
        }

    def _named(self, likely: Listed, as_ids: bool) -> dict[str, float]:
        named: dict[str, float] = {}
        for id, log_p in likely:
            named.setdefault(self.name(id, as_ids), _finite(log_p))
        return named

    def of_chat(self, positions: Sequence[Listed]) -> dict[str, Any]:
        """``logprobs`` of a choice of ``/v1/chat/completions``; ``id`` is llama.cpp's addition."""
        content = []
        for (id, log_p), *others in positions:
            entry = self._entry(id, log_p)
            content.append(entry | {"top_logprobs": [self._entry(*other) for other in others]})
        return {"content": content, "refusal": None}

    def of_prompt(self, positions: Sequence[Listed | None]) -> list[dict[str, Any] | None]:
        """``prompt_logprobs`` as vLLM has them: for each token id its log-probability, rank and text; the
        rank of a token that is not among the likeliest is not known."""
        found: list[dict[str, Any] | None] = []
        for listed in positions:
            if listed is None:
                found.append(None)
                continue
            first, *others = listed
            ranked: dict[int, tuple[float, int | None]] = {
                id: (value, rank) for rank, (id, value) in enumerate(others, 1)
            }
            ranked.setdefault(first[0], (first[1], None))
            found.append(
                {
                    str(id): {"logprob": _finite(value), "rank": rank, "decoded_token": self.name(id)}
                    for id, (value, rank) in ranked.items()
                }
            )
        return found

    def _entry(self, id: int, log_p: float) -> dict[str, Any]:
        return {"token": self.name(id), "id": id, "logprob": _finite(log_p), "bytes": [*self.data(id)]}


def _finite(log_p: float) -> float:
    """JSON has no infinity."""
    return max(log_p, -9999.0)
