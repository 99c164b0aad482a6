"""What an evaluation and a comparison found: scores, and tables of them."""

from collections.abc import Sequence

from pydantic import Field
from rich.text import Text

from codestill.records import ChatForm, Difference, Draft, Gates, Interval, ModelProfile, Record
from codestill.tables import Line, Table, Tabular
from codestill.tables.differences import correction, difference_sentence
from codestill.tables.drafts import draft_table
from codestill.tables.scores import percent, score_table, side_by_side


class Evaluation(Tabular, Record):
    """The scores of one model on one task set; what ``results/<name>.json`` holds."""

    model: str
    quantization: str | None = None
    """How the model's weights were quantised, e.g. ``Q4_K_M``; None for weights that never were."""
    tasks: str
    """Name of the task set, with variant and split, e.g. ``mbpp:test/zero-shot``."""
    task_count: int
    subset: bool
    """Whether only part of the set was evaluated: such a score is never a headline."""
    samples_per_task: int
    temperature: float
    top_p: float
    pass_at: dict[int, Interval]
    """Unbiased pass@k over one pool of samples, for every k up to ``samples_per_task``."""
    pass_at_base: dict[int, Interval] = Field(default_factory=dict[int, Interval])
    """The same over the base tests alone, where the tasks also have plus tests."""
    greedy: Interval | None = None
    """pass@1 of the greedy completion."""
    per_task: dict[str, tuple[int, int]]
    """Task id -> (samples, passed)."""
    greedy_per_task: dict[str, bool] = Field(default_factory=dict)
    by_difficulty: dict[str, Interval] = Field(default_factory=dict)
    """e.g. ``depth=3`` -> pass@1, from the pool."""
    verdicts: dict[str, int]
    """Samples per verdict."""
    unfinished: dict[str, int] = Field(default_factory=dict[str, int])
    """Samples that did not end of their own accord, by reason, e.g. ``length`` or ``prompt_too_long``."""
    exact_match: Interval | None = Field(default=None, exclude_if=lambda value: value is None)
    """Of gaps: the share that the greedy (else first) completion fills as the reference does, but for space
    around it."""
    problems: dict[str, str] = Field(default_factory=dict, exclude_if=lambda value: not value)
    """Task id -> the problem that it is one of several parts of: intervals are over problems."""
    bleu: float | None = None
    """Corpus BLEU of the greedy (else first) completion against the reference, 0-100."""
    bleu_signature: str = ""
    likelihood_tasks: str = ""
    """Name of the task set of ``nats_per_byte``."""
    nats_per_byte: Interval | None = None
    """-log p(reference solution | prompt) per byte of it, the mean over those tasks: less is better."""
    nats_per_byte_per_task: dict[str, float] = Field(default_factory=dict)
    draft: Draft | None = None
    """How well it drafts for a larger model, where it was measured."""
    warnings: tuple[str, ...] = ()
    """What to know before the scores are believed, e.g. that hardly a sample is a program."""
    profile: ModelProfile | None = None
    gates: Gates
    data_hash: str
    prompt_mode: str
    prompts: str = ""
    """Version of the prompts that the model was asked with; empty for samples that were made elsewhere."""
    chat: ChatForm | None = None
    """The chat template around them; None for a model that continues text."""
    stop_rule: str
    sandbox: str
    versions: dict[str, str]
    seed: int

    def tables(self) -> Sequence[Table]:
        drafts = draft_table({self.model: self.draft} if self.draft else {})
        return (side_by_side({self.model: self}), *drafts)

    @property
    def cautions(self) -> tuple[Line, ...]:
        """The warnings, as lines above a table."""
        return tuple(Text(f"WARNING: {warning}", style="bold") for warning in self.warnings)

    @property
    def notes(self) -> tuple[str, ...]:
        """How the scores were measured, as lines below a table."""
        gates = self.gates
        notes = [
            f"gates: reference {gates.reference}/{gates.tasks}, empty {gates.empty}/{gates.tasks}, "
            f"pass body {gates.pass_body}/{gates.tasks}; sandbox: {self.sandbox}"
        ]
        if gates.closed:
            notes.append(f"nothing need fill {gates.closed} of the gaps: an empty completion passes them")
        if self.exact_match is not None:
            notes.append(f"the reference itself, but for space around it: {percent(self.exact_match)}")
        if self.quantization:
            notes.append(f"{self.model}: {self.quantization} weights, dequantised")
        if self.subset:
            notes.append(f"SUBSET: {self.task_count} tasks only; not a score on {self.tasks}.")
        if self.pass_at_base:
            notes.append(f"base tests alone: pass@1 {percent(self.pass_at_base[1])}")
        return tuple(notes)


class Arm(Record):
    """One side of a comparison: the same recipe and config, run with several seeds."""

    name: str
    about: str = ""
    """What it is, for a reader who does not know the names."""
    runs: tuple[str, ...]
    """Run directories, relative to the comparison's, in seed order."""
    result: str = "student"
    """Which of a run's evaluations, e.g. ``student-self-repair``."""
    pass_at: dict[int, Interval]
    """pass@k over tasks and seeds."""
    greedy: Interval | None = None
    bleu: float | None = None
    nats_per_byte: Interval | None = None
    profile: ModelProfile | None = None
    by_difficulty: dict[str, Interval] = Field(default_factory=dict)
    """pass@1 over seeds and the tasks of one difficulty that is a number, e.g. ``depth=3``."""
    accounting: dict[str, int | float | str] = Field(default_factory=dict)
    """What it consumed: prompts, human solutions, teacher answers, steps, tokens, ..."""


class Comparison(Tabular, Record):
    """What ``comparison.json`` holds: arms evaluated on the same tasks, and their differences."""

    title: str
    tasks: str
    task_count: int
    arms: tuple[Arm, ...]
    differences: tuple[Difference, ...] = ()
    teacher: str | None = None
    """Name of the arm that is the teacher: tables give each number's ratio to it."""

    def tables(self) -> Sequence[Table]:
        rows = [(arm.name, f"{len(arm.runs)} run{'s' * (len(arm.runs) > 1)}", arm) for arm in self.arms]
        title = f"{self.title}: {self.task_count} tasks of {self.tasks}"
        sentences = [*map(difference_sentence, self.differences), correction(self.differences)]
        return (score_table(rows, [title], [sentence for sentence in sentences if sentence]),)
