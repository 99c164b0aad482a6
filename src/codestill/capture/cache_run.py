"""``codestill cache``: a capture as a run of its own."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from codestill.capture.aligned import read_aligned
from codestill.capture.config import CaptureRun
from codestill.capture.fill import Capture, LogitSource
from codestill.errors import ConfigError
from codestill.examples import training_examples, validation_examples
from codestill.logits import CacheManifest, LogitCache
from codestill.prompts import fitting
from codestill.run import Run
from codestill.teachers import ApiTeacherConfig, LocalTeacherConfig
from codestill.teachers.session import session_of
from codestill.types import Example

if TYPE_CHECKING:
    from codestill.models import Completer
    from codestill.models.codec import TextCodec


@dataclass(frozen=True)
class _Teacher:
    """A teacher whose logits are captured: weights here, a server, or an endpoint that answers."""

    source: LogitSource | None
    """None where what came with the answers is captured."""
    codec: "TextCodec"
    asked: "Completer | None"
    """Gives answers, where it can."""
    answers: Path | None = None
    """Directory of an endpoint's answers."""


def capture_run(config: CaptureRun, run: Run) -> CacheManifest:
    """What ``codestill cache`` does; the cache is written to `logits` in the run's directory."""
    from codestill.teachers.aligned import TokenizerPair

    teacher = _teacher(config, run)
    codec, writer, pair = teacher.codec, teacher.codec, None
    if config.student is not None:
        student = config.student.build(codec.tokenizer, config.execution, seed=config.seed)
        writer, pair = student.codec, TokenizerPair(student.codec, codec)
        codec = pair.reader
        del student  # its weights are not needed
    with config.execution.sandbox(config.sandbox) as sandbox:
        examples = training_examples(config.examples, writer, teacher.asked, sandbox, run)
    examples += validation_examples(config.examples, writer)
    cache = _captured(config, teacher, codec, examples, run)
    if pair is not None:
        read_aligned(cache, config.temperatures, pair, examples, config.capture, run)
    return cache.manifest


def _captured(
    config: CaptureRun, teacher: _Teacher, codec: "TextCodec", examples: list[Example], run: Run
) -> LogitCache:
    directory = run.logits_directory
    if teacher.source is None:
        from codestill.capture.answered import capture_answers

        assert isinstance(config.teacher, ApiTeacherConfig) and teacher.answers is not None
        return capture_answers(
            examples, config.teacher, teacher.answers, config.capture, directory, run, codec
        )
    capture = Capture(teacher.source, codec, config.temperatures, config.capture, directory, run)
    fill_shards = None
    if config.processes > 1 and config.server is None:
        from codestill.capture.parallel import fill_in_parallel

        fill_shards = partial(fill_in_parallel, config, directory, run)
    return capture.cache(examples, fill_shards)


def _teacher(config: CaptureRun, run: Run) -> _Teacher:
    if config.server is not None:
        return _served(config)
    settings = fitting(config.teacher, config.examples.prompts)
    if isinstance(settings, LocalTeacherConfig):
        return _local(config, settings, run)
    return _answering(config, settings, run)


def _local(config: CaptureRun, settings: LocalTeacherConfig, run: Run) -> _Teacher:
    from codestill.capture.local import LocalSource

    teacher = settings.build(config.execution)
    codec = teacher.codec if config.undecided else teacher.asked_as(config, "chat").codec
    asked = session_of(teacher, config.teacher_usage, run).stage("answers")
    return _Teacher(LocalSource(teacher), codec, asked)


def _answering(config: CaptureRun, settings: ApiTeacherConfig, run: Run) -> _Teacher:
    """Without settings of its own, the student's form is that in which the endpoint reads prompts."""
    from codestill.models.chat import codec_for
    from codestill.teachers import forms

    tokenizer = forms.tokenizer_of(settings)
    own = forms.codec_for(settings, tokenizer)
    codec = own if config.undecided else codec_for(config, tokenizer, settings.model)
    session = session_of(settings.build(config.execution), config.teacher_usage, run)
    return _Teacher(None, codec, session.stage("answers"), session.answers)


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
