"""Proposals: tasks without tests that a teacher makes from seeds (Self-Instruct, arXiv:2212.10560)."""

import ast
import builtins
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from pydantic import Field, PositiveInt

from codestill.errors import ConfigError
from codestill.languages import UNPARSABLE
from codestill.models import SamplingConfig
from codestill.prompts import Level
from codestill.records import GROWS
from codestill.tasks import TaskSet
from codestill.teaching import Teaching
from codestill.types import Request, Settings, Task, Test

MADE = "made"
"""``source`` of a task that a teacher proposed."""


class SynthesisConfig(Settings):
    """How many tasks are requested, and which are kept."""

    proposals: Annotated[PositiveInt, GROWS] = 500
    """Tasks requested; fewer remain."""
    seeds_per_proposal: PositiveInt = 3
    """Seed tasks shown with each, where the prompts have a place for several."""
    levels: tuple[Level, ...] = ("easier", "same", "harder")
    """Difficulty of the proposals relative to their seed, in turn."""
    proposal: SamplingConfig = SamplingConfig(temperature=0.7)
    """How proposals are sampled."""
    solution: SamplingConfig = SamplingConfig()
    """How solutions are sampled."""
    inputs: SamplingConfig = SamplingConfig(temperature=0.7)
    """How test inputs are sampled."""
    novelty: float = Field(default=0.7, gt=0, le=1)
    """A description whose ROUGE-L F with a seed or an earlier proposal is above this is dropped."""
    words: tuple[int, int] = (4, 150)
    """Fewest and most words of a description."""
    tests: PositiveInt = 3
    """A task with fewer tests is dropped."""


DropReason = Literal["unreadable", "length", "known", "held out", "unsolved", "too few tests"]
DROP_REASONS: tuple[DropReason, ...] = get_args(DropReason)


@dataclass(frozen=True)
class Admission:
    """Which proposals may become tasks at all."""

    known: Sequence[str] = ()
    """Prompts that must not come again, besides the seeds'."""
    allowed: Callable[[str], bool] = lambda prompt: True
    """Whether a prompt may be trained on; one that may not is dropped as held out."""


@dataclass(frozen=True)
class Proposals:
    """Proposed tasks without solutions and tests, and why others were dropped."""

    tasks: list[Task]
    dropped: Counter[DropReason]


def propose(
    seeds: TaskSet,
    teaching: Teaching,
    config: SynthesisConfig,
    admission: Admission | None = None,
    seed: int | None = None,
) -> Proposals:
    """Tasks that the teacher proposes from seeds. Stage: proposals. ``seed`` is the run's unless given."""
    admission = admission or Admission()
    prompts, repeats = teaching.prompts, Counter[str]()

    def request(number: int) -> Request:
        first = number * config.seeds_per_proposal
        shown = [seeds.tasks[(first + n) % len(seeds)] for n in range(config.seeds_per_proposal)]
        prompt = prompts.to_propose(shown, config.levels[number % len(config.levels)])
        repeats[prompt] += 1  # the same prompt once more is another sample of it
        return Request(task_id=f"made/{number}", prompt=prompt, sample=repeats[prompt] - 1)

    requests = [request(number) for number in range(config.proposals)]
    answers = teaching.ask("proposals", requests, config.proposal, ended=prompts.proposed, seed=seed)
    known = [words(prompt) for prompt in (*(task.prompt for task in seeds.tasks), *admission.known)]
    tasks: list[Task] = []
    dropped: Counter[DropReason] = Counter()
    for answer in answers:
        prompt = prompts.read_proposal(answer.text)
        name = function_name(prompt) if prompt else None
        description = words(prompt or "")
        if prompt is None or name is None:
            dropped["unreadable"] += 1
        elif not config.words[0] <= len(description) <= config.words[1]:
            dropped["length"] += 1
        elif description in known or any(
            rouge_l(description, other, config.novelty) > config.novelty for other in known
        ):
            dropped["known"] += 1
        elif not admission.allowed(prompt):
            dropped["held out"] += 1
        else:
            known.append(description)
            tasks.append(untested(answer.task_id, prompt, name))
    return Proposals(tasks, dropped)


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
    """The function that a prompt asks for; None where it is neither a header with a docstring, imports aside,
    nor a text whose assertions call a function."""
    try:
        tree = ast.parse(f"{prompt}\n    pass\n")
    except UNPARSABLE:
        return _asserted(prompt)
    *others, last = tree.body
    if not isinstance(last, ast.FunctionDef) or ast.get_docstring(last) is None:
        return None
    plain = all(isinstance(one, ast.Import | ast.ImportFrom) for one in others)
    return last.name if plain else None


def _asserted(prompt: str) -> str | None:
    """The first function, other than a builtin, that an assertion in a text between quotes calls."""
    try:
        (statement,) = ast.parse(prompt).body
        text = ast.literal_eval(ast.unparse(statement))
        lines = [line for line in text.splitlines() if line.strip().startswith("assert")]
        calls = [
            node.func
            for line in lines
            for node in ast.walk(ast.parse(line.strip()))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        ]
    except (*UNPARSABLE, TypeError, AttributeError):
        return None
    return next((call.id for call in calls if not hasattr(builtins, call.id)), None)


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
