"""How the bundled pocket teacher is made: seven skills, from lessons that a grammar writes.

A lesson of every skill (solve, refine, decompose, compose, test inputs, ask, judge) is made from a training
task; each is read once. Solutions are mostly in one plain style (one operation per line), which is why the
teacher's answers are more uniform than the reference solutions, written in many.

Stages: tokenizer; training in two phases (by ``fit``), the second at a lower rate and mostly of what is
learnt last; evaluation on the validation split; an exam of
every skill, on validation and, because nothing is chosen any more, on test; a ``bundle`` of bfloat16 weights
and a model card.
"""

import random
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt

from codestill.config import RunConfig
from codestill.evaluation import EvaluateConfig, evaluate
from codestill.losses import CrossEntropy
from codestill.models import StudentConfig
from codestill.pocket.compositions import HeldOut
from codestill.pocket.lessons import lessons
from codestill.pocket.understand import HEADER
from codestill.recipes.pocket.exam import (
    Exam,
    ExamConfig,
    RawStudentConfig,
    examine,
    finished,
    raw_student,
    write_bundle,
)
from codestill.run import Run
from codestill.sandbox.feedback import feedback
from codestill.train import TrainConfig, fit
from codestill.types import Example, Settings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from codestill.models.student import Student

END, PAD = "<|endoftext|>", "<|pad|>"
VOCABULARY = 1024
VALIDATION = 600
"""Held-out lessons whose loss is followed."""
# A line break with its indentation is one piece; digits stand alone.
PIECES = r"\n *|\d| ?[A-Za-z_]+| ?[^\sA-Za-z0-9_]+| +"


ABOUT = """
A small Llama-shaped language model that knows one little world: Python functions composed of five dozen
operations on lists, strings, words and integers, described in English (codestill's pocket world). In it, it
solves tasks, repairs failed attempts given execution feedback, takes tasks apart, composes given helper
functions, writes test inputs, judges programs and asks new tasks, so that every recipe of codestill runs on a
laptop with no network.

**What it is not:** a code model. Outside that world's phrasing, operations and seven prompt forms its answers
mean nothing. It was trained from fresh weights on text that a grammar made; no data of any other origin was
used. Made by `codestill pocket train-teacher`.
"""


class Shares(Settings):
    """How often each skill is the lesson."""

    solve: NonNegativeFloat = 0.33
    """Task to solution."""
    refine: NonNegativeFloat = 0.18
    """Task, failed attempt and feedback to repaired solution."""
    judge: NonNegativeFloat = 0.22
    """Task and code to a reason and a score."""
    compose: NonNegativeFloat = 0.07
    """Helper functions and task to a solution that calls them."""
    decompose: NonNegativeFloat = 0.08
    """Task to headers of sub-functions."""
    ask: NonNegativeFloat = 0.08
    """Task and level to another task."""
    inputs: NonNegativeFloat = 0.04
    """Task and code to calls that test it."""


class FinishConfig(Settings):
    """A second phase at a lower rate, mostly of the skills that are learnt last."""

    lessons: PositiveInt = 88_000
    """Training examples, others than those of the first phase."""
    shares: Shares = Shares(
        solve=0.12, refine=0.12, judge=0.36, compose=0.05, decompose=0.10, ask=0.22, inputs=0.03
    )
    """What they are about."""
    train: TrainConfig = TrainConfig(
        epochs=1,
        batch_tokens=2560,
        accumulation=2,
        optimizer="muon",
        learning_rate=9e-4,
        muon_learning_rate=6e-3,
        schedule="linear",
        checkpoint_steps=250,
    )
    """How it is optimised."""


class Config(RunConfig):
    """A pocket teacher and what it learns from."""

    recipe: Literal["pocket_teacher"] = "pocket_teacher"
    """Name of the recipe."""
    student: StudentConfig = StudentConfig(preset="pocket-1.6m")
    """The model's shape."""
    lessons: PositiveInt = 390_000
    """Training examples, each read once."""
    shares: Shares = Shares()
    """What they are about."""
    tokenizer_lessons: PositiveInt = 20_000
    """Lessons that the tokenizer is made from, with solutions in every style."""
    plain_share: float = Field(default=0.75, ge=0, le=1)
    """Share of the solutions in the plain style; the rest are in random ones."""
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
    finish: FinishConfig = FinishConfig()
    """What follows."""
    evaluate: EvaluateConfig = EvaluateConfig.model_validate(
        {
            "tasks": {"source": "pocket", "split": "validation", "count": 200},
            "samples_per_task": 1,
            "profile": False,
        }
    )
    """Choices are made on this split."""
    exam: ExamConfig = ExamConfig()
    """How it is examined; in the end on test, too."""
    raw: RawStudentConfig = RawStudentConfig()
    """The student that makes the attempts to be repaired and judged."""


def distill(config: Config, run: Run) -> "Student":
    """Make the tokenizer, train on the grammar's lessons, measure every skill."""
    config.evaluate.tasks.load()  # what cannot be evaluated must fail before anything is paid for
    tokenizer = train_tokenizer(config.tokenizer_lessons)
    student = config.student.build(tokenizer, config.execution, seed=config.seed)
    validation = list(islice(examples(config, "validation"), VALIDATION))
    training, finishing = training_lessons(config, run), finishing_lessons(config, run)
    first = run.part("first")
    student = fit(student, training, CrossEntropy(), config.train, first, validation=validation)
    student = fit(student, finishing, CrossEntropy(), config.finish.train, run, validation=validation)
    with config.execution.sandbox(config.sandbox) as sandbox:
        evaluate(student, "teacher", config.evaluate, sandbox, run)
        raw, taught = (
            raw_student(config.raw, config.execution, run),
            taught_prompts([*training, *finishing]),
        )
        exams = [
            examine(student, raw, taught, config.exam.model_copy(update={"split": split}), sandbox, run)
            for split in ("validation", "test")
        ]
    write_bundle("codestill pocket teacher", ABOUT, exams, run)
    return student


def examples(config: Config, split: HeldOut) -> Iterator[Example]:
    """Endless lessons."""
    rng = random.Random(f"pocket/teacher/{split}/{config.seed}")
    return lessons(split, config.shares.model_dump(), config.plain_share, feedback, rng)


def training_lessons(config: Config, run: Run) -> list[Example]:
    """All lessons of the first phase."""
    return _counted("lessons", examples(config, "train"), config.lessons, run)


def finishing_lessons(config: Config, run: Run) -> list[Example]:
    """All lessons of the second."""
    again = config.model_copy(update={"seed": config.seed + 1, "shares": config.finish.shares})
    return _counted("further lessons", examples(again, "train"), config.finish.lessons, run)


def _counted(name: str, made: Iterator[Example], total: int, run: Run) -> list[Example]:
    """With a bar: lessons take a fraction of a millisecond each."""
    kept = []
    for example in islice(made, total):
        kept.append(example)
        if len(kept) % 1000 == 0 or len(kept) == total:
            run.progress(name, len(kept), total)
    return kept


def taught_prompts(training: Iterable[Example]) -> frozenset[str]:
    """The prompt of every task that occurs in the lessons."""
    return frozenset(found[0] for one in training for found in HEADER.finditer(one.prompt + one.completion))


def train_tokenizer(size: int, seed: int = 0) -> "PreTrainedTokenizerFast":
    """The tokenizer of all pocket models, from ``size`` lessons with solutions in every style."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    def texts() -> Iterator[str]:
        rng = random.Random(f"pocket/tokenizer/{seed}")
        for example in islice(lessons("train", Shares().model_dump(), 0.0, feedback, rng), size):
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


class ExamineModel(RunConfig):
    """The exam of a pocket teacher as it stands."""

    recipe: Literal["exam"] = "exam"
    """What kind of run this is."""
    model: str = "pocket"
    """The teacher: `pocket`, which is bundled, or a directory."""
    raw: RawStudentConfig = RawStudentConfig()
    """The student that makes the attempts to be repaired and judged."""
    exam: ExamConfig = ExamConfig()
    """How it is examined."""


def examine_model(config: ExamineModel, run: Run) -> Exam:
    """Examine the model, unless the run already holds the result.

    What it asks counts as new when it was in none of the bundled teacher's lessons."""
    done = finished(config.exam, run)
    if done is not None:
        return done
    teacher = StudentConfig(model=config.model).build(placement=config.execution)
    raw, taught = (
        raw_student(config.raw, config.execution, run),
        taught_prompts([*training_lessons(Config(), run), *finishing_lessons(Config(), run)]),
    )
    with config.execution.sandbox(config.sandbox) as sandbox:
        return examine(teacher, raw, taught, config.exam, sandbox, run)
