"""Embeddings: rows of numbers, near each other where texts are about the same thing.

Three kinds: TF-IDF of scikit-learn, which needs no download; sentence-transformers; and any
OpenAI-compatible endpoint. A row depends on its text alone, so that a library can grow; what depends on the
whole library, TF-IDF's weights, is put on when it is searched.
"""

import os
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field, PositiveInt

from codestill.errors import ConfigError, TeacherError
from codestill.types import Settings

Rows = Any
"""[N, D]: float32 with unit rows, or scipy's CSR of counts."""
Weights = Callable[[Rows], Rows]
"""Gives rows as they are compared."""
FEATURES = 2**20
"""Columns into which words are hashed: of 10,000 words, 50 pairs share one."""


class Embedder(Protocol):
    """Makes rows of texts."""

    def encode(self, texts: Sequence[str]) -> Rows:
        """A row for each text, whatever the others are."""
        ...

    def weigh(self, library: Rows) -> Weights:
        """What turns rows into those that are compared, given all rows of the library (one or more)."""
        ...


class TfidfEmbedderConfig(Settings):
    """Words weighed by how rare they are in the library (scikit-learn)."""

    type: Literal["tfidf"] = "tfidf"
    """TF-IDF; needs no download."""

    def build(self) -> "Tfidf":
        """Raises ConfigError where scikit-learn is not installed."""
        return Tfidf()


class _Neural(Settings):
    model: str = "Alibaba-NLP/gte-large-en-v1.5"
    """A directory or hub id; of an endpoint, the model's name there. The default is the paper's."""
    batch_size: PositiveInt = 32
    """Texts embedded together."""


class SentenceEmbedderConfig(_Neural):
    """A neural embedder (sentence-transformers)."""

    type: Literal["sentence-transformers"] = "sentence-transformers"
    """Weights on this machine."""
    revision: str | None = None
    """Branch, tag or commit on the hub."""
    trust_remote_code: bool = False
    """Run Python code that comes with `model`. Read that code first; the default model has some."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where it runs."""

    def build(self) -> "Sentences":
        """Raises ConfigError where sentence-transformers is not installed or the model cannot be loaded."""
        return Sentences(self)


class EndpointEmbedderConfig(_Neural):
    """An OpenAI-compatible embeddings endpoint."""

    type: Literal["endpoint"] = "endpoint"
    """Embeddings from elsewhere."""
    base_url: str | None = None
    """Where the API lies, as `http://host:8000/v1` (default: OpenAI's)."""
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; an endpoint of one's own needs none."""
    timeout_seconds: float = Field(default=120.0, gt=0)
    """For one call."""
    retries: int = Field(default=6, ge=0)
    """Calls more, with growing pauses, where the endpoint is busy or broken."""

    def build(self) -> "Endpoint":
        """Nothing is called yet. Raises ConfigError where key or package is missing."""
        return Endpoint(self)


_Kinds = TfidfEmbedderConfig | SentenceEmbedderConfig | EndpointEmbedderConfig
AnyEmbedderConfig = Annotated[_Kinds, Field(discriminator="type")]
OptionalEmbedderConfig = Annotated[_Kinds | None, Field(discriminator="type")]
"""A union of its own: the command line finds no discriminator inside another union."""


class Tfidf:
    """Counts of hashed words; weights by TF-IDF over the library, with sublinear counts."""

    def __init__(self) -> None:
        try:
            from sklearn.feature_extraction.text import HashingVectorizer
        except ImportError as error:
            raise ConfigError(
                "TF-IDF needs scikit-learn, which is not installed.",
                next_step="pip install 'codestill[retrieval]'",
            ) from error
        self._counts = HashingVectorizer(
            n_features=FEATURES,
            analyzer=tokens,  # pyright: ignore[reportArgumentType]
            norm=None,  # pyright: ignore[reportArgumentType]
            alternate_sign=False,
            dtype="float32",  # pyright: ignore[reportArgumentType]
        )

    def encode(self, texts: Sequence[str]) -> Rows:
        return self._counts.transform(texts)

    def weigh(self, library: Rows) -> Weights:
        from sklearn.feature_extraction.text import TfidfTransformer

        fitted = TfidfTransformer(sublinear_tf=True).fit(library)
        return lambda rows: fitted.transform(rows)


def split_name(name: str) -> list[str]:
    """The words of an identifier, in lower case: ``["read", "json", "2"]`` of ``readJSON_2``."""
    return [part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]


def tokens(text: str) -> list[str]:
    """The words of text or code, in lower case, identifiers taken apart; numbers and operators stay whole."""
    found: list[str] = []
    for token in re.findall(r"[^\W\d]\w*|\d+|[<>=!*/%+&|^~-]+|[^\w\s]", text):
        if token[0].isalpha() or token[0] == "_":
            found += split_name(token)
        elif token not in "().,:;[]{}\"'`_":
            found.append(token)
    return found


class Sentences:
    """Unit vectors of a sentence-transformers model."""

    def __init__(self, config: SentenceEmbedderConfig) -> None:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise ConfigError(
                "this embedder needs sentence-transformers, which is not installed.",
                next_step="pip install 'codestill[embeddings]'",
            ) from error
        try:
            self._model = SentenceTransformer(
                config.model,
                revision=config.revision,
                trust_remote_code=config.trust_remote_code,
                device=None if config.device == "auto" else config.device,
            )
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"the embedder {config.model} cannot be loaded: {str(error).strip().splitlines()[0]}",
                next_step="Give a directory, or a hub id that can be reached; some want trust_remote_code.",
            ) from error
        self._batch_size = config.batch_size

    def encode(self, texts: Sequence[str]) -> Rows:
        return self._model.encode(
            list(texts), batch_size=self._batch_size, normalize_embeddings=True, show_progress_bar=False
        ).astype("float32")

    def weigh(self, library: Rows) -> Weights:
        return _as_they_are


class Endpoint:
    """Unit vectors from an endpoint."""

    def __init__(self, config: EndpointEmbedderConfig) -> None:
        try:
            from openai import OpenAI
        except ImportError as error:
            raise ConfigError(
                "an endpoint is called through the `openai` package, which is not installed.",
                next_step="pip install 'codestill[api]'",
            ) from error
        key = os.environ.get(config.key_variable)
        if config.base_url is None and not key:
            raise ConfigError(
                f"{config.model} needs a key, and {config.key_variable} is not set.",
                next_step=f"export {config.key_variable}=..., or set embedder.base_url to your own endpoint.",
            )
        self._config = config
        self._client = OpenAI(
            api_key=key or "none",
            base_url=config.base_url,
            timeout=config.timeout_seconds,
            max_retries=config.retries,
        )

    def encode(self, texts: Sequence[str]) -> Rows:
        """Raises TeacherError where the endpoint gives no embeddings."""
        import numpy as np

        found: list[list[float]] = []
        for start in range(0, len(texts), self._config.batch_size):
            found += self._ask(list(texts[start : start + self._config.batch_size]))
        rows = np.asarray(found, dtype="float32")
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)

    def _ask(self, texts: list[str]) -> list[list[float]]:
        import openai

        try:
            # Not base64, which some servers do not know.
            answer = self._client.embeddings.create(
                model=self._config.model, input=texts, encoding_format="float"
            )
            rows = [one.embedding for one in sorted(answer.data, key=lambda one: one.index)]
        except (openai.OpenAIError, ValueError, TypeError, AttributeError) as error:
            raise TeacherError(
                f"{self._config.model} gave no embeddings: {str(error).splitlines()[0][:300]}",
                next_step="Look at the endpoint; the same command continues.",
            ) from error
        if len(rows) != len(texts) or len({len(row) for row in rows}) != 1:
            raise TeacherError(
                f"{self._config.model} gave {len(rows)} embeddings, or unequal ones, for {len(texts)} texts.",
                next_step="Look at the endpoint; the same command continues.",
            )
        return rows

    def weigh(self, library: Rows) -> Weights:
        return _as_they_are


def cosines(embedder: Embedder, *columns: Sequence[str]) -> list[list[float]]:
    """How alike the texts of each column are to those of the next, row by row; last, the last one's to the
    first one's. TF-IDF's weights are of all these texts."""
    import numpy as np

    found = embedder.encode([text for column in columns for text in column])
    found = embedder.weigh(found)(found)
    count = len(columns[0])
    rows = [found[start : start + count] for start in range(0, count * len(columns), count)]
    pairs = zip(rows, [*rows[1:], rows[0]], strict=True)
    products = [a.multiply(b) if hasattr(a, "multiply") else a * b for a, b in pairs]
    return [np.asarray(product.sum(axis=1)).ravel().tolist() for product in products]


def _as_they_are(rows: Rows) -> Rows:
    return rows
