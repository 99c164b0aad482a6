"""Capture a teacher's logits over examples into a cache, which training then reads instead of the teacher.

A killed capture continues: what is stored is not computed, or asked for, again, and the shards end as they
would have.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt

from codestill.config import RunConfig
from codestill.errors import ConfigError, LogitsError
from codestill.examples import ExamplesConfig, training_examples, validation_examples
from codestill.logits import CaptureSpec, Expectation, LogitCache, Manifest, Threshold, Truncation
from codestill.logits.writer import MANIFEST, LogitWriter, finish
from codestill.run import Run
from codestill.teachers import LocalTeacherConfig
from codestill.types import Example, TailRule

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from codestill.logits import MeasuredError, Rows
    from codestill.teachers.frozen import LocalTeacher
    from codestill.train.batches import TokenExample

Temperatures = Annotated[
    tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...], Field(min_length=1, max_length=16)
]


class CaptureConfig(BaseModel):
    """What of a teacher's logits is kept."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    truncation: Truncation = Threshold()
    """Which tokens are kept one by one; the others are the tail, whose mass is kept."""
    tail_samples: NonNegativeInt = 0
    """Tokens drawn from the tail per position, for the tail rule `sampled`."""
    batch_tokens: PositiveInt = 2048
    """Padded tokens that the teacher reads at once."""
    max_length: PositiveInt = 512
    """Longer examples are left out, as in training."""


class CacheConfig(CaptureConfig):
    """Teacher logits on disk: captured once, read in every epoch."""

    directory: Path | None = None
    """Where they lie (default: `logits` in the run's directory). A finished cache there is used as it is, if
    it is this teacher's and holds these examples."""
    tail: TailRule = "bucket"
    """What stands for the tokens that are not kept; see docs/logit-cache.md."""


class ServerConfig(BaseModel):
    """A vLLM-style server, asked for ``prompt_logprobs``. Its key is OPENAI_API_KEY's, where it needs one."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

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


class Source(Protocol):
    """Where a cache's rows come from."""

    @property
    def identity(self) -> dict[str, object]:
        """Whose distributions these are, as a cache's spec says it."""
        ...

    @property
    def paid(self) -> bool:
        """Whether every sequence costs: then what is stored is not asked for again with its batch, and what
        has come is stored at once."""
        ...

    def rows(self, batch: "Sequence[TokenExample]", spec: CaptureSpec) -> "Iterator[tuple[str, Rows]]":
        """The digest of each sequence, and what is kept of its scored positions, in order."""
        ...

    def error(self, sequences: "Sequence[TokenExample]", spec: CaptureSpec) -> "tuple[MeasuredError, ...]":
        """How much is lost, where that can be known."""
        ...


def capture_run(config: CaptureRun, run: Run) -> Manifest:
    """What ``codestill cache`` does: the cache lies in the run's directory, in `logits`."""
    directory = run.directory / "logits"
    if config.server is not None:
        from codestill.capture.served import ServedSource

        if config.examples.needs_teacher:
            raise ConfigError(
                "examples.answers is teacher, and the server is asked for probabilities alone.",
                next_step="Take examples.answers=reference, or a JSONL file of the answers as tasks.",
            )
        served = ServedSource(config.server)
        with config.execution.sandbox(config.sandbox) as sandbox:
            examples = training_examples(config.examples, None, sandbox, run)
        examples += validation_examples(config.examples)
        settings = examples, served.tokenizer, config.temperatures, config.capture, directory, run
        return _capture(served, *settings).manifest
    with config.execution.sandbox(config.sandbox) as sandbox:
        teacher = config.teacher.build(config.execution.device)
        examples = training_examples(config.examples, teacher, sandbox, run)
    examples += validation_examples(config.examples)
    in_parallel = None
    if config.processes > 1:
        from codestill.capture.parallel import fill_in_parallel

        in_parallel = partial(fill_in_parallel, config, directory, run)
    wanted = config.temperatures, config.capture
    return capture(examples, teacher, *wanted, directory, run, in_parallel).manifest


def capture(
    examples: Sequence[Example],
    teacher: "LocalTeacher",
    temperatures: Sequence[float],
    config: CaptureConfig,
    directory: Path,
    run: Run,
    in_parallel: "Callable[[CaptureSpec, Sequence[TokenExample]], None] | None" = None,
) -> LogitCache:
    """The teacher's logits over every scored token of the examples, as a cache.

    A finished cache in ``directory`` is opened, whatever captured it. Raises LogitsError when it is another
    teacher's, lacks a temperature, or was captured from other examples; each difference is named.
    """
    from codestill.capture.local import LocalSource

    source = LocalSource(teacher)
    return _capture(source, examples, teacher.tokenizer, temperatures, config, directory, run, in_parallel)


def _capture(
    source: Source,
    examples: Sequence[Example],
    tokenizer: "PreTrainedTokenizerBase",
    temperatures: Sequence[float],
    config: CaptureConfig,
    directory: Path,
    run: Run,
    in_parallel: "Callable[[CaptureSpec, Sequence[TokenExample]], None] | None" = None,
) -> LogitCache:
    from codestill.train.batches import tokenize

    spec = CaptureSpec.model_validate(
        source.identity
        | {
            "temperatures": tuple(temperatures),
            "truncation": config.truncation,
            "tail_samples": config.tail_samples,
            "seed": run.seed,
        }
    )
    found = {one.digest: one for one in tokenize(examples, tokenizer, config.max_length)}
    sequences = list(found.values())
    if not is_finished(directory):
        if in_parallel is not None:
            in_parallel(spec, sequences)
        else:
            _fill_here(sequences, source, spec, config, directory, run)
        finish(directory, source.error(sequences, spec), list(found))
    identity = {name: getattr(spec, name) for name in ("weights", "tokenizer", "vocabulary", "temperatures")}
    return _open(directory, sequences, Expectation.model_validate(identity), run)


def is_finished(directory: Path) -> bool:
    """Whether a capture there has come to its end."""
    return (directory / MANIFEST).exists()


def open_cache(
    directory: Path,
    examples: Sequence[Example],
    tokenizer: "PreTrainedTokenizerBase",
    temperatures: Sequence[float],
    config: CaptureConfig,
    run: Run,
) -> LogitCache:
    """A finished cache, for training without its teacher. Raises LogitsError as :func:`capture` does, but
    cannot see that a teacher of the same tokenizer is another."""
    from codestill.models.fingerprints import tokenizer_fingerprint
    from codestill.train.batches import tokenize

    sequences = tokenize(examples, tokenizer, config.max_length)
    expected = Expectation(tokenizer=tokenizer_fingerprint(tokenizer), temperatures=tuple(temperatures))
    return _open(directory, sequences, expected, run)


def _open(
    directory: Path, sequences: "Sequence[TokenExample]", expected: Expectation, run: Run
) -> LogitCache:
    cache = LogitCache.open(directory, expected)
    missing = [one.example_id for one in sequences if one.digest not in cache]
    if missing:
        raise LogitsError(
            f"{directory} lacks {len(missing):,} of {len(sequences):,} examples: {', '.join(missing[:3])}"
            + ("..." if len(missing) > 3 else ""),
            next_step="Capture these examples into another directory.",
        )
    _account(cache.manifest, run)
    return cache


def _fill_here(
    sequences: "Sequence[TokenExample]",
    source: Source,
    spec: CaptureSpec,
    config: CaptureConfig,
    directory: Path,
    run: Run,
) -> None:
    done = 0

    def tell(count: int) -> None:
        nonlocal done
        done += count
        run.progress("logits", done, len(sequences))

    with LogitWriter.open(directory, spec) as writer:
        fill(writer, sequences, source, spec, config, tell)


def fill(
    writer: LogitWriter,
    sequences: "Sequence[TokenExample]",
    source: Source,
    spec: CaptureSpec,
    config: CaptureConfig,
    tell: Callable[[int], None],
    part: tuple[int, int] = (0, 1),
) -> None:
    """Write what is owed of every batch whose number is ``part[0]`` modulo ``part[1]``; ``tell`` hears how
    many sequences each held."""
    from codestill.train.batches import LengthBatches

    lengths = [len(one.tokens) for one in sequences]
    for indices in list(LengthBatches(lengths, config.batch_tokens, seed=None))[part[0] :: part[1]]:
        batch = {sequences[index].digest: sequences[index] for index in indices}
        owed = [one for name, one in batch.items() if name not in writer]
        if owed:
            try:
                # Whole batches, whatever is stored of them already: a sum of floats may depend on its batch.
                for name, rows in source.rows(owed if source.paid else list(batch.values()), spec):
                    writer.add(batch[name].tokens, batch[name].first_scored, rows)
            finally:
                if source.paid:
                    writer.close()
        tell(len(batch))


def _account(manifest: Manifest, run: Run) -> None:
    """What the report says about the cache."""
    measured = {
        f"logits_error_T{one.temperature:g}": (
            f"KL {one.kl_error:.1g} nats, gradient {100 * one.gradient_error:.2g}%"
        )
        for one in manifest.error
        if one.rule == "bucket"
    }
    per_token = round(manifest.bytes_per_token, 1)
    run.account(logits_tokens=manifest.tokens, logits_bytes_per_token=per_token, **measured)
