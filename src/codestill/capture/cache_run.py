"""``codestill cache``: a capture as a run of its own."""

from functools import partial

from codestill.capture.config import CaptureRun
from codestill.capture.fill import capture, capture_from
from codestill.errors import ConfigError
from codestill.examples import training_examples, validation_examples
from codestill.logits import CacheManifest
from codestill.run import Run


def capture_run(config: CaptureRun, run: Run) -> CacheManifest:
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
        return capture_from(served, *settings).manifest
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
