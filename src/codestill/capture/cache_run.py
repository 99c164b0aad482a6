"""``codestill cache``: a capture as a run of its own."""

from functools import partial

from codestill.capture.config import CaptureRun
from codestill.capture.fill import Capture
from codestill.errors import ConfigError
from codestill.examples import training_examples, validation_examples
from codestill.logits import CacheManifest
from codestill.prompts import fitting
from codestill.run import Run
from codestill.teachers.session import session_of


def capture_run(config: CaptureRun, run: Run) -> CacheManifest:
    """What ``codestill cache`` does; the cache is written to `logits` in the run's directory."""
    from codestill.models.chat import codec_for

    directory = run.logits_directory
    if config.server is not None:
        from codestill.capture.served import ServedSource

        if config.examples.needs_teacher:
            raise ConfigError(
                "examples.answers is teacher, but the server only scores given completions.",
                next_step="Set examples.answers=reference, or give the answers as tasks in a JSONL file.",
            )
        served = ServedSource(config.server, config.execution.capture_batch_tokens)
        codec = codec_for(config, served.tokenizer, config.server.model)
        with config.execution.sandbox(config.sandbox) as sandbox:
            examples = training_examples(config.examples, codec, None, sandbox, run)
        examples += validation_examples(config.examples, codec)
        capture = Capture(served, codec, config.temperatures, config.capture, directory, run)
        return capture.cache(examples).manifest
    with config.execution.sandbox(config.sandbox) as sandbox:
        from codestill.capture.local import LocalSource

        teacher = fitting(config.teacher, config.examples.prompts).build(config.execution)
        codec = teacher.codec if config.undecided else teacher.asked_as(config, "chat").codec
        asked = session_of(teacher, config.teacher_usage, run).stage("answers")
        examples = training_examples(config.examples, codec, asked, sandbox, run)
    examples += validation_examples(config.examples, codec)
    capture = Capture(LocalSource(teacher), codec, config.temperatures, config.capture, directory, run)
    fill_shards = None
    if config.processes > 1:
        from codestill.capture.parallel import fill_in_parallel

        fill_shards = partial(fill_in_parallel, config, directory, run)
    return capture.cache(examples, fill_shards).manifest
