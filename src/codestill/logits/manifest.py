"""The description of a cache, and the expectations that a reader can check against it."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, field_validator, model_validator

from codestill.errors import LogitsError
from codestill.logits.truncation import MAX_K, Threshold, Truncation
from codestill.types import Settings, TailRule

Temperature = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Source = Literal["local", "server", "answers"]


class CaptureSpec(Settings):
    """The teacher, and how its distributions are captured: the same for every writer of a cache."""

    teacher: str
    """Name of the teacher."""
    revision: str | None = None
    """Its branch, tag or commit."""
    weights: str
    """Fingerprint of its weights; for a server, of the model's name."""
    tokenizer: str
    """Fingerprint of the tokenizer that encoded the sequences."""
    template: str | None = None
    """Fingerprint of the prompt template, where there is one."""
    vocabulary: int = Field(ge=1, le=2**24)
    """How many leading token ids teacher and student share; softmax is over these alone."""
    temperatures: tuple[Temperature, ...] = Field(default=(1.0, 2.0), min_length=1, max_length=16)
    """Temperatures that can be served, ascending: the tail's mass is stored at each."""
    truncation: Truncation = Threshold()
    """Which tokens are kept individually; the others are the tail."""
    tail_samples: int = Field(default=0, ge=0, le=MAX_K)
    """Tokens sampled from the tail, per position and temperature, for the tail rule `sampled`."""
    seed: int = 0
    """Seed of those samples."""
    dtype: str = "float32"
    """Type that the teacher computed its logits in."""
    source: Source = "local"
    """Local weights, a server that lists the most likely tokens, or one that listed them with its answers:
    there, positions that the answers do not have are rows without an event."""
    support: int | None = Field(default=None, ge=1)
    """None: the teacher's whole vocabulary was seen. A number: a server listed this many tokens per position,
    and the mass of the others is one minus their sum, at temperature 1."""

    @field_validator("temperatures")
    @classmethod
    def _ascending(cls, temperatures: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(sorted(set(temperatures)))

    @model_validator(mode="after")
    def _known_tails(self) -> "CaptureSpec":
        if self.source == "answers" and self.temperatures != (1.0,):
            raise ValueError(
                "log-probabilities that came with answers are at temperature 1, and the tail's mass is known "
                "there only, so `temperatures` must be [1.0]"
            )
        if self.support is None or self.support >= self.vocabulary:
            return self
        if self.temperatures != (1.0,):
            raise ValueError(
                f"the server gave {self.support} of {self.vocabulary} tokens: the tail's mass is known at "
                "temperature 1 only, so `temperatures` must be [1.0]"
            )
        if self.tail_samples:
            raise ValueError("a server's tail was not seen, so nothing can be sampled from it")
        return self

    @property
    def tail_rules(self) -> tuple[TailRule, ...]:
        """The tail rules that can be served; rows without an event need the tail as an outcome."""
        if self.source == "answers":
            return ("bucket",)
        plain: tuple[TailRule, ...] = ("bucket", "renormalise", "drop")
        return (*plain, "sampled") if self.tail_samples else plain


class MeasuredError(Settings):
    """How far a loss from the cache is from the loss over the whole vocabulary, on a sample."""

    temperature: Temperature
    """Divides the logits of both."""
    rule: TailRule
    """How the tail was treated."""
    student: str
    """Name of the reference student; `unigram`: the captured tokens' frequencies, add-one smoothed."""
    positions: int = Field(ge=1)
    """Scored tokens that were measured."""
    kl: float
    """Mean forward KL(teacher || student) over the whole vocabulary, in nats."""
    kl_error: float = Field(ge=0)
    """Absolute difference of the mean KL, in nats. Under `sampled` the value lacks the entropy of the tail,
    which no gradient depends on."""
    gradient_error: float = Field(ge=0)
    """||G - G_cache|| / ||G||, Frobenius, of the gradients with respect to the student's logits."""


class ShardEntry(Settings):
    """One shard file."""

    name: str
    """File name within the cache."""
    bytes: int
    """Its size."""
    sequences: int
    """Sequences in it."""
    checksum: int
    """CRC-32 of its head and index, which hold the CRC-32 of every sequence."""


class CacheManifest(CaptureSpec):
    """``manifest.json``: written last, so its absence means that the capture is unfinished."""

    format: Literal["codestill-logits"] = "codestill-logits"
    """Name of the format."""
    version: Literal[1] = 1
    """Version of the format."""
    data: str
    """Fingerprint of the sorted digests of the sequences."""
    sequences: int
    """Distinct sequences."""
    tokens: int
    """Scored tokens: rows."""
    entries: int
    """Kept (token, probability) pairs."""
    bytes: int
    """Size of all shards."""
    shards: tuple[ShardEntry, ...]
    """Its files."""
    positions: int | None = Field(default=None, ge=1)
    """Longest sequence that the teacher reads: longer examples were left out. None: it has no limit, or a
    server's is unknown."""
    error: tuple[MeasuredError, ...] = ()
    """Measured while capturing; empty when nothing was measured."""

    @property
    def spec(self) -> CaptureSpec:
        """The part that was known before the capture."""
        return CaptureSpec(**{name: getattr(self, name) for name in CaptureSpec.model_fields})

    @property
    def bytes_per_token(self) -> float:
        """Bytes on disk per scored token, token ids and index included."""
        return self.bytes / max(self.tokens, 1)


class Expectation(Settings):
    """A reader's expectations: the fields that are set must agree, the others are free.

    ``temperatures`` are those that must be servable; the cache may serve more.
    """

    teacher: str | None = None
    revision: str | None = None
    weights: str | None = None
    tokenizer: str | None = None
    template: str | None = None
    vocabulary: int | None = None
    temperatures: tuple[Temperature, ...] = ()
    truncation: Truncation | None = None
    tail_samples: int | None = None
    seed: int | None = None
    dtype: str | None = None
    source: Source | None = None
    support: int | None = None
    data: str | None = None

    def check(self, found: CaptureSpec, where: str) -> None:
        """Raises LogitsError naming every field that differs, with both values."""
        lines = [
            f"  {name}: the cache has {_shown(getattr(found, name))}, expected {_shown(getattr(self, name))}"
            for name in type(self).model_fields
            if name in self.model_fields_set and not self._agrees(name, found)
        ]
        if lines:
            raise LogitsError(
                f"{where} is not the expected cache.\n" + "\n".join(lines),
                next_step="Capture into another directory, or correct the setting that differs.",
            )

    def _agrees(self, name: str, found: CaptureSpec) -> bool:
        if name == "temperatures":
            return set(self.temperatures) <= set(found.temperatures)
        return getattr(self, name) == getattr(found, name)


def _shown(value: Any) -> str:
    if isinstance(value, BaseModel):
        return str(value)
    return repr(list(value) if isinstance(value, tuple) else value)
