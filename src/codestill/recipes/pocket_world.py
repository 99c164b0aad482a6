"""How the bundled pocket models were made: a teacher that solves, and a base student that cannot yet.

The teacher reads fresh training tasks of depth one to three, with solutions mostly in one plain
style (one operation per line), which is why its answers are more uniform than the reference
solutions, written in many. The base student reads single-operation tasks, and composed code without
its description: it knows the syntax, not the composing.

Stages: tokenizer, student (by ``fit``), evaluation on the validation split.
"""

import random
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveInt

from codestill.config import RunConfig
from codestill.evaluate import EvaluateConfig, evaluate
from codestill.losses import CrossEntropy
from codestill.models import StudentConfig
from codestill.pocket import sketches
from codestill.pocket.generate import Sketch
from codestill.run import Run
from codestill.train import TrainConfig, fit
from codestill.types import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from codestill.models.student import Student

DEPTHS = {1: 1.0, 2: 4.0, 3: 5.0}
END, PAD = "<|endoftext|>", "<|pad|>"
VOCABULARY = 1024
# A line break with its indentation is one piece; digits stand alone.
PIECES = r"\n *|\d| ?[A-Za-z_]+| ?[^\sA-Za-z0-9_]+| +"


class Config(RunConfig):
    """A pocket model and what it learns from."""

    recipe: Literal["pocket_world"] = "pocket_world"
    """Name of the recipe."""
    role: Literal["teacher", "base"] = "teacher"
    """Which of the two bundled models to make."""
    student: StudentConfig = StudentConfig(preset="pocket-0.9m")
    """The model's shape."""
    programs: PositiveInt = 300_000
    """Distinct training programs; each is read once per epoch."""
    plain_share: float = Field(default=0.75, ge=0, le=1)
    """Share of the teacher's solutions in the plain style; the rest are in random ones."""
    train: TrainConfig = TrainConfig(
        epochs=1,
        batch_tokens=2560,
        accumulation=1,
        optimizer="muon",
        learning_rate=3e-3,
        schedule="warmup_stable_decay",
        warmup_fraction=0.01,
        checkpoint_steps=500,
        precision="float32",
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
    tokenizer = train_tokenizer()
    student = config.student.build(tokenizer, config.execution.device, seed=config.seed)
    made = teacher_examples(config) if config.role == "teacher" else base_examples(config)
    student = fit(student, list(made), CrossEntropy(), config.train, run)
    with config.execution.sandbox(config.sandbox) as sandbox:
        evaluate(student, config.role, config.evaluate, sandbox, run)
    return student


def teacher_examples(config: Config) -> Iterator[Example]:
    """Tasks with their solutions, most of them plain."""
    rng = random.Random(f"pocket/teacher/{config.seed}")
    for index, sketch in enumerate(islice(sketches("train", DEPTHS, rng), config.programs)):
        yield _example(index, sketch, None if rng.random() < config.plain_share else rng)


def base_examples(config: Config) -> Iterator[Example]:
    """Half single operations with their description, half composed code whose description is missing."""
    rng = random.Random(f"pocket/base/{config.seed}")
    single, composed = sketches("train", {1: 1.0}, rng), sketches("train", {2: 1.0, 3: 1.0}, rng)
    for index in range(config.programs):
        if rng.random() < 0.5:
            yield _example(index, next(single), rng)
        else:
            sketch = next(composed)
            header = sketch.prompt.split("\n", 1)[0] + "\n"
            yield Example(example_id=f"pocket/base/{index}", prompt=header, completion=sketch.solution(rng))


def _example(index: int, sketch: Sketch, rng: random.Random | None) -> Example:
    return Example(
        example_id=f"pocket/program/{index}",
        prompt=sketch.prompt,
        completion=sketch.solution(rng),
        source="grammar",
    )


def train_tokenizer(programs: int = 20_000, seed: int = 0) -> "PreTrainedTokenizerFast":
    """The tokenizer, from ``programs`` training sketches and their solutions in every style."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    def texts() -> Iterator[str]:
        rng = random.Random(f"pocket/tokenizer/{seed}")
        for sketch in islice(sketches("train", DEPTHS, rng), programs):
            yield sketch.prompt + sketch.solution(rng)

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
