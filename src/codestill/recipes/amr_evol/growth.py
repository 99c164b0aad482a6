"""What became of a run's answers and library: accounting, and the library's growth wave by wave."""

from collections import Counter
from collections.abc import Mapping

from codestill.recipes.amr_evol.agreement import run_on
from codestill.recipes.amr_evol.evolve import Retrieved
from codestill.recipes.amr_evol.library import Library
from codestill.recipes.amr_evol.responses import Response
from codestill.run import Run
from codestill.serialize import read_jsonl
from codestill.synthesis import MADE
from codestill.tasks import TaskSet
from codestill.teaching import Teaching
from codestill.types import Completion, Record


class WaveStatistics(Record):
    """The library at one wave of instructions."""

    wave: int
    functions: int
    """In the library while the wave was answered."""
    modules: int
    """That were looked for."""
    found: int
    """Modules for which a function was near enough."""
    added: int
    """Functions that entered after it."""

    @property
    def hit_rate(self) -> float:
        return self.found / self.modules if self.modules else 0.0


def growth(library: Library, run: Run, waves: int, cosine: float) -> list[WaveStatistics]:
    """How the library grew, and how often it was of use."""
    size = library.batches.get("seed", 0)
    made = []
    for number in range(1, waves + 1):
        found = run.part(f"wave-{number}").read("retrieved", Retrieved)
        best = [some[0][1] if some else -1.0 for one in found for some in one.found]
        added = library.batches.get(f"wave-{number}", 0)
        near = sum(one >= cosine for one in best)
        made.append(WaveStatistics(wave=number, functions=size, modules=len(best), found=near, added=added))
        size += added
    return made


def read_growth(library: Library) -> list[WaveStatistics]:
    """What :func:`write_growth` wrote; nothing for a run that is not so far."""
    path = library.directory / "growth.jsonl"
    return list(read_jsonl(path, WaveStatistics)) if path.exists() else []


def write_growth(library: Library, run: Run, waves: int, cosine: float) -> None:
    """``library/growth.jsonl``, a line for each wave; and its sums in the accounting."""
    found = growth(library, run, waves, cosine)
    run.write("library/growth.jsonl", found)
    run.account(
        library=len(library),
        library_seed=library.batches.get("seed", 0),
        modules=sum(one.modules for one in found),
        modules_found=sum(one.found for one in found),
    )


def account(
    tasks: TaskSet,
    responses: Mapping[str, Response],
    teaching: Teaching,
    instruction_tokens: int,
) -> None:
    """How the answers came about, what they cost, and, where tasks have tests of their own, how many are
    right.

    Those tests are run here, after all answers are given, and nothing that the student reads depends on them.
    Stages: answers, responses.
    """
    run = teaching.run
    run.stage("answers", Response, tasks.tasks, lambda owed: (responses[task.task_id] for task in owed))
    how = Counter(one.how for one in responses.values())
    why = Counter(one.why.partition(":")[0] for one in responses.values() if one.why)
    tokens = teaching.tokens - instruction_tokens
    run.account(
        instructions=len(tasks),
        instruction_tokens=instruction_tokens,
        teacher_calls=teaching.calls,
        teacher_tokens=tokens,
        tokens_per_instruction=round(tokens / len(tasks), 1),
        **{f"answers_{name}": count for name, count in sorted(how.items())},
        kept_direct=sum(why.values()),
    )
    for reason, count in sorted(why.items()):
        run.message("answers", f"{count} keep the direct answer: {reason}")
    tested = [task for task in tasks.tasks if task.source != MADE]
    if tested:
        answers = [
            Completion(task_id=task.task_id, sample=0, text=responses[task.task_id].completion)
            for task in tested
        ]
        ran = run_on(teaching, "responses", tested, answers)
        passed = sum(one.result.passed for one in ran)
        run.account(
            answers_tested=len(ran),
            answers_right=passed,
            right_per_1000_tokens=round(1000 * passed / tokens, 3) if tokens else 0,
        )
