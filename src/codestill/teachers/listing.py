"""What a server lists of the tokens that it generates: read from a response, and kept with the answer.

Servers name tokens differently: by id (llama.cpp's field ``id``; vLLM's ``token_id:N``, where it is asked
for ``return_tokens_as_token_ids``), by ``bytes`` (OpenAI, Ollama), or as text. Both endpoints' forms are read
from either: some servers answer a completion as a chat, or a chat as a completion.
"""

import base64
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from codestill.files.serialize import is_object
from codestill.logits.listed import log_probability, require_distribution
from codestill.openai_client import Twice
from codestill.types import Listed

Token = int | bytes
"""An id, or the bytes of a token's text."""
_SPELLED_ID = re.compile("token_id:([0-9]{1,10})")
_NOTHING = -1e4
"""Log-probability of what is listed as impossible."""
_COUNTS, _PLACES, _LOG_P = np.dtype("<u2"), np.dtype("<u4"), np.dtype("<f4")
_MOST_ENTRIES = 2**16 - 1

Position = list[tuple[Token, float]]
"""(token, log-probability): first the generated one, then the others that are listed."""


@dataclass(frozen=True)
class Listing:
    """N positions with E entries in all."""

    tokens: tuple[int, ...] | tuple[bytes, ...]
    """Every token that occurs, once: all ids, or all bytes."""
    counts_N: NDArray[np.int64]
    """Entries of each position."""
    places_E: NDArray[np.int64]
    """Which of ``tokens`` each entry is; the first of a position was generated."""
    log_p_E: NDArray[np.float32]
    """Their log-probabilities."""

    def __len__(self) -> int:
        return len(self.counts_N)

    @property
    def has_ids(self) -> bool:
        """Whether tokens are ids."""
        return not self.tokens or isinstance(self.tokens[0], int)

    @property
    def most(self) -> int:
        """Entries of the position that lists the most."""
        return int(self.counts_N.max(initial=0))

    @property
    def generated(self) -> list[Token]:
        """The answer's own tokens."""
        firsts_N = np.cumsum(self.counts_N) - self.counts_N
        return [self.tokens[place] for place in self.places_E[firsts_N].tolist()]

    @classmethod
    def of(cls, positions: Sequence[Position]) -> Self:
        """Raises ValueError where some tokens are named by ids and others by text."""
        place_of: dict[Token, int] = {}
        places = [place_of.setdefault(token, len(place_of)) for one in positions for token, _ in one]
        tokens = tuple(place_of)
        if len({type(token) for token in tokens}) > 1:
            raise ValueError("some tokens have ids, and others do not")
        return cls(
            tokens,  # pyright: ignore[reportArgumentType]
            np.array([len(one) for one in positions], dtype=np.int64),
            np.array(places, dtype=np.int64),
            np.array([log_p for one in positions for _, log_p in one], dtype=np.float32),
        )

    def packed(self) -> Listed:
        """As it is kept."""
        arrays = (self.counts_N.astype(_COUNTS), self.places_E.astype(_PLACES), self.log_p_E.astype(_LOG_P))
        data = zlib.compress(b"".join(array.tobytes() for array in arrays))
        tokens = tuple(token if isinstance(token, int) else token.hex() for token in self.tokens)
        return Listed(
            tokens=tokens,  # pyright: ignore[reportArgumentType]
            positions=len(self),
            data=base64.b64encode(data).decode(),
        )

    @classmethod
    def unpack(cls, kept: Listed) -> Self:
        """Raises ValueError for what :meth:`packed` did not make."""
        try:
            data = zlib.decompress(base64.b64decode(kept.data, validate=True))
        except zlib.error as error:
            raise ValueError(str(error)) from error
        counts_N = np.frombuffer(data, _COUNTS, kept.positions).astype(np.int64)
        entries, start = int(counts_N.sum()), counts_N.size * _COUNTS.itemsize
        places_E = np.frombuffer(data, _PLACES, entries, start).astype(np.int64)
        log_p_E = np.frombuffer(data, _LOG_P, entries, start + entries * _PLACES.itemsize)
        tokens = tuple(bytes.fromhex(token) if isinstance(token, str) else token for token in kept.tokens)
        return cls(tokens, counts_N, places_E, log_p_E)  # pyright: ignore[reportArgumentType]


def read_listing(logprobs: Any) -> Listing | None:
    """The listing in a choice's ``logprobs``; None where it lists nothing.

    Raises ValueError, naming the position, where it is no part of a distribution: a probability above one, or
    all together; an id listed twice. Of texts, two tokens may have the same.
    """
    if not is_object(logprobs):
        return None
    content, tokens = logprobs.get("content"), logprobs.get("tokens")
    if isinstance(content, list) and content:
        positions = [_of_chat(one, f"position {place}") for place, one in enumerate(content)]
    elif isinstance(tokens, list) and tokens:
        positions = _of_completion(tokens, logprobs.get("token_logprobs"), logprobs.get("top_logprobs"))
    else:
        return None
    for place, position in enumerate(positions):
        if len(position) > _MOST_ENTRIES:
            raise ValueError(f"position {place} lists {len(position):,} tokens")
        require_distribution(position, f"position {place}")
    return Listing.of(positions)


def _of_chat(entry: Any, where: str) -> Position:
    generated = _entry(entry, where)
    listed = entry.get("top_logprobs")
    if not isinstance(listed, list):
        raise ValueError(f"{where} has no list top_logprobs")
    return _joined(generated, [_entry(one, where) for one in listed], where)


def _of_completion(tokens: list[Any], log_p: Any, listed: Any) -> list[Position]:
    if not (
        isinstance(log_p, list) and isinstance(listed, list) and len(tokens) == len(log_p) == len(listed)
    ):
        raise ValueError("tokens, token_logprobs and top_logprobs are no lists of the same length")
    positions: list[Position] = []
    for place, (token, own, others) in enumerate(zip(tokens, log_p, listed, strict=True)):
        where = f"position {place}"
        if not is_object(others):
            raise ValueError(f"{where} maps no tokens to log-probabilities")
        if isinstance(others, Twice):
            raise ValueError(f"{where} lists a token twice")
        entries = [_named({"token": name}, value, where) for name, value in others.items()]
        positions.append(_joined(_named({"token": token}, own, where), entries, where))
    return positions


def _joined(generated: tuple[Token, float], listed: Position, where: str) -> Position:
    """The generated token first, once, whether or not it is one of those listed."""
    ids = [token for token, _ in listed if isinstance(token, int)]
    if len(set(ids)) < len(ids):
        twice = next(token for token in ids if ids.count(token) > 1)
        raise ValueError(f"{where} lists token {twice} twice")
    same = next((place for place, (token, _) in enumerate(listed) if token == generated[0]), None)
    return [generated, *(one for place, one in enumerate(listed) if place != same)]


def _entry(entry: Any, where: str) -> tuple[Token, float]:
    if not is_object(entry) or isinstance(entry, Twice):
        raise ValueError(f"{where} lists what is no token with one logprob")
    return _named(entry, entry.get("logprob"), where)


def _named(entry: dict[str, Any], log_p: Any, where: str) -> tuple[Token, float]:
    """The token by the surest of its names. Raises ValueError where it has none."""
    id, text, data = entry.get("id"), entry.get("token"), entry.get("bytes")
    if not isinstance(text, str):
        raise ValueError(f"{where} lists a token without text")
    spelled = _SPELLED_ID.fullmatch(text)
    token: Token
    if type(id) is int and 0 <= id < 2**31:
        token = id
    elif spelled:  # its bytes, if there are any, are of this spelling
        token = int(spelled[1])
    elif isinstance(data, list) and data and all(type(one) is int and 0 <= one < 256 for one in data):
        token = bytes(data)
    else:
        token = text.encode(errors="replace")
    return token, max(log_probability(log_p, where, repr(text[:20])), _NOTHING)
