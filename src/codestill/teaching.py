"""A teacher at work: one way to prompt it, keep its answers, execute them, and count its tokens."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol, Self

from pydantic import model_validator

from codestill.attempt import Workbench
from codestill.config import RunConfig
from codestill.errors import ConfigError
from codestill.evaluation import EvaluateConfig
from codestill.models import Completer, Decoding, SamplingConfig, StudentConfig
from codestill.prompts import Prompts, PromptsSetting, fitting, prompts_for
from codestill.prompts.modular import Modular
from codestill.run import Run
from codestill.sandbox import Sandbox
from codestill.tasks import STOP_RULES, StopRule, TaskSet
from codestill.teachers import LocalTeacherConfig
from codestill.teachers.session import AnyTeacherConfig, TeacherSession, TeacherUsage, open_session
from codestill.train import TrainConfig
from codestill.types import Attempt, Completion, Request


class Answer(Protocol):
    """Whatever a teacher generated tokens for."""

    @property
    def tokens(self) -> int: ...


@dataclass(frozen=True)
class Teaching:
    """A teacher in one run or round, with all that a stage needs: prompts, sandbox, and where records go.

    Tokens are counted whether this run paid for them or found the answers kept, so that the numbers do not
    depend on interruptions.
    """

    session: TeacherSession
    prompts: Prompts
    sandbox: Sandbox
    run: Run
    stop: StopRule = STOP_RULES["definitions"]
    """Where generated code ends."""
    spent: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Stage -> answers, and tokens that the teacher generated for them."""

    def within(self, part: Run) -> "Teaching":
        """The same in a part of the run; tokens are counted together."""
        return replace(self, run=part)

    def round(self, part: Run) -> "Teaching":
        """The same in a round of the run, with a count of its own."""
        return replace(self, run=part, spent={})

    @property
    def students(self) -> Workbench:
        """Where students' attempts are executed and kept: they are asked as suits them."""
        return Workbench(self.sandbox, self.run)

    def ask(
        self,
        stage: str,
        requests: Sequence[Request],
        sampling: SamplingConfig,
        *,
        ended: Callable[[str], bool] | None = None,
        seed: int | None = None,
    ) -> list[Completion]:
        """The teacher's answers as a stage of the run, in the order of the requests.

        ``ended``: whether a text is complete as far as it is generated. ``seed`` is the run's unless given.
        """
        produce = partial(self.answers, stage, sampling=sampling, ended=ended, seed=seed)
        answers = self.run.stage(stage, Completion, requests, produce)
        self.count(stage, answers)
        return answers

    def answers(
        self,
        stage: str,
        requests: Sequence[Request],
        sampling: SamplingConfig,
        *,
        ended: Callable[[str], bool] | None = None,
        seed: int | None = None,
        choices: tuple[str, ...] = (),
    ) -> Iterator[Completion]:
        """The teacher's answers as they arrive, for a stage of another record; see :class:`Decoding` for
        ``choices``."""
        seed = self.run.seed if seed is None else seed
        decoding = Decoding(sampling, ended, seed, choices, watcher=self.run.watch(stage))
        return self._teacher(stage).complete(requests, decoding)

    def ask_for_code(
        self, stage: str, requests: Sequence[Request], sampling: SamplingConfig
    ) -> list[Completion]:
        """As :meth:`ask`; each answer ends where the stop rule ends a program."""
        return self.ask(stage, requests, sampling, ended=self.prompts.ended(self.stop))

    def attempt(self, stage: str, task_set: TaskSet, sampling: SamplingConfig) -> list[Attempt]:
        """The teacher's attempts at the tasks, executed, as a stage of the run."""
        attempts = self._workbench.attempt(stage, self._teacher(stage), task_set, sampling)
        self.count(stage, [attempt.completion for attempt in attempts])
        return attempts

    def try_out(
        self, stage: str, task_set: TaskSet, sampling: SamplingConfig, asked: Sequence[Request]
    ) -> Iterator[Attempt]:
        """The teacher's answers to these requests, executed, in any order, for a stage of another record."""
        watcher = self.run.watch(stage)
        return self._workbench.try_out(self._teacher(stage), task_set, sampling, asked, watcher=watcher)

    @property
    def _workbench(self) -> Workbench:
        """Where the teacher's own attempts are executed and kept."""
        return Workbench(self.sandbox, self.run, self.prompts)

    def _teacher(self, stage: str) -> Completer:
        return self.session.stage(self.run.named(stage))

    def count(self, stage: str, answers: Sequence[Answer]) -> None:
        """Count the answers of a stage."""
        self.spent[self.run.named(stage)] = len(answers), sum(answer.tokens for answer in answers)

    @property
    def tokens(self) -> int:
        """Tokens that the teacher generated."""
        return sum(tokens for _, tokens in self.spent.values())

    @property
    def calls(self) -> int:
        """Its answers."""
        return sum(calls for calls, _ in self.spent.values())

    @property
    def modular(self) -> Modular:
        """The prompts' forms for functions. Raises ConfigError where they have none."""
        if self.prompts.modular is None:
            raise ConfigError(
                f"the prompts {self.prompts.version} have no form for functions.",
                next_step="Give them `modular`, or use the prompts `instruct` or `continued`.",
            )
        return self.prompts.modular


class TaughtConfig(RunConfig):
    """Base of the recipes whose teacher answers with text. The defaults run offline on the bundled pocket
    tasks and teacher."""

    student: StudentConfig = StudentConfig(model="pocket-base")
    """The model that learns."""
    teacher: AnyTeacherConfig = LocalTeacherConfig(model="pocket")
    """The model that teaches: local weights, or an OpenAI-compatible endpoint."""
    teacher_usage: TeacherUsage = TeacherUsage()
    """What is kept of its answers, and their budget."""
    prompts: PromptsSetting = "auto"
    """How the teacher is prompted: `continued`, `instruct`, or ``auto``, which suits it."""
    train: TrainConfig = TrainConfig(
        max_steps=120, batch_tokens=1536, accumulation=1, learning_rate=1e-3, precision="float32"
    )
    """How the student is trained."""
    evaluate: EvaluateConfig = EvaluateConfig.model_validate(
        {
            "tasks": {"source": "pocket", "split": "test", "count": 300},
            "samples_per_task": 5,
            "profile": False,
        }
    )
    """How it is evaluated."""

    @model_validator(mode="after")
    def _gives_what_is_learnt(self) -> Self:
        objective = getattr(self, "objective", None)
        if objective is not None and objective.needs_teacher and self.teacher.type != "local":
            raise ValueError("objective: a text-only endpoint has no logits to distil")
        return self

    @contextmanager
    def open(self, run: Run) -> Iterator[Teaching]:
        """The teacher at work in a run, with its sandbox.

        Raises what is wrong with tasks, endpoints and teacher first, before anything is paid for.
        """
        self.preflight(run)
        teacher = fitting(self.teacher, self.prompts)
        session = open_session(teacher, self.teacher_usage, self.execution, run)
        with self.execution.sandbox(self.sandbox) as sandbox:
            yield Teaching(session, prompts_for(session, self.prompts), sandbox, run)
