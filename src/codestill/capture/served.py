"""Rows of a cache from a server that lists the most likely tokens of a prompt: vLLM's ``prompt_logprobs``."""

import math
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from codestill.capture.config import ServerConfig
from codestill.errors import LogitsError
from codestill.files.serialize import fingerprint
from codestill.logits import CapturedRows, CaptureSpec, MeasuredError, rows_from_top
from codestill.logits.listed import ROUNDING, log_probability, require_distribution
from codestill.models import Placement
from codestill.models.fingerprints import tokenizer_fingerprint
from codestill.models.load import resolve
from codestill.models.tokenizers import load_tokenizer
from codestill.openai_client import Twice, ask_for_json, noting_twice, openai_client
from codestill.train.batches import TokenExample

if TYPE_CHECKING:
    from openai import OpenAI
    from transformers import PreTrainedTokenizerBase

_NO_LOGPROBS = "Ask a vLLM server, started with --max-logprobs of at least server.top."


@dataclass(frozen=True)
class ServedSource:
    """The most likely tokens of every position, over HTTP, and the total probability of the rest."""

    config: ServerConfig
    batch_tokens: int = Placement().capture_batch_tokens
    """Padded tokens per batch."""

    @cached_property
    def tokenizer(self) -> "PreTrainedTokenizerBase":
        """The server's, by its configured name."""
        return load_tokenizer(resolve(self.config.tokenizer, weights=False))

    @cached_property
    def _client(self) -> "OpenAI":
        return openai_client(self.config.base_url, self.config.timeout_seconds, self.config.retries)

    @property
    def identity(self) -> dict[str, object]:
        """The teacher's fields of a cache's spec."""
        vocabulary = max(self.tokenizer.get_vocab().values()) + 1
        return {
            "teacher": self.config.model,
            "weights": fingerprint({"served": self.config.model}),
            "tokenizer": tokenizer_fingerprint(self.tokenizer),
            "vocabulary": vocabulary,
            "dtype": "unknown",
            "source": "server",
            "support": min(self.config.top, vocabulary),
        }

    @property
    def positions(self) -> int | None:
        """Only the server knows."""
        return None

    @property
    def metered(self) -> bool:
        """Yes: every request counts."""
        return True

    def rows(self, batch: Sequence[TokenExample], spec: CaptureSpec) -> Iterator[tuple[str, CapturedRows]]:
        """The digest of each sequence, and what is kept of its scored positions; a request for each.

        A request that failed raises LogitsError, once all others have been answered.
        """
        failures: list[LogitsError] = []
        with ThreadPoolExecutor(self.config.concurrency) as pool:
            requests = [(sequence.digest, pool.submit(self._ask, sequence, spec)) for sequence in batch]
            for name, answer in requests:
                try:
                    yield name, answer.result()
                except LogitsError as error:
                    failures.append(error)
        if failures:
            raise failures[0]

    def error(self, sequences: Sequence[TokenExample], spec: CaptureSpec) -> tuple[MeasuredError, ...]:
        """Unknown: only the server has seen the whole vocabulary."""
        return ()

    def _ask(self, sequence: TokenExample, spec: CaptureSpec) -> CapturedRows:
        config, sequence = self.config, sequence.as_taught
        try:
            listed = ask_for_json(
                lambda: self._client.completions.with_raw_response.create(
                    model=config.model,
                    prompt=sequence.tokens,
                    max_tokens=1,
                    temperature=0,
                    extra_body={"prompt_logprobs": config.top},
                ),
                _prompt_logprobs,
                config.retries,
                config.base_url,
                object_pairs_hook=noting_twice,
            )
        except ValueError as error:
            raise LogitsError(
                f"{config.base_url} did not answer for {sequence.example_id}: {error}",
                next_step="Check the server; the same command continues where it stopped.",
            ) from error
        if not isinstance(listed, list) or len(listed) != len(sequence.tokens):
            returned = f"{len(listed)} positions" if isinstance(listed, list) else "no prompt_logprobs"
            raise LogitsError(
                f"{config.base_url} returned {returned} for {len(sequence.tokens)} tokens of "
                f"{sequence.example_id}.",
                next_step=_NO_LOGPROBS,
            )
        places = range(sequence.first_scored, len(listed))
        try:
            ids_NK, log_p_NK = _arrays([_position(listed[n], f"position {n}", spec) for n in places])
        except ValueError as error:
            raise LogitsError(
                f"the server's prompt_logprobs for {sequence.example_id} are no distribution: {error}.",
                next_step=_NO_LOGPROBS,
            ) from error
        return rows_from_top(ids_NK, log_p_NK, spec.truncation)


def _prompt_logprobs(answer: Any) -> Any:
    """What the answer's first choice lists; None if it lists nothing. Raises ValueError if it has none."""
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise ValueError("choices is no list of objects")
    return choices[0].get("prompt_logprobs")


def _position(listed: Any, where: str, spec: CaptureSpec) -> list[tuple[int, float]]:
    """Token ids and log-probabilities of one position. Raises ValueError, naming it, if they are no part of a
    distribution over the vocabulary."""
    if not isinstance(listed, dict) or not listed:
        raise ValueError(f"{where} lists no token")
    if isinstance(listed, Twice):
        raise ValueError(f"{where} lists a token twice")
    found: dict[int, float] = {}
    for token, entry in listed.items():
        single = isinstance(entry, dict) and not isinstance(entry, Twice)
        log_p: Any = entry.get("logprob") if single else None
        if not re.fullmatch("[0-9]{1,10}", token) or type(log_p) not in (int, float):
            raise ValueError(f"{where} lists {token[:20]!r}, which is no token id with one logprob")
        log_p = log_probability(log_p, where, token)
        if int(token) in found:
            raise ValueError(f"{where} lists token {int(token)} twice")
        if int(token) < spec.vocabulary:
            found[int(token)] = log_p
        elif log_p > math.log(ROUNDING):  # ids that only pad the vocabulary are unlikely ones
            raise ValueError(f"{where} lists token {token}, but the tokenizer has {spec.vocabulary:,}")
    require_distribution(found.items(), where)
    return list(found.items())


def _arrays(pairs: Sequence[Sequence[tuple[int, float]]]) -> tuple[np.ndarray, np.ndarray]:
    """Token ids and log-probabilities [N, K], padded with minus infinity."""
    width = max((len(row) for row in pairs), default=0)
    ids_NK = np.zeros((len(pairs), width), dtype=np.int64)
    log_p_NK = np.full((len(pairs), width), -np.inf)
    for number, row in enumerate(pairs):
        for place, (token, log_p) in enumerate(row):
            ids_NK[number, place], log_p_NK[number, place] = token, log_p
    return ids_NK, log_p_NK
