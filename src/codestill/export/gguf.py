"""GGUF, for llama.cpp and what is built on it (Ollama, LM Studio): one file with everything in it."""

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from codestill.errors import ModelError
from codestill.export.form import Form
from codestill.models.gguf.kinds import KINDS, Kind

BATCH = 512
"""Tokens that are read in one pass."""


def write(source: str, place: Path, kind: str) -> None:
    """See :func:`codestill.models.gguf.write.write_gguf`."""
    from codestill.models.gguf.write import write_gguf

    write_gguf(source, place, cast(Kind, kind), licence=licence(source))


def licence(source: str) -> str:
    """The saved model's own, where it is known."""
    from codestill.models.licence import UNKNOWN, licence_of

    return said if (said := licence_of(source)) != UNKNOWN else ""


class LlamaCppReader:
    """The file in llama.cpp, on this machine's processor, by its C interface: no more tokens are scored than
    are asked for. Raises ModelError for a file that it does not load."""

    def __init__(self, place: Path, threads: int, positions: int) -> None:
        import llama_cpp as lib  # pyright: ignore[reportMissingImports]

        self.lib = lib
        self.quiet = lib.llama_log_callback(lambda *_: None)
        lib.llama_log_set(self.quiet, ctypes.c_void_p(0))
        lib.llama_backend_init()
        settings = lib.llama_model_default_params()
        settings.n_gpu_layers = 0
        self.model = lib.llama_model_load_from_file(str(place).encode(), settings)
        if not self.model:
            raise ModelError(
                f"llama.cpp does not load {place}.",
                next_step="llama-cli says why; report it where codestill wrote the file.",
            )
        how = lib.llama_context_default_params()
        how.n_ctx, how.n_batch, how.n_ubatch = positions, BATCH, BATCH
        how.n_threads = how.n_threads_batch = threads
        self.context = lib.llama_init_from_model(self.model, how)
        self.rows = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self.model))
        self.batch = lib.llama_batch_init(BATCH, 0, 1)
        self.past = 0

    def begin(self) -> None:
        """See :class:`codestill.models.alone.Reader`."""
        self.lib.llama_memory_clear(self.lib.llama_get_memory(self.context), True)
        self.past = 0

    def read(self, ids: Sequence[int], keep: int = 1) -> NDArray[Any]:
        """See :class:`codestill.models.alone.Reader`."""
        first = len(ids) - keep
        parts = [
            self._pass(ids[start : start + BATCH], max(0, first - start))
            for start in range(0, len(ids), BATCH)
        ]
        return np.concatenate(parts)

    def _pass(self, ids: Sequence[int], first: int) -> NDArray[Any]:
        """Logits [n, V] after each token from the ``first`` on."""
        batch = self.batch
        batch.n_tokens = len(ids)
        for place, token in enumerate(ids):
            batch.token[place], batch.pos[place] = token, self.past + place
            batch.n_seq_id[place], batch.seq_id[place][0] = 1, 0
            batch.logits[place] = place >= first
        if code := self.lib.llama_decode(self.context, batch):
            raise ModelError(
                f"llama.cpp ends with code {code} after {self.past} tokens.",
                next_step="A text may be longer than its context; a smaller --max-new-tokens leaves room.",
            )
        self.past += len(ids)
        scored = [self.lib.llama_get_logits_ith(self.context, place) for place in range(first, len(ids))]
        rows = [np.ctypeslib.as_array(logits, (self.rows,)) for logits in scored]
        return np.array(rows, dtype=np.float32).reshape(len(rows), self.rows)

    def __del__(self) -> None:
        if getattr(self, "context", None):
            self.lib.llama_batch_free(self.batch)
            self.lib.llama_free(self.context)
            self.lib.llama_model_free(self.model)


FORM = Form(
    name="gguf",
    kinds=("q8_0", *(kind for kind in KINDS if kind != "q8_0")),
    write=write,
    open=LlamaCppReader,
    program="llama.cpp by llama-cpp-python",
    package="llama-cpp-python",
    writes_with=("gguf",),
    extra="gguf",
    ending=".gguf",
)
