"""Rows of a cache from a server that lists the most likely tokens of a prompt: vLLM's ``prompt_logprobs``."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from codestill.capture.config import ServerConfig
from codestill.errors import LogitsError
from codestill.logits import CapturedRows, CaptureSpec, MeasuredError, rows_from_top
from codestill.models import Placement
from codestill.models.fingerprints import tokenizer_fingerprint
from codestill.models.load import resolve
from codestill.models.tokenizers import load_tokenizer
from codestill.openai_client import openai_client
from codestill.serialize import fingerprint
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

    @property
    def tokenizer(self) -> "PreTrainedTokenizerBase":
        """The server's, by its configured name."""
        return self._tokenizer

    @cached_property
    def _tokenizer(self) -> "PreTrainedTokenizerBase":
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
        failure: LogitsError | None = None
        with ThreadPoolExecutor(self.config.concurrency) as pool:
            requests = [(sequence.digest, pool.submit(self._ask, sequence, spec)) for sequence in batch]
            for name, answer in requests:
                try:
                    yield name, answer.result()
                except LogitsError as error:
                    failure = failure or error
        if failure is not None:
            raise failure

    def error(self, sequences: Sequence[TokenExample], spec: CaptureSpec) -> tuple[MeasuredError, ...]:
        """Unknown: only the server has seen the whole vocabulary."""
        return ()

    def _ask(self, sequence: TokenExample, spec: CaptureSpec) -> CapturedRows:
        from openai import OpenAIError

        try:
            answer = self._client.completions.create(
                model=self.config.model,
                prompt=sequence.tokens,
                max_tokens=1,
                temperature=0,
                extra_body={"prompt_logprobs": self.config.top},
            )
        except OpenAIError as error:
            raise LogitsError(
                f"{self.config.base_url} did not answer for {sequence.example_id}: "
                f"{type(error).__name__}: {str(error).splitlines()[0][:200]}",
                next_step="Check the server; the same command continues where it stopped.",
            ) from error
        listed = getattr(answer.choices[0], "prompt_logprobs", None) if answer.choices else None
        if not isinstance(listed, list) or len(listed) != len(sequence.tokens):
            returned = f"{len(listed)} positions" if isinstance(listed, list) else "no prompt_logprobs"
            raise LogitsError(
                f"{self.config.base_url} returned {returned} for {len(sequence.tokens)} tokens of "
                f"{sequence.example_id}.",
                next_step=_NO_LOGPROBS,
            )
        ids_NK, log_p_NK = _arrays(listed[sequence.first_scored :], sequence.example_id)
        return rows_from_top(ids_NK, log_p_NK, spec.truncation)


def _arrays(listed: Sequence[Mapping[str, Any] | None], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Token ids and log-probabilities [N, K], padded with minus infinity."""
    try:
        pairs = [
            [(int(token), float(entry["logprob"])) for token, entry in (position or {}).items()]
            for position in listed
        ]
    except (TypeError, KeyError, ValueError) as error:
        raise LogitsError(
            f"the server's prompt_logprobs for {name} are not token ids with a logprob each.",
            next_step=_NO_LOGPROBS,
        ) from error
    width = max((len(row) for row in pairs), default=0)
    ids_NK = np.zeros((len(pairs), width), dtype=np.int64)
    log_p_NK = np.full((len(pairs), width), -np.inf)
    for number, row in enumerate(pairs):
        for place, (token, log_p) in enumerate(row):
            ids_NK[number, place], log_p_NK[number, place] = token, log_p
    return ids_NK, log_p_NK
