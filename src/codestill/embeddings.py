"""Embeddings: vectors whose cosine says how similar two texts are.

Three kinds: TF-IDF of scikit-learn, which needs no download; sentence-transformers; and any
OpenAI-compatible endpoint. A vector depends on its text alone, so that a library can grow; TF-IDF's weights,
which depend on the whole library, are applied when it is searched.
"""

import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field, PositiveInt

from codestill.errors import ConfigError, TeacherError
from codestill.openai_client import KEY_VARIABLE, BaseUrl, ask_for_json, openai_client, require_key
from codestill.types import Settings

Vectors = Any
"""[N, D], a row per text: float32 of unit length, or scipy's CSR matrix of counts."""
Weighting = Callable[[Vectors], Vectors]
"""Turns encoded vectors into those that are compared."""
FEATURES = 2**20
"""Columns into which words are hashed: of 10,000 words, 50 pairs collide."""


class Embedder(Protocol):
    """Embeds texts."""

    def encode(self, texts: Sequence[str]) -> Vectors:
        """A row for each text, which depends on that text alone."""
        ...

    def weigh(self, library: Vectors) -> Weighting:
        """The weighting that goes with all rows of a library (at least one)."""
        ...


class TfidfEmbedderConfig(Settings):
    """Words weighted by how rare they are in the library (scikit-learn)."""

    type: Literal["tfidf"] = "tfidf"
    """TF-IDF; needs no download."""

    def build(self) -> "Tfidf":
        """Raises ConfigError where scikit-learn is not installed."""
        return Tfidf()


class _Neural(Settings):
    model: str = "Alibaba-NLP/gte-large-en-v1.5"
    """A directory or hub id; for an endpoint, the model's name there. The default is AMR-Evol's."""
    batch_size: PositiveInt = 32
    """Texts per batch."""


class SentenceEmbedderConfig(_Neural):
    """A neural embedder (sentence-transformers)."""

    type: Literal["sentence-transformers"] = "sentence-transformers"
    """Weighting on this machine."""
    revision: str | None = None
    """Branch, tag or commit on the hub."""
    trust_remote_code: bool = False
    """Run Python code that comes with `model`. Read that code first; the default model brings some."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the model runs."""

    def build(self) -> "Sentences":
        """Raises ConfigError where sentence-transformers is not installed or the model cannot be loaded."""
        return Sentences(self)


class EndpointEmbedderConfig(_Neural):
    """An OpenAI-compatible embeddings endpoint."""

    type: Literal["endpoint"] = "endpoint"
    """Embeddings over HTTP."""
    base_url: BaseUrl | None = None
    """URL of the API, e.g. `http://host:8000/v1` (default: OpenAI's). Its credentials are stored nowhere."""
    key_variable: str = KEY_VARIABLE
    """Environment variable that holds the key; your own endpoint may need none."""
    timeout_seconds: float = Field(default=120.0, gt=0)
    """Limit of one call."""
    retries: int = Field(default=6, ge=0)
    """Further calls, with growing pauses, where the endpoint is busy or fails."""

    def build(self) -> "Endpoint":
        """Nothing is called yet. Raises ConfigError where key or package is missing."""
        return Endpoint(self)


_Kinds = TfidfEmbedderConfig | SentenceEmbedderConfig | EndpointEmbedderConfig
AnyEmbedderConfig = Annotated[_Kinds, Field(discriminator="type")]
OptionalEmbedderConfig = Annotated[_Kinds | None, Field(discriminator="type")]
"""A union of its own: the command line finds no discriminator inside another union."""


class Tfidf:
    """Counts of hashed words, weighted by TF-IDF over the library with sublinear counts."""

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
            analyzer=code_words,  # pyright: ignore[reportArgumentType]
            norm=None,  # pyright: ignore[reportArgumentType]
            alternate_sign=False,
            dtype="float32",  # pyright: ignore[reportArgumentType]
        )

    def encode(self, texts: Sequence[str]) -> Vectors:
        return self._counts.transform(texts)

    def weigh(self, library: Vectors) -> Weighting:
        from sklearn.feature_extraction.text import TfidfTransformer

        fitted = TfidfTransformer(sublinear_tf=True).fit(library)
        return lambda rows: fitted.transform(rows)


def split_name(name: str) -> list[str]:
    """The words of an identifier, in lower case: ``["read", "json", "2"]`` of ``readJSON_2``."""
    return [part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]


def code_words(text: str) -> list[str]:
    """The words of text or code, in lower case, identifiers split; numbers and operators stay whole."""
    words: list[str] = []
    for token in re.findall(r"[^\W\d]\w*|\d+|[<>=!*/%+&|^~-]+|[^\w\s]", text):
        if token[0].isalpha() or token[0] == "_":
            words += split_name(token)
        elif token not in "().,:;[]{}\"'`_":
            words.append(token)
    return words


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
                next_step="Give a directory, or a hub id that can be reached; some need trust_remote_code.",
            ) from error
        self._batch_size = config.batch_size

    def encode(self, texts: Sequence[str]) -> Vectors:
        return self._model.encode(
            list(texts), batch_size=self._batch_size, normalize_embeddings=True, show_progress_bar=False
        ).astype("float32")

    def weigh(self, library: Vectors) -> Weighting:
        return _unchanged


class Endpoint:
    """Unit vectors from an endpoint."""

    def __init__(self, config: EndpointEmbedderConfig) -> None:
        require_key(config.model, config.base_url, config.key_variable, "embedder")
        self._config = config
        self._client = openai_client(
            config.base_url, config.timeout_seconds, config.retries, config.key_variable
        )

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Raises TeacherError where the endpoint gives no embeddings, or unequally long ones."""
        import numpy as np

        embedded: list[Any] = []
        for start in range(0, len(texts), self._config.batch_size):
            embedded += self._embed(list(texts[start : start + self._config.batch_size]))
        if len({len(row) for row in embedded}) > 1:
            raise self._failure("its embeddings are not equally long")
        rows = np.asarray(embedded, dtype="float32")
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)

    def _embed(self, texts: list[str]) -> list[Any]:
        config = self._config
        try:
            return ask_for_json(
                # Some servers do not support base64.
                lambda: self._client.embeddings.with_raw_response.create(
                    model=config.model, input=texts, encoding_format="float"
                ),
                lambda found: _vectors(found, len(texts)),
                config.retries,
                config.base_url,
                config.key_variable,
            )
        except ValueError as error:
            raise self._failure(str(error)) from error

    def _failure(self, reason: str) -> TeacherError:
        return TeacherError(
            f"{self._config.model} gave no embeddings: {reason}",
            next_step="Check the endpoint; the same command continues.",
        )

    def weigh(self, library: Vectors) -> Weighting:
        return _unchanged


def _vectors(answer: Any, count: int) -> list[Any]:
    """The vectors of an answer, float32, in the texts' order. Raises ValueError, naming the field."""
    import numpy as np

    listed = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(listed, list) or len(listed) != count:
        what = f"{len(listed)} embeddings" if isinstance(listed, list) else "no list"
        raise ValueError(f"data holds {what} for {count} texts")
    rows: dict[int, Any] = {}
    for place, entry in enumerate(listed):
        vector = entry.get("embedding") if isinstance(entry, dict) else None
        if (
            not isinstance(vector, list)
            or not vector
            or not all(type(value) in (int, float) and abs(value) < 1e30 for value in vector)
        ):
            raise ValueError(f"data[{place}].embedding is no list of finite numbers")
        index = entry.get("index", place)
        if type(index) is not int or not 0 <= index < count or index in rows:
            raise ValueError(f"data[{place}].index is {str(index)[:20]}, or stands twice, for {count} texts")
        rows[index] = np.asarray(vector, dtype="float32")
    return [rows[index] for index in range(count)]


def cosines(embedder: Embedder, *columns: Sequence[str]) -> list[list[float]]:
    """Cosines of each column's texts with the next column's, row by row, and last of the last column's with
    the first's: a list per column. TF-IDF's weights are over all these texts."""
    import numpy as np

    vectors = embedder.encode([text for column in columns for text in column])
    vectors = embedder.weigh(vectors)(vectors)
    count = len(columns[0])
    rows = [vectors[start : start + count] for start in range(0, count * len(columns), count)]
    pairs = zip(rows, [*rows[1:], rows[0]], strict=True)
    products = [a.multiply(b) if hasattr(a, "multiply") else a * b for a, b in pairs]
    return [np.asarray(product.sum(axis=1)).ravel().tolist() for product in products]


def _unchanged(rows: Vectors) -> Vectors:
    return rows
