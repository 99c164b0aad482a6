"""What can be set about a capture."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from codestill.config import RunConfig
from codestill.examples import ExamplesConfig
from codestill.files.serialize import is_object
from codestill.logits import Threshold, Truncation
from codestill.losses import Distillation
from codestill.losses.table import find
from codestill.models import ChatConfig, StudentConfig
from codestill.openai_client import BaseUrl
from codestill.teachers import ApiTeacherConfig, LocalTeacherConfig
from codestill.teachers.api_settings import ApiSettings
from codestill.teachers.endpoint import PLAIN_TEMPERATURES
from codestill.teachers.session import AnyTeacherConfig, TeacherUsage
from codestill.train import TrainConfig
from codestill.types import Settings, TailRule

Temperatures = Annotated[
    tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...], Field(min_length=1, max_length=16)
]


class CaptureConfig(Settings):
    """Which part of a teacher's logits is kept."""

    truncation: Truncation = Threshold()
    """Which tokens are kept individually; the others are the tail, of which the total probability is kept."""
    tail_samples: NonNegativeInt = 0
    """Tokens sampled from the tail per position, for the tail rule `sampled`."""
    max_length: PositiveInt = 512
    """Longer examples, in tokens, are left out, as in training."""


class CacheConfig(CaptureConfig):
    """Teacher logits on disk: captured once, then read in every epoch."""

    directory: Path | None = None
    """Where they are stored (default: `logits` in the run's directory). A finished cache there is used as it
    is, if it is this teacher's and holds these examples."""
    tail: TailRule = "bucket"
    """What stands for the tokens that are not kept; see docs/logit-cache.md."""
    vocabularies: Literal["same", "aligned"] = "same"
    """``same``: student and teacher share a tokenizer, or nothing is trained. ``aligned``: the teacher has
    another, captures its own tokens, and teaches where both cut the text alike; see
    docs/other-tokenizers.md."""

    @model_validator(mode="after")
    def _aligned_needs_a_bucket(self) -> Self:
        if self.vocabularies == "aligned" and self.tail != "bucket":
            raise ValueError(
                f"tail is {self.tail}, and vocabularies is aligned: what the student lacks of the teacher's "
                "tokens needs the tail rule bucket"
            )
        return self


class TeacherLogitsConfig(Settings):
    """Where a student's targets come from: the teacher as it is asked, or a cache of its logits."""

    objective: Distillation = Distillation()
    """Divergence, temperature and weight."""
    train: TrainConfig = TrainConfig()
    """How the student is optimised."""
    teacher_logits: Literal["live", "cached"] = "live"
    """``cached``: the teacher's logits are computed once, kept on disk as `cache` says, and read in every
    epoch."""
    cache: CacheConfig = CacheConfig()
    """What is kept of them, and where."""

    @model_validator(mode="after")
    def _cache_holds_what_is_trained(self) -> Self:
        if self.teacher_logits == "cached" and self.train.max_length > self.cache.max_length:
            raise ValueError(
                f"train.max_length is {self.train.max_length}, and cache.max_length {self.cache.max_length}: "
                "longer examples would be trained on without logits; set both to the same"
            )
        return self

    @model_validator(mode="after")
    def _aligned_is_cached(self) -> Self:
        if self.cache.vocabularies == "same":
            return self
        if self.teacher_logits != "cached":
            raise ValueError(
                "cache.vocabularies is aligned, and teacher_logits is live: a teacher with another tokenizer "
                "teaches through the cache; set teacher_logits to cached"
            )
        self.require_bucket("aligned vocabularies")
        return self

    def require_bucket(self, what: str) -> None:
        """Raise ValueError where the divergence needs more than listed tokens and the total of the rest."""
        if "bucket" not in find(self.objective.divergence).tail_rules:
            raise ValueError(
                f"objective.divergence is {self.objective.divergence}, which needs the whole vocabulary: "
                f"with {what} choose one that takes the tail rule bucket, such as forward_kl"
            )


class ServerConfig(Settings):
    """A vLLM-style server that returns ``prompt_logprobs``. Its key, if it needs one, is OPENAI_API_KEY."""

    base_url: BaseUrl
    """URL of its completions endpoint, e.g. ``http://host:8000/v1``. Credentials in it are stored nowhere."""
    model: str
    """The model's name on the server."""
    tokenizer: str
    """Directory or hub id of its tokenizer, which encodes the prompts that are sent."""
    top: PositiveInt = 20
    """Tokens listed per position; the server sets a limit (vLLM: --max-logprobs)."""
    concurrency: PositiveInt = 8
    """Requests at once."""
    timeout_seconds: PositiveFloat = 300.0
    """Timeout of one request."""
    retries: NonNegativeInt = 5
    """Further attempts, with growing pauses, when the server is busy or the connection breaks."""


def require_answers_teach(teacher: ApiSettings, examples: ExamplesConfig) -> None:
    """Raise ValueError, with what to set, where an endpoint's answers cannot come with rows of a cache."""
    if teacher.logprobs is None:
        raise ValueError(
            "teacher: an endpoint teaches logits by the log-probabilities that come with its answers; set "
            "teacher.logprobs (20, say)"
        )
    if teacher.tokenizer is None:
        raise ValueError(
            "teacher.tokenizer: which tokens are listed is read with the model's tokenizer; name its "
            "directory, GGUF file or hub id"
        )
    if not examples.needs_teacher:
        raise ValueError(
            "examples.answers is reference: an endpoint lists the tokens of its own answers; set it to "
            "teacher"
        )
    if examples.temperature not in PLAIN_TEMPERATURES:
        raise ValueError(
            f"examples.temperature is {examples.temperature:g}: some servers list log-probabilities before "
            "sampling, some after; at 0 and 1 both are the same"
        )


def at_one(values: Any, group: str, temperatures: Any) -> Any:
    """The settings of a run, as given, with the temperature of what comes with answers where they name
    none."""
    if not is_object(values):
        return values
    teacher, given = values.get("teacher"), values.get(group)
    if (teacher.get("type") if is_object(teacher) else getattr(teacher, "type", "")) != "api":
        return values
    if is_object(temperatures) and (given is None or is_object(given)):
        return values | {group: temperatures | (given or {})}
    return values | {group: temperatures} if given is None else values


class CaptureRun(ChatConfig, RunConfig):
    """``codestill cache``: the logits of a teacher over the examples of a task set.

    ``chat`` and what belongs to it are the student's, whose rows are captured; ``auto`` takes the teacher's.
    With ``student`` they are how the teacher is asked.
    """

    recipe: Literal["cache"] = "cache"
    """Kind of run."""
    teacher: AnyTeacherConfig = LocalTeacherConfig()
    """The teacher, unless a server is named: local weights, or an endpoint that lists the tokens of its
    answers (`teacher.logprobs`)."""
    teacher_usage: TeacherUsage = TeacherUsage()
    """What is kept of its answers, with ``examples.answers=teacher``, and their budget."""
    server: ServerConfig | None = None
    """Use this server instead. Of the tail it gives only the total probability, at temperature 1."""
    student: StudentConfig | None = None
    """A student with another tokenizer, for whose rows the teacher's tokens are captured
    (`cache.vocabularies=aligned`); says how much of the teacher will reach it."""
    examples: ExamplesConfig = ExamplesConfig()
    """Prompts and completions to capture; the validation tasks are captured, too."""
    temperatures: Temperatures = (1.0, 2.0)
    """Temperatures that the cache can serve (of an endpoint's answers: 1 alone)."""
    capture: CaptureConfig = CaptureConfig()
    """Which part of the logits is kept."""
    processes: PositiveInt = 1
    """Processes that capture in parallel, each with its own teacher: usually one per GPU."""

    @model_validator(mode="before")
    @classmethod
    def _answers_are_at_one(cls, values: Any) -> Any:
        return at_one(values, "temperatures", (1.0,))

    @model_validator(mode="after")
    def _answers_teach(self) -> Self:
        if not isinstance(self.teacher, ApiTeacherConfig):
            return self
        if self.server is not None:
            raise ValueError(
                "server: teacher is an endpoint already, whose answers bring their rows; unset one"
            )
        require_answers_teach(self.teacher, self.examples)
        if self.temperatures != (1.0,) or self.capture.tail_samples:
            raise ValueError(
                "temperatures: of what the endpoint did not list only the total at temperature 1 is known; "
                "set temperatures to 1, and capture.tail_samples to 0"
            )
        if self.processes > 1:
            raise ValueError("processes: nothing is computed for an endpoint's answers; set it to 1")
        return self
