"""What can be set about a capture."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from codestill.config import RunConfig
from codestill.examples import ExamplesConfig
from codestill.logits import Threshold, Truncation
from codestill.teachers import LocalTeacherConfig
from codestill.types import Settings, TailRule

Temperatures = Annotated[
    tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...], Field(min_length=1, max_length=16)
]


class CaptureConfig(Settings):
    """What of a teacher's logits is kept."""

    truncation: Truncation = Threshold()
    """Which tokens are kept one by one; the others are the tail, whose mass is kept."""
    tail_samples: NonNegativeInt = 0
    """Tokens drawn from the tail per position, for the tail rule `sampled`."""
    max_length: PositiveInt = 512
    """Longer examples are left out, as in training."""


class CacheConfig(CaptureConfig):
    """Teacher logits on disk: captured once, read in every epoch."""

    directory: Path | None = None
    """Where they lie (default: `logits` in the run's directory). A finished cache there is used as it is, if
    it is this teacher's and holds these examples."""
    tail: TailRule = "bucket"
    """What stands for the tokens that are not kept; see docs/logit-cache.md."""


class ServerConfig(Settings):
    """A vLLM-style server, asked for ``prompt_logprobs``. Its key is OPENAI_API_KEY's, where it needs one."""

    base_url: str
    """Where its completions endpoint lies: ``http://host:8000/v1``."""
    model: str
    """The model's name there."""
    tokenizer: str
    """Directory or hub id of its tokenizer, which makes the token ids that are sent."""
    top: PositiveInt = 20
    """Tokens listed per position; the server sets a limit (vLLM: --max-logprobs)."""
    concurrency: PositiveInt = 8
    """Requests at once."""
    timeout_seconds: PositiveFloat = 300.0
    """Wait for one answer."""
    retries: NonNegativeInt = 5
    """Attempts more, with growing pauses, where the server is busy or the connection breaks."""


class CaptureRun(RunConfig):
    """``codestill cache``: the logits of a teacher over the examples of a task set."""

    recipe: Literal["cache"] = "cache"
    """What kind of run this is."""
    teacher: LocalTeacherConfig = LocalTeacherConfig()
    """Whose logits, where no server is named."""
    server: ServerConfig | None = None
    """Ask this server instead. It tells nothing of the tail but its mass at temperature 1."""
    examples: ExamplesConfig = ExamplesConfig()
    """Over which prompts and completions; the validation tasks are captured, too."""
    temperatures: Temperatures = (1.0, 2.0)
    """Temperatures that the cache can serve."""
    capture: CaptureConfig = CaptureConfig()
    """What is kept."""
    processes: PositiveInt = 1
    """Processes that capture side by side, each with a teacher of its own: as many as there are GPUs."""
