"""Accounting of a run's answers, and the growth of its library wave by wave."""

from collections import Counter
from collections.abc import Mapping

from codestill.files.serialize import read_jsonl
from codestill.recipes.amr_evol.agreement import run_on
from codestill.recipes.amr_evol.evolve import Retrieved
from codestill.recipes.amr_evol.library import Library
from codestill.recipes.amr_evol.responses import Response
from codestill.run import Run
from codestill.synthesis import MADE
from codestill.tasks import TaskSet
from codestill.teaching import Teaching
from codestill.types import Completion, Record


class WaveStatistics(Record):
    """The library at one wave of instructions."""

    wave: int
    functions: int
    """Size of the library while the wave was answered."""
    modules: int
    """Modules searched for."""
    found: int
    """Modules whose nearest function reaches the cosine threshold."""
    added: int
    """Functions added after the wave."""

    @property
    def hit_rate(self) -> float:
        return self.found / self.modules if self.modules else 0.0


def growth(library: Library, run: Run, waves: int, cosine: float) -> list[WaveStatistics]:
    """Size and hit rate of the library, wave by wave."""
    size = library.batches.get("seed", 0)
    statistics = []
    for number in range(1, waves + 1):
        retrieved = run.part(f"wave-{number}").read("retrieved", Retrieved)
        nearest = [hits[0][1] if hits else -1.0 for of_task in retrieved for hits in of_task.found]
        added = library.batches.get(f"wave-{number}", 0)
        near = sum(similarity >= cosine for similarity in nearest)
        statistics.append(
            WaveStatistics(wave=number, functions=size, modules=len(nearest), found=near, added=added)
        )
        size += added
    return statistics


def read_growth(library: Library) -> list[WaveStatistics]:
    """What :func:`write_growth` wrote; empty for a run that has not finished."""
    path = library.directory / "growth.jsonl"
    step = "Delete the file, and run amr_evol again with the same command: it writes the file again."
    return list(read_jsonl(path, WaveStatistics, whole=True, next_step=step)) if path.exists() else []


def write_growth(library: Library, run: Run, waves: int, cosine: float) -> None:
    """Write ``library/growth.jsonl``, a line for each wave, and account its sums."""
    statistics = growth(library, run, waves, cosine)
    run.write("library/growth.jsonl", statistics)
    run.account(
        library=len(library),
        library_seed=library.batches.get("seed", 0),
        modules=sum(wave.modules for wave in statistics),
        modules_found=sum(wave.found for wave in statistics),
    )


def account(
    tasks: TaskSet,
    responses: Mapping[str, Response],
    teaching: Teaching,
    instruction_tokens: int,
) -> None:
    """Record the answers, count their methods and cost and, for tasks with tests of their own, how many are
    correct.

    Those tests run only here, after all answers are final: nothing that the student trains on depends on
    them. Stages: answers, responses.
    """
    run = teaching.run
    run.stage("answers", Response, tasks.tasks, lambda owed: (responses[task.task_id] for task in owed))
    how = Counter(response.how for response in responses.values())
    why = Counter(response.why.partition(":")[0] for response in responses.values() if response.why)
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
        run.message("answers", f"{count} tasks keep the direct answer: {reason}")
    tested = [task for task in tasks.tasks if task.source != MADE]
    if tested:
        answers = [
            Completion(task_id=task.task_id, sample=0, text=responses[task.task_id].completion)
            for task in tested
        ]
        attempts = run_on(teaching, "responses", tested, answers)
        passed = sum(attempt.result.passed for attempt in attempts)
        run.account(
            answers_tested=len(attempts),
            answers_right=passed,
            right_per_1000_tokens=round(1000 * passed / tokens, 3) if tokens else 0,
        )
