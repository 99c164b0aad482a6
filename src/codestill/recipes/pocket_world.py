"""How the bundled pocket models are made: a teacher of seven skills, and base students that cannot compose.

The teacher reads fresh lessons of every skill (solve, refine, decompose, compose, test inputs, ask,
judge), each made from a training task. Its solutions are mostly in one plain style (one operation per
line), which is why they are more uniform than the reference solutions, written in many. A base student
reads single-operation tasks, and composed code without its description: it knows the syntax, not the
composing.

Stages: tokenizer, student (by ``fit``), evaluation on the validation split.
"""

import random
from collections.abc import Iterator
from itertools import count, islice
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveInt

from codestill.config import RunConfig
from codestill.evaluate import EvaluateConfig, evaluate
from codestill.losses import CrossEntropy
from codestill.models import StudentConfig
from codestill.pocket import sketches
from codestill.pocket.compositions import HeldOut
from codestill.pocket.lessons import lessons
from codestill.pocket.skills import Skill
from codestill.run import Run
from codestill.sandbox.feedback import feedback
from codestill.train import TrainConfig, fit
from codestill.types import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from codestill.models.student import Student

SHARES: dict[Skill, float] = {
    "solve": 0.42,
    "refine": 0.20,
    "judge": 0.12,
    "compose": 0.08,
    "decompose": 0.08,
    "ask": 0.06,
    "inputs": 0.04,
}
END, PAD = "<|endoftext|>", "<|pad|>"
VOCABULARY = 1024
VALIDATION = 600
"""Held-out lessons whose loss is followed."""
# A line break with its indentation is one piece; digits stand alone.
PIECES = r"\n *|\d| ?[A-Za-z_]+| ?[^\sA-Za-z0-9_]+| +"


class Config(RunConfig):
    """A pocket model and what it learns from."""

    recipe: Literal["pocket_world"] = "pocket_world"
    """Name of the recipe."""
    role: Literal["teacher", "base"] = "teacher"
    """Which of the two bundled models to make."""
    student: StudentConfig = StudentConfig(preset="pocket-1.6m")
    """The model's shape."""
    lessons: PositiveInt = 360_000
    """Training examples; each is read once per epoch."""
    shares: dict[Skill, Annotated[float, Field(ge=0)]] = SHARES
    """How often each skill is the lesson of a teacher."""
    plain_share: float = Field(default=0.75, ge=0, le=1)
    """Share of the teacher's solutions in the plain style; the rest are in random ones."""
    train: TrainConfig = TrainConfig(
        epochs=1,
        batch_tokens=2560,
        accumulation=2,
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
    """Choices are made on this split; the test split is for the final number."""


def distill(config: Config, run: Run) -> "Student":
    """Make the tokenizer, train on the grammar's programs, measure on validation."""
    config.evaluate.tasks.load()  # what cannot be evaluated must fail before anything is paid for
    student = train(config, run)
    with config.execution.sandbox(config.sandbox) as sandbox:
        evaluate(student, config.role, config.evaluate, sandbox, run)
    return student


def train(config: Config, run: Run) -> "Student":
    """The first two stages."""
    student = config.student.build(train_tokenizer(), config.execution.device, seed=config.seed)
    stream = teacher_examples if config.role == "teacher" else base_examples
    training = _shown(islice(stream(config, "train"), config.lessons), config.lessons, run)
    validation = list(islice(stream(config, "validation"), VALIDATION))
    return fit(student, training, CrossEntropy(), config.train, run, validation=validation)


def _shown(examples: Iterator[Example], total: int, run: Run) -> list[Example]:
    """All of them, with a bar: they take a millisecond each."""
    made = []
    for example in examples:
        made.append(example)
        if len(made) % 1000 == 0 or len(made) == total:
            run.progress("lessons", len(made), total)
    return made


def teacher_examples(config: Config, split: HeldOut) -> Iterator[Example]:
    """Endless lessons of every skill."""
    rng = random.Random(f"pocket/teacher/{split}/{config.seed}")
    return lessons(split, config.shares, config.plain_share, feedback, rng)


def base_examples(config: Config, split: HeldOut) -> Iterator[Example]:
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


def train_tokenizer(size: int = 20_000, seed: int = 0) -> "PreTrainedTokenizerFast":
    """The tokenizer of all pocket models, from ``size`` lessons with solutions in every style."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    def texts() -> Iterator[str]:
        rng = random.Random(f"pocket/tokenizer/{seed}")
        for example in islice(lessons("train", SHARES, 0.0, feedback, rng), size):
            yield example.prompt + example.completion

    bpe = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(PIECES), "isolated")
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_])
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token=END, pad_token=PAD, clean_up_tokenization_spaces=False
    )
