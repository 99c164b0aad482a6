"""``codestill cache``: a capture as a run of its own."""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from codestill.capture.aligned import read_aligned
from codestill.capture.config import CaptureRun
from codestill.capture.fill import Capture, LogitSource
from codestill.errors import ConfigError
from codestill.examples import training_examples, validation_examples
from codestill.logits import CacheManifest
from codestill.prompts import fitting
from codestill.run import Run
from codestill.teachers.session import session_of

if TYPE_CHECKING:
    from codestill.models import Completer
    from codestill.models.codec import TextCodec


@dataclass(frozen=True)
class _Teacher:
    """A teacher whose logits are captured: weights here, or a server."""

    source: LogitSource
    codec: "TextCodec"
    asked: "Completer | None"
    """Gives answers, where it can."""


def capture_run(config: CaptureRun, run: Run) -> CacheManifest:
    """What ``codestill cache`` does; the cache is written to `logits` in the run's directory."""
    from codestill.teachers.aligned import TokenizerPair

    teacher = _local(config, run) if config.server is None else _served(config)
    codec, writer, pair = teacher.codec, teacher.codec, None
    if config.student is not None:
        student = config.student.build(codec.tokenizer, config.execution, seed=config.seed)
        writer, pair = student.codec, TokenizerPair(student.codec, codec)
        codec = pair.reader
        del student  # its weights are not needed
    with config.execution.sandbox(config.sandbox) as sandbox:
        examples = training_examples(config.examples, writer, teacher.asked, sandbox, run)
    examples += validation_examples(config.examples, writer)
    capture = Capture(teacher.source, codec, config.temperatures, config.capture, run.logits_directory, run)
    fill_shards = None
    if config.processes > 1 and config.server is None:
        from codestill.capture.parallel import fill_in_parallel

        fill_shards = partial(fill_in_parallel, config, run.logits_directory, run)
    cache = capture.cache(examples, fill_shards)
    if pair is not None:
        read_aligned(cache, config.temperatures, pair, examples, config.capture, run)
    return cache.manifest


def _local(config: CaptureRun, run: Run) -> _Teacher:
    from codestill.capture.local import LocalSource

    teacher = fitting(config.teacher, config.examples.prompts).build(config.execution)
    codec = teacher.codec if config.undecided else teacher.asked_as(config, "chat").codec
    asked = session_of(teacher, config.teacher_usage, run).stage("answers")
    return _Teacher(LocalSource(teacher), codec, asked)


def _served(config: CaptureRun) -> _Teacher:
    """Raises ConfigError where the server would have to answer."""
    from codestill.capture.served import ServedSource
    from codestill.models.chat import codec_for

    assert config.server is not None
    if config.examples.needs_teacher:
        raise ConfigError(
            "examples.answers is teacher, but the server only scores given completions.",
            next_step="Set examples.answers=reference, or give the answers as tasks in a JSONL file.",
        )
    served = ServedSource(config.server, config.execution.capture_batch_tokens)
    return _Teacher(served, codec_for(config, served.tokenizer, config.server.model), None)
