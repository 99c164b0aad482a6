"""How the bundled base students are made: they know the syntax of the pocket world, and cannot compose.

Half of what a base student reads are single operations with their description, half is composed code whose
description is missing. So a recipe that starts from it shows what it taught, and not how long a language
model needs to learn to write Python at all.

Stages: student (by ``fit``), evaluation on the validation split, a ``bundle`` of bfloat16 weights and a card.
"""

import random
from collections.abc import Iterator
from itertools import count, islice
from typing import TYPE_CHECKING, Literal

from pydantic import PositiveInt

from codestill.config import RunConfig
from codestill.evaluation import EvaluateConfig, evaluate
from codestill.losses import CrossEntropy
from codestill.models import StudentConfig
from codestill.pocket import sketches
from codestill.pocket.compositions import HeldOut
from codestill.recipes.pocket.exam import write_bundle
from codestill.run import Run
from codestill.train import TrainConfig, fit
from codestill.types import Example

if TYPE_CHECKING:
    from codestill.models.student import Student

ABOUT = """
A small Llama-shaped language model, the starting point of students in codestill's pocket world. It was
trained on single operations with their description, and on composed code whose description is missing: it
knows the syntax, and cannot compose. Not a code model outside that world. It was trained from fresh weights
on text that a grammar made; no data of any other origin was used. Made by `codestill pocket train-base`.
"""
VALIDATION = 600
"""Held-out examples whose loss is followed."""


class Config(RunConfig):
    """A base student and what it reads."""

    recipe: Literal["pocket_base"] = "pocket_base"
    """Name of the recipe."""
    student: StudentConfig = StudentConfig(preset="pocket-0.4m")
    """The model's shape; its tokenizer is the bundled teacher's."""
    programs: PositiveInt = 30_000
    """Training examples, each read once per epoch."""
    train: TrainConfig = TrainConfig(
        epochs=1,
        batch_tokens=2560,
        accumulation=1,
        optimizer="muon",
        learning_rate=3e-3,
        schedule="warmup_stable_decay",
        warmup_fraction=0.01,
        checkpoint_steps=250,
    )
    """How it is optimised."""
    evaluate: EvaluateConfig = EvaluateConfig.model_validate(
        {
            "tasks": {"source": "pocket", "split": "validation", "count": 200},
            "samples_per_task": 1,
            "profile": False,
        }
    )
    """Choices are made on this split."""


def distill(config: Config, run: Run) -> "Student":
    """Train on single operations and undescribed programs, and measure."""
    config.evaluate.tasks.load()  # what cannot be evaluated must fail before anything is paid for
    student = config.student.build(None, config.execution, seed=config.seed)
    training = list(islice(examples(config, "train"), config.programs))
    validation = list(islice(examples(config, "validation"), VALIDATION))
    student = fit(student, training, CrossEntropy(), config.train, run, validation=validation)
    with config.execution.sandbox(config.sandbox) as sandbox:
        evaluate(student, "base", config.evaluate, sandbox, run)
    write_bundle("codestill pocket base student", ABOUT, [], run)
    return student


def examples(config: Config, split: HeldOut) -> Iterator[Example]:
    """Half single operations with their description, half composed code whose description is missing."""
    rng = random.Random(f"pocket/base/{split}/{config.seed}")
    # A single operation holds no pair: it belongs to the training split, whatever is held out.
    single, composed = sketches("train", {1: 1.0}, rng), sketches(split, {2: 1.0, 3: 1.0}, rng)
    for index in count():
        described = rng.random() < 0.5
        sketch = next(single if described else composed)
        yield Example(
            example_id=f"pocket/base/{index}",
            prompt=sketch.prompt if described else sketch.prompt.split("\n", 1)[0] + "\n",
            completion=sketch.solution(rng),
            source="grammar: base",
        )
