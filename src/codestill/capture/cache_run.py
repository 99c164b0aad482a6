"""``codestill cache``: a capture as a run of its own."""

from functools import partial

from codestill.capture.config import CaptureRun
from codestill.capture.fill import Capture
from codestill.errors import ConfigError
from codestill.examples import training_examples, validation_examples
from codestill.logits import CacheManifest
from codestill.run import Run


def capture_run(config: CaptureRun, run: Run) -> CacheManifest:
    """What ``codestill cache`` does; the cache is written to `logits` in the run's directory."""
    directory = run.logits_directory
    if config.server is not None:
        from codestill.capture.served import ServedSource

        if config.examples.needs_teacher:
            raise ConfigError(
                "examples.answers is teacher, but the server only scores given completions.",
                next_step="Set examples.answers=reference, or give the answers as tasks in a JSONL file.",
            )
        served = ServedSource(config.server, config.execution.capture_batch_tokens)
        with config.execution.sandbox(config.sandbox) as sandbox:
            examples = training_examples(config.examples, None, sandbox, run)
        examples += validation_examples(config.examples)
        capture = Capture(served, config.temperatures, config.capture, directory, run)
        return capture.cache(examples).manifest
    with config.execution.sandbox(config.sandbox) as sandbox:
        from codestill.capture.local import LocalSource

        teacher = config.teacher.build(config.execution)
        examples = training_examples(config.examples, teacher, sandbox, run)
    examples += validation_examples(config.examples)
    capture = Capture(LocalSource(teacher), config.temperatures, config.capture, directory, run)
    fill_shards = None
    if config.processes > 1:
        from codestill.capture.parallel import fill_in_parallel

        fill_shards = partial(fill_in_parallel, config, directory, run)
    return capture.cache(examples, fill_shards).manifest
