"""Rows that the student was trained on: a few of every source, repairs beside what they repair."""

import hashlib
import heapq
from collections.abc import Iterable
from dataclasses import dataclass

from codestill.browse import RunFiles
from codestill.browse.run import REPEAT
from codestill.files.serialize import read_jsonl
from codestill.pages import cut
from codestill.report.collect import Report
from codestill.types import Example

MOST = 12
"""Rows on a page."""
OF_A_RUN = 4
LONGEST = 4_000
"""Characters of one text."""


@dataclass(frozen=True)
class TrainedRow:
    """A row as the page shows it."""

    arm: str
    """Empty where the page has a single one."""
    name: str
    source: str
    prompt: str
    completion: str
    before: str
    """What failed, to stand beside the completion; empty where the row has nothing of the kind."""
    is_repair: bool
    """Whether the completion repairs it; else it is another answer to the same prompt."""


def trained_rows(report: Report) -> list[TrainedRow]:
    """Rows of the last training of every arm, with several seeds of the first one's, the same rows whenever
    the page is made; those beside which something stands first. Raises RunError for a damaged file."""
    arms = [arm for section in report.sections for arm in section.owners if arm.sources]
    firsts = {arm.sources[0].run.path: (arm.name, arm.sources[0].run) for arm in reversed(arms)}
    named = [*reversed(firsts.values())] or [*report.runs.items()]  # runs that have no evaluation yet
    of_arms = [(name, examples) for name, run in named if (examples := _chosen(run))]
    each = min(OF_A_RUN, max(1, MOST // max(len(of_arms), 1)))
    rows = [
        _row(name if len(of_arms) > 1 else "", example)
        for name, examples in of_arms
        for example in examples[:each]
    ]
    return rows[:MOST]


def _chosen(run: RunFiles) -> list[Example]:
    """The rows of lowest hash, in turn from every source; sources whose rows stand beside something first."""
    path = run.path / "examples.jsonl"
    if not path.exists():
        return []
    groups: dict[tuple[bool, str], list[Example]] = {}
    for example in read_jsonl(path, Example, whole=True, next_step=REPEAT):
        group = groups.setdefault((not (example.attempt or example.faults), example.source), [])
        group.append(example)
        if len(group) > 20 * OF_A_RUN:  # a pool of any size fits in memory
            group[:] = _lowest(group)
    queues = [_lowest(group) for _, group in sorted(groups.items())]
    return [queue[place] for place in range(OF_A_RUN) for queue in queues if place < len(queue)][:OF_A_RUN]


def _lowest(examples: Iterable[Example]) -> list[Example]:
    return heapq.nsmallest(
        OF_A_RUN, examples, key=lambda example: hashlib.sha256(example.key.encode()).digest()
    )


def _row(arm: str, example: Example) -> TrainedRow:
    fault = example.faults[0].completion if example.faults else ""
    return TrainedRow(
        arm=arm,
        name=example.example_id,
        source=example.source,
        prompt=cut(example.prompt, LONGEST),
        completion=cut(example.completion, LONGEST),
        before=cut(example.attempt or fault, LONGEST),
        is_repair=bool(example.attempt),
    )
