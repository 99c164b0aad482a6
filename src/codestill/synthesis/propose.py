"""Proposals: tasks without tests that a teacher makes from seeds (Self-Instruct, arXiv:2212.10560)."""

import ast
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, get_args

from pydantic import Field, PositiveInt

from codestill.attempt import Completer
from codestill.errors import ConfigError
from codestill.models import SamplingConfig
from codestill.prompts import Level, Prompts
from codestill.run import Run
from codestill.tasks import TaskSet
from codestill.types import Completion, Request, Settings, Task, Test

MADE = "made"
"""The source of a task that a teacher made."""


class SynthesisConfig(Settings):
    """How many tasks are asked for, and which are kept."""

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


Why = Literal["unreadable", "length", "known", "held out", "unsolved", "too few tests"]


WHY: tuple[Why, ...] = get_args(Why)


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
