"""The records that pass between floors. All are frozen, and all are JSON at rest."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, JsonValue, NonNegativeInt, model_validator

from codestill.assembly import assemble, is_program
from codestill.languages import known_language
from codestill.records import ChatForm as ChatForm
from codestill.records import Difference as Difference
from codestill.records import Draft as Draft
from codestill.records import DraftLength as DraftLength
from codestill.records import DraftRun as DraftRun
from codestill.records import DraftTimes as DraftTimes
from codestill.records import Gates as Gates
from codestill.records import Interval as Interval
from codestill.records import Listed as Listed
from codestill.records import ModelProfile as ModelProfile
from codestill.records import PairedDifference as PairedDifference
from codestill.records import Record as Record
from codestill.records import Settings as Settings
from codestill.results import Arm as Arm
from codestill.results import Comparison as Comparison
from codestill.results import Evaluation as Evaluation

Verdict = Literal[
    "pass",
    "wrong",  # an assertion failed
    "exception",  # the program raised, or does not parse
    "cpu_timeout",
    "wall_timeout",
    "memory",
    "killed",  # by a signal that no limit explains
    "output_limit",
    "undecidable",  # the tests need something of the program that is not data
    "infra_error",  # the sandbox broke: retried, never scored
]
Split = Literal["train", "validation", "test", "prompt"]
TailRule = Literal["bucket", "renormalise", "drop", "sampled"]
"""How the tokens that a sparse distribution does not list are treated: ``bucket`` pools their mass into one
more outcome, for the student too; ``renormalise`` scales the listed ones up to 1; ``drop`` leaves the mass
out; ``sampled`` divides it among tokens sampled from them."""

FaultSource = Literal["student", "teacher", "mutation"]

if TYPE_CHECKING:
    Language = str
    Difficulty = dict[str, Any]
else:
    Difficulty = dict[str, JsonValue]
    Language = Annotated[str, AfterValidator(known_language)]


class Test(Record):
    """One unit test: a statement run after the solution and the task's ``test_setup``."""

    __test__ = False  # not a pytest class

    code: str
    group: str = "base"
    """``base``, or ``plus`` for EvalPlus's additional tests."""

    @model_validator(mode="before")
    @classmethod
    def _from_code(cls, value: Any) -> Any:
        return {"code": value} if isinstance(value, str) else value


class Task(Record):
    """A programming problem with unit tests: ``test_setup``, then each of ``tests``, run on the program of a
    completion. ``reference`` is one that passes."""

    model_config = ConfigDict(allow_inf_nan=False)

    task_id: str = Field(min_length=1)
    prompt: str = Field(min_length=1)
    """What the model continues: valid Python once a correct completion follows."""
    suffix: str | None = Field(default=None, exclude_if=lambda value: value is None)
    """What stands behind the gap that a completion fills (fill-in-the-middle); None where a completion goes
    on from the prompt."""
    problem: str = Field(default="", exclude_if=lambda value: not value)
    """The problem that this task is one of several parts of; scores of one problem's tasks are not
    independent. Empty for a problem of its own."""
    entry_point: str = Field(min_length=1)
    reference: str
    tests: tuple[Test, ...] = Field(min_length=1)
    test_setup: str = ""
    cpu_seconds: float | None = Field(default=None, gt=0)
    """CPU limit of this task, where the sandbox's default is too short."""
    split: Split = "test"
    language: Language = Field(default="python", exclude_if=lambda value: value == "python")
    """Programming language of the prompt and the completion."""
    source: str = ""
    """The family it belongs to, e.g. ``humaneval`` or ``mbpp``."""
    difficulty: Difficulty = Field(default_factory=dict)
    """What is known about its difficulty, e.g. ``{"depth": 3}``; tables group by it."""

    def program(self, completion: str) -> str:
        """The source under test: a gap is filled as it stands, and for a completion that goes on from the
        prompt see :func:`codestill.assembly.assemble`."""
        if self.suffix is not None:
            return self.prompt + completion + self.suffix
        return assemble(self.prompt, completion, self.entry_point, self.language)

    def accepts(self, completion: str) -> bool:
        """Whether a completion makes a program that parses and defines the function, right or wrong."""
        program = self.program(completion) if completion.strip() or self.suffix is not None else ""
        return is_program(program, self.entry_point, self.language)

    @property
    def key(self) -> str:
        return self.task_id

    def __repr__(self) -> str:
        name, tests = f"{self.task_id!r}, {self.split}, {self.entry_point}"[:80], len(self.tests)
        return f"<Task {name}: {tests} tests in {self.language}, prompt {self.prompt[:60]!r}>"

    __str__ = __repr__


class Fault(Record):
    """A completion that was executed and failed."""

    completion: str
    source: FaultSource
    """Where it comes from: the student, the teacher, or a mutation of a correct program."""
    error: str
    """Class of the error, e.g. ``AssertionError``."""


class Example(Record):
    """A training pair: the loss is taken on ``completion`` and the end-of-sequence token only."""

    example_id: str
    prompt: str
    completion: str
    suffix: str | None = Field(default=None, exclude_if=lambda value: value is None)
    """What stands behind the completion, where it fills the gap between the prompt and this; None where it
    goes on from the prompt."""
    source: str = ""
    """Where the completion comes from, e.g. ``reference`` or ``teacher``."""
    faults: tuple[Fault, ...] = ()
    """Completions of the same prompt that fail; only a contrastive objective trains on them."""
    attempt: str = Field(default="", exclude_if=lambda value: not value)
    """The failed attempt that the completion repairs, in the completion's form, for a reader to compare;
    nothing is trained on it."""
    teacher_prompt: str = Field(default="", exclude_if=lambda value: not value)
    """What a teacher of logits reads in the prompt's place; empty for the prompt itself."""
    kept: str = Field(default="", exclude_if=lambda value: not value)
    """The answer that the completion comes from, where its tokens' log-probabilities are kept: as
    :attr:`Completion.kept`."""

    @property
    def key(self) -> str:
        return self.example_id


class Request(Record):
    """One completion to generate: sample number ``sample`` for the task's prompt."""

    task_id: str
    prompt: str
    sample: int = Field(default=0, ge=0)
    suffix: str | None = Field(default=None, exclude_if=lambda value: value is None)
    """What stands behind the gap that the completion fills, where the prompt stands before one; None where
    the completion goes on from the prompt."""

    @property
    def key(self) -> str:
        return f"{self.task_id}#{self.sample}"


Finish = Literal[
    "stop",  # of its own accord, or at a stop rule
    "length",  # at the limit of tokens
    "content_filter",
    "tool_calls",  # it called a tool in place of answering
    "prompt_too_long",  # it leaves the model no room, or the endpoint refused it
]
"""Why a completion ended. A completion may be empty for any of these reasons."""


class Completion(Record):
    """A model's answer to a request."""

    task_id: str
    sample: int
    text: str
    """The completion after the stop rule, without the prompt."""
    raw: str = ""
    """The model's text before the stop rule, where it differs."""
    tokens: int = 0
    finish: Finish = "stop"
    probabilities: tuple[float, ...] = Field(default=(), exclude_if=lambda value: not value)
    """Where words were given to choose from: the probability that the answer begins with each. Empty where
    the model does not say."""
    ids: tuple[int, ...] = Field(default=(), exclude_if=lambda value: not value)
    """Ids of all generated tokens, the stop id included, where a local model was asked for them."""
    listed: Listed | None = Field(default=None, exclude_if=lambda value: value is None)
    """Its tokens with the likeliest at each position, where an endpoint was asked for them; kept in the
    answer's file alone."""
    kept: str = Field(default="", exclude_if=lambda value: not value)
    """Name of the file of kept answers that holds ``listed``; empty where it was not asked for."""

    @property
    def is_whole(self) -> bool:
        """Whether it ended of its own accord. Others are executed and scored, and never trained on."""
        return self.finish == "stop"

    @property
    def key(self) -> str:
        return f"{self.task_id}#{self.sample}"


class Call(Record):
    """One answer of a teacher, as the ledger records it."""

    key: str
    """The request's."""
    stage: str
    model: str
    prompt_tokens: NonNegativeInt
    completion_tokens: NonNegativeInt
    estimated: bool = Field(default=False, exclude_if=lambda value: not value)
    """Whether tokens are estimated, from the texts' lengths: the endpoint gave none, or no possible ones."""
    cost: float | None = None
    """None where prices are unknown."""
    finish: Finish = Field(default="stop", exclude_if=lambda value: value == "stop")
    """Why the answer ended."""
    without: tuple[str, ...] = Field(default=(), exclude_if=lambda value: not value)
    """Sampling parameters that were not sent, as the endpoint had refused them."""
    retries: tuple[str, ...] = ()
    """Why earlier tries failed."""
    seconds: float
    """From the first try to the answer, pauses included."""


class TestResult(Record):
    """The outcome of one test."""

    __test__ = False

    verdict: Verdict
    error_type: str = ""
    message: str = ""
    """The exception's text, capped."""
    line: int | None = None
    """Line of the program (prompt and completion) that raised it, where the program did."""
    call: str = ""
    """For ``assert f(x) == y``: the call, e.g. ``f(3)``."""
    actual: str = ""
    """The call's value, as ``repr``, capped."""
    expected: str = ""
    """The other side of the comparison, as ``repr``, capped."""


class ExecutionResult(Record):
    """What happened when a program ran against its tests."""

    verdict: Verdict
    """``pass`` when every test passes, else the verdict of the first that does not."""
    tests: tuple[TestResult, ...] = ()
    """In the task's order; shorter than the task's when the process ended early."""
    error: str = ""
    """What went wrong outside any test: a syntax error, a signal, a limit."""
    output: str = ""
    """Standard output and error together, capped."""
    sandbox: str = ""
    """The isolation under which the verdict was reached."""
    cpu_seconds: float = Field(default=0.0, exclude=True)  # not stored: reruns must give equal bytes
    wall_seconds: float = Field(default=0.0, exclude=True)
    peak_megabytes: float = Field(default=0.0, exclude=True)
    """Peak resident memory of the program's process, in MiB."""

    @property
    def passed(self) -> bool:
        return self.verdict == "pass"


class Attempt(Record):
    """A completion and the result of executing it."""

    completion: Completion
    result: ExecutionResult

    @property
    def key(self) -> str:
        return self.completion.key

    @property
    def task_id(self) -> str:
        return self.completion.task_id


class Event(Record):
    """One thing that a run reports; ``metrics.jsonl`` holds them and observers receive them."""

    stage: str
    kind: Literal["metrics", "progress", "message"] = "metrics"
    step: int | None = None
    metrics: dict[str, float | int | str | None] = Field(default_factory=dict)
    done: int | None = None
    total: int | None = None
    message: str = ""
