"""Which attempts the page embeds: failing and passing ones of every arm, the same on every machine."""

import hashlib
import heapq
import re
from collections.abc import Iterator
from dataclasses import dataclass

from codestill.report.collect import Report
from codestill.sandbox.feedback import feedback
from codestill.types import Attempt

MAX_SAMPLES = 400
MAX_BYTES = 1_200_000
"""Of embedded sample text, so that the page stays quick to open."""
MAX_CHARACTERS = 6_000
"""Of one prompt or completion."""


@dataclass(frozen=True)
class Sample:
    """An attempt as the page shows it."""

    arm: str
    run: str
    """Name of the run, where the arm has several."""
    tasks: str
    task_id: str
    sample: int
    greedy: bool
    prompt: str
    completion: str
    verdict: str
    feedback: str


@dataclass(frozen=True)
class Samples:
    """The chosen samples and how many there were to choose from."""

    chosen: tuple[Sample, ...]
    available: int


def choose_samples(report: Report, limit: int = MAX_SAMPLES) -> Samples:
    """At most ``limit`` samples, taken in turn from every arm and verdict.

    Within those, the order is a hash of task and sample that all arms share: where possible, they show
    their answers to the same tasks.
    """
    pools: dict[tuple[str, str, str], _Lowest] = {}
    prompts: dict[tuple[str, str], str] = {}
    available = 0
    for section in report.sections:
        for arm in section.arms:
            for source in arm.sources:
                tasks = source.run.tasks(section.tasks)
                prompts |= {(section.tasks, task.task_id): task.prompt for task in tasks.values()}
                for attempt, greedy in source.run.attempts(source.name):
                    available += 1
                    key = (arm.name, section.tasks, attempt.result.verdict)
                    pools.setdefault(key, _Lowest(limit)).add(
                        attempt, greedy, source.run.name if arm.seeds > 1 else ""
                    )
    chosen: list[Sample] = []
    size = 0
    for (arm, tasks, verdict), attempt, greedy, run in _in_turn(pools):
        prompt = prompts.get((tasks, attempt.task_id), "")
        sample = Sample(
            arm=arm,
            run=run,
            tasks=tasks,
            task_id=attempt.task_id,
            sample=attempt.completion.sample,
            greedy=greedy,
            prompt=_cut(prompt),
            completion=_cut(attempt.completion.text),
            verdict=verdict,
            feedback="" if attempt.result.passed else feedback(attempt.result),
        )
        size += len((sample.prompt + sample.completion + sample.feedback).encode())
        if len(chosen) == limit or size > MAX_BYTES:
            break
        chosen.append(sample)
    arms = {arm.name: number for number, arm in enumerate(report.arms)}
    chosen.sort(key=lambda s: (s.tasks, _natural(s.task_id), arms[s.arm], s.run, not s.greedy, s.sample))
    return Samples(tuple(chosen), available)


class _Lowest:
    """Keeps the ``limit`` attempts with the lowest hashes, so that a pool of any size fits in memory."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.heap: list[tuple[int, int, Attempt, bool, str]] = []
        self.count = 0

    def add(self, attempt: Attempt, greedy: bool, run: str) -> None:
        digest = hashlib.sha256(f"{attempt.key}\0{greedy}".encode()).digest()
        self.count += 1
        item = (-int.from_bytes(digest[:8], "big"), self.count, attempt, greedy, run)
        if len(self.heap) < self.limit:
            heapq.heappush(self.heap, item)
        else:
            heapq.heappushpop(self.heap, item)

    def ordered(self) -> list[tuple[Attempt, bool, str]]:
        return [item[2:] for item in sorted(self.heap, reverse=True)]


def _in_turn(
    pools: dict[tuple[str, str, str], _Lowest],
) -> Iterator[tuple[tuple[str, str, str], Attempt, bool, str]]:
    queues = {key: pool.ordered() for key, pool in sorted(pools.items())}
    for place in range(max(map(len, queues.values()), default=0)):
        for key, queue in queues.items():
            if place < len(queue):
                yield key, *queue[place]


def _natural(task_id: str) -> list[tuple[int, str]]:
    """Sorts ``mbpp/2`` before ``mbpp/11``."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", task_id)]


def _cut(text: str) -> str:
    if len(text) <= MAX_CHARACTERS:
        return text
    return f"{text[:MAX_CHARACTERS]}\n… {len(text) - MAX_CHARACTERS:,} more characters are not shown"
