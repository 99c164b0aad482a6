"""New tasks with tests, from seeds: a teacher proposes, solves and names inputs; execution gives the outputs.

As in the data of PERsD (arXiv:2310.18628, built like Code Alpaca): the expected value of a test is what the
teacher's own code returned, so that tests certify agreement with the teacher, not truth. Ours: a test is kept
only if its value is a literal and a second execution in a fresh process gives it again.
"""

import ast
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from codestill.attempt import Completer
from codestill.errors import ConfigError, TaskError
from codestill.models import SamplingConfig
from codestill.prompts import Level, Prompts
from codestill.run import Run
from codestill.sandbox import Program, Sandbox
from codestill.tasks import TaskSet
from codestill.tasks.stops import parses
from codestill.types import Completion, ExecutionResult, Record, Request, Task, Test

UNKNOWN = "..."
"""What a call is compared with while its value is not known: Ellipsis, which no solution returns."""


MADE = "made"
"""The source of a task that a teacher made."""


class SynthesisConfig(BaseModel):
    """How many tasks are asked for, and which are kept."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    proposals: PositiveInt = 500
    """Tasks asked for; fewer remain."""
    seeds_per_proposal: PositiveInt = 3
    """Seed tasks shown with each, where the prompts have a place for several."""
    levels: tuple[Level, ...] = ("easier", "same", "harder")
    """How hard a proposal shall be, in turn."""
    proposal: SamplingConfig = SamplingConfig(temperature=0.7)
    """How proposals are drawn."""
    solution: SamplingConfig = SamplingConfig()
    """How solutions are drawn."""
    inputs: SamplingConfig = SamplingConfig(temperature=0.7)
    """How test inputs are drawn."""
    novelty: float = Field(default=0.7, gt=0, le=1)
    """A description whose ROUGE-L F with a seed or an earlier proposal is above this is dropped."""
    words: tuple[int, int] = (4, 150)
    """Fewest and most words of a description."""
    tests: PositiveInt = 3
    """A task with fewer tests is dropped."""


class Executed(Record):
    """What the calls of a proposed task returned."""

    task_id: str
    result: ExecutionResult

    @property
    def key(self) -> str:
        return self.task_id


Why = Literal["unreadable", "length", "known", "held out", "unsolved", "too few tests"]
WHY: tuple[Why, ...] = get_args(Why)


def synthesise(
    seeds: TaskSet,
    teacher: Completer,
    prompts: Prompts,
    config: SynthesisConfig,
    sandbox: Sandbox,
    run: Run,
    *,
    known: Sequence[str] = (),
    allowed: Callable[[str], bool] = lambda prompt: True,
    some: bool = True,
    seed: int | None = None,
) -> TaskSet:
    """New training tasks, in the order of their proposals; the stages are kept and resumed like any other.

    ``known`` are prompts that must not come again, besides the seeds'; one that is not ``allowed`` is dropped
    as held out. ``seed`` draws the proposals (default: the run's): another one where the same seeds are asked
    again. Raises ConfigError where the prompts cannot ask for tasks; TaskError where none is left,
    unless ``some`` is false.
    """
    dropped: dict[Why, int] = dict.fromkeys(WHY, 0)
    written: list[int] = []  # tokens, by the teacher

    def heard(answers: Sequence[Completion]) -> None:
        written.extend(one.tokens for one in answers)

    proposed = propose(seeds, teacher, prompts, config, run, dropped, heard, known, allowed, seed)
    solved = _solve(proposed, teacher, prompts, config, seeds, run, dropped, heard)
    made = _test(solved, teacher, prompts, config, sandbox, run, dropped, heard)
    run.account(proposals=config.proposals, tasks_made=len(made), question_tokens=sum(written))
    run.account(**{f"dropped_{why.replace(' ', '_')}": count for why, count in dropped.items()})
    if not made and some:
        lost = ", ".join(f"{count} {why}" for why, count in dropped.items() if count)
        raise TaskError(
            f"none of {config.proposals} proposals became a task: {lost}.",
            next_step="Look at the stages proposals, solutions and inputs of the run.",
        )
    return TaskSet(f"{seeds.name}/made", tuple(made), "train", "zero-shot", seeds.stop)


def propose(
    seeds: TaskSet,
    teacher: Completer,
    prompts: Prompts,
    config: SynthesisConfig,
    run: Run,
    dropped: dict[Why, int],
    heard: Callable[[Sequence[Completion]], None] = lambda _: None,
    others: Sequence[str] = (),
    allowed: Callable[[str], bool] = lambda prompt: True,
    seed: int | None = None,
) -> list[Task]:
    """Tasks without solution and tests that the teacher makes from seeds (Self-Instruct, arXiv:2212.10560).

    ``dropped`` counts what is left out, and why; ``heard`` is told all answers; ``others`` are prompts that
    must not come again, besides the seeds'; one that is not ``allowed`` is held out."""
    again: Counter[str] = Counter()

    def ask(number: int) -> Request:
        first = number * config.seeds_per_proposal
        some = [seeds.tasks[(first + n) % len(seeds)] for n in range(config.seeds_per_proposal)]
        prompt = prompts.to_propose(some, config.levels[number % len(config.levels)])
        again[prompt] += 1  # the same question once more is another sample of it
        return Request(task_id=f"made/{number}", prompt=prompt, sample=again[prompt] - 1)

    asked = [ask(number) for number in range(config.proposals)]
    answers = run.stage(
        "proposals",
        Completion,
        asked,
        partial(
            teacher.complete,
            sampling=config.proposal,
            seed=run.seed if seed is None else seed,
            stopped=prompts.proposed,
        ),
    )
    heard(answers)
    known = [words(prompt) for prompt in (*(task.prompt for task in seeds.tasks), *others)]
    kept: list[Task] = []
    for answer in answers:
        prompt = prompts.read_proposal(answer.text)
        name = function_name(prompt) if prompt else None
        said = words(prompt or "")
        if prompt is None or name is None:
            dropped["unreadable"] += 1
        elif not config.words[0] <= len(said) <= config.words[1]:
            dropped["length"] += 1
        elif said in known or any(rouge_l(said, other, config.novelty) > config.novelty for other in known):
            dropped["known"] += 1
        elif not allowed(prompt):
            dropped["held out"] += 1
        else:
            known.append(said)
            kept.append(untested(answer.task_id, prompt, name))
    return kept


def untested(task_id: str, prompt: str, name: str) -> Task:
    """A task that a teacher made, without solution and, as yet, tests."""
    none = (Test(code="assert True"),)
    return Task(
        task_id=task_id,
        prompt=prompt,
        entry_point=name,
        reference="",
        tests=none,
        split="train",
        source=MADE,
    )


def _solve(
    proposed: Sequence[Task],
    teacher: Completer,
    prompts: Prompts,
    config: SynthesisConfig,
    seeds: TaskSet,
    run: Run,
    dropped: dict[Why, int],
    heard: Callable[[Sequence[Completion]], None],
) -> list[Task]:
    asked = [Request(task_id=task.task_id, prompt=prompts.to_solve(task)) for task in proposed]
    make = partial(
        teacher.complete, sampling=config.solution, seed=run.seed, stopped=prompts.ended(seeds.stop)
    )
    answers = run.stage("made-solutions", Completion, asked, make)
    heard(answers)
    solved = []
    for task, answer in zip(proposed, answers, strict=True):
        reference = prompts.read(answer.text, task, seeds.stop)
        if parses(task.prompt + reference):
            solved.append(task.model_copy(update={"reference": reference}))
        else:
            dropped["unsolved"] += 1
    return solved


def _test(
    solved: Sequence[Task],
    teacher: Completer,
    prompts: Prompts,
    config: SynthesisConfig,
    sandbox: Sandbox,
    run: Run,
    dropped: dict[Why, int],
    heard: Callable[[Sequence[Completion]], None],
) -> list[Task]:
    asked = [Request(task_id=t.task_id, prompt=prompts.to_inputs(t, t.reference)) for t in solved]
    make = partial(teacher.complete, sampling=config.inputs, seed=run.seed)
    answers = run.stage("inputs", Completion, asked, make)
    heard(answers)
    tried = []
    for task, answer in zip(solved, answers, strict=True):
        calls = read_calls(task.entry_point, answer.text)
        unknown = tuple(Test(code=f"assert {call} == {UNKNOWN}") for call in calls)
        tried.append(task.model_copy(update={"tests": unknown}) if unknown else None)
    dropped["too few tests"] += tried.count(None)
    first = _executed("outputs", [task for task in tried if task is not None], sandbox, run)
    known = [(task, values) for task, result in first if (values := _valued(result))]
    again = [task.model_copy(update={"tests": tests}) for task, tests in known]
    made = []
    for task, result in _executed("outputs-again", again, sandbox, run):
        stable = tuple(
            test for test, found in zip(task.tests, result.tests, strict=False) if found.verdict == "pass"
        )
        if len(stable) >= config.tests and len({test.code.rpartition(" == ")[2] for test in stable}) > 1:
            made.append(task.model_copy(update={"tests": stable}))
    dropped["too few tests"] += len(first) - len(made)
    return made


def _executed(
    stage: str, tasks: Sequence[Task], sandbox: Sandbox, run: Run
) -> list[tuple[Task, ExecutionResult]]:
    def execute(owed: Sequence[Task]) -> Iterator[Executed]:
        results = sandbox.run(Program.of(task, task.reference) for task in owed)
        for task, result in zip(owed, results, strict=True):
            if result.verdict != "infra_error":  # it stays owed
                yield Executed(task_id=task.task_id, result=result)

    found = run.stage(stage, Executed, tasks, execute)
    return [(task, one.result) for task, one in zip(tasks, found, strict=True)]


def _valued(result: ExecutionResult) -> tuple[Test, ...]:
    """The calls that returned a literal, as tests."""
    made = []
    for test in result.tests:
        if test.verdict == "wrong" and test.call and is_literal(test.actual):
            made.append(Test(code=f"assert {test.call} == {test.actual}"))
    return tuple(made)


def is_literal(text: str) -> bool:
    """Whether it is the whole repr of plain data: a value that was cut, or an object, is not."""
    try:
        return repr(ast.literal_eval(text)) == text
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False


def read_calls(function: str, answer: str) -> list[str]:
    """The calls of ``function`` with literal arguments that stand in an answer, a line each, none twice."""
    found: dict[str, None] = {}
    for line in answer.splitlines():
        try:
            call = ast.parse(line.strip().removeprefix("- ").strip("`"), mode="eval").body
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == function:
                for argument in [*call.args, *(keyword.value for keyword in call.keywords)]:
                    ast.literal_eval(argument)
                found[ast.unparse(call)] = None
        except (SyntaxError, ValueError):
            continue
    return list(found)


def function_name(prompt: str) -> str | None:
    """The function that a prompt asks for; None where it is no header with a docstring, imports aside."""
    try:
        tree = ast.parse(f"{prompt}\n    pass\n")
    except SyntaxError:
        return None
    *others, last = tree.body
    if not isinstance(last, ast.FunctionDef) or ast.get_docstring(last) is None:
        return None
    plain = all(isinstance(one, ast.Import | ast.ImportFrom) for one in others)
    return last.name if plain else None


def words(prompt: str) -> list[str]:
    """The words of a task's description, in lower case: what is between the quotes of its docstring."""
    quoted = re.findall(r'"""(.*?)"""|\'\'\'(.*?)\'\'\'', prompt, re.DOTALL)
    text = " ".join(one or other for one, other in quoted) or prompt
    return re.findall(r"\w+", text.lower())


def rouge_l(a: Sequence[str], b: Sequence[str], above: float = 0.0) -> float:
    """ROUGE-L F of two texts in words (Lin, 2004), with equal weights; 0 where it is not over ``above``.

    Raises ConfigError where rapidfuzz is missing.
    """
    try:
        from rapidfuzz.distance import LCSseq
    except ImportError as error:
        raise ConfigError(
            "the novelty of tasks is measured with rapidfuzz, which is not installed.",
            next_step="pip install 'codestill[retrieval]'",
        ) from error
    if not a or not b:
        return 0.0
    least = int(above * (len(a) + len(b)) / 2)
    return 2 * LCSseq.similarity(a, b, score_cutoff=least) / (len(a) + len(b))
