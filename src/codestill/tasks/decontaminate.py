"""Training tasks that evaluation tasks repeat, found by four views.

A student that was trained on a task, or on its solution, cannot be tested on it. The views, from strict to
lenient: equal descriptions, solutions or ids; word n-grams (Brown et al. 2020, arXiv 2005.14165, appendix C);
for short texts, the Jaccard index of their words; nearest neighbours, judged (AMR-Evol, arXiv 2410.00558).
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from itertools import groupby

from pydantic import Field

from codestill.embeddings import OptionalEmbedderConfig
from codestill.errors import TaskError
from codestill.run import Run
from codestill.tasks.alike import (
    VIEWS,
    Alike,
    Match,
    Text,
    View,
    exact,
    jaccard,
    make_vectoriser,
    neighbours,
    ngrams,
)
from codestill.tasks.config import TasksConfig, TaskSet
from codestill.types import Record, Settings, Task

Judge = Callable[[Task, Task], bool]
"""Whether a training task (the first) is, or solves, an evaluation task (the second)."""

TO_CHECK = 0.5
"""Cosine from which an evaluation task's nearest neighbour is reported although it is no match."""


class DecontaminateConfig(Settings):
    """How similar a training task and an evaluation task may be: a score at its threshold is a match."""

    ngram_words: int = Field(default=8, ge=1)
    """Words of an n-gram. A shorter description is one n-gram."""
    ngram_share: float = Field(default=0.5, gt=0, le=1)
    """Share of a training description's n-grams that occur in one evaluation description."""
    jaccard: float = Field(default=0.8, gt=0, le=1)
    """Words that both descriptions have, over the words that either has."""
    jaccard_words: int = Field(default=30, ge=0)
    """Longest training description, in words, that is compared by Jaccard; longer ones have n-grams."""
    neighbours: int = Field(default=5, ge=0)
    """Nearest training tasks that each evaluation task retrieves. 0: none, and scikit-learn is not needed."""
    cosine: float = Field(default=0.85, gt=0, le=1)
    """Cosine from which a retrieved neighbour is a match or, where there is a judge, is judged."""
    embedder: OptionalEmbedderConfig = None
    """Gives the cosines; each embedder needs a threshold of its own. Default: TF-IDF of the words."""


class Overlap(Record):
    """A training task and an evaluation task that are similar in one view."""

    task_id: str
    """The training task's."""
    against: str
    """Name of the evaluation set."""
    against_id: str
    """The evaluation task's."""
    view: View
    alike: Alike = "description"
    """What is similar. In the view ``exact`` also ``reference``, where the descriptions differ, and ``id``
    (with the entry point) where both do: MBPP+ rewrote some of MBPP's tasks."""
    score: float
    """1 where exact, else the share, the Jaccard index or the cosine."""
    removed: bool
    """Whether this removes the training task. If not, it is a neighbour for a reader to check."""
    description: str
    """The training task's, on one line."""
    against_description: str
    """The evaluation task's, on one line."""

    def __str__(self) -> str:
        return f"exact {self.alike}" if self.view == "exact" else f"{self.view} {self.score:.2f}"


class Decontamination(Record):
    """The result of :func:`decontaminate`."""

    against: tuple[str, ...]
    """Names of the evaluation sets."""
    kept: tuple[str, ...]
    """Ids of the training tasks that no view removes, in their order."""
    found: tuple[Overlap, ...]
    """Ordered by training task, evaluation set, evaluation task and view."""

    @property
    def removed(self) -> tuple[str, ...]:
        """Ids of the training tasks that a view removes, in their order."""
        return tuple(dict.fromkeys(overlap.task_id for overlap in self.found if overlap.removed))

    def report(self, limit: int = 20) -> str:
        """Counts per evaluation set and view; then both descriptions of what is removed, and of the nearest
        neighbours that are kept, at most ``limit`` training tasks each."""
        removed, kept = self.removed, set(self.kept)
        near = sorted(self._to_check(), key=lambda overlap: -overlap.score)
        total = len(kept) + len(removed)
        lines = [f"{total} training tasks: {len(removed)} removed, {len(kept)} kept", *self._counts()]
        for title, ids in (
            ("removed", removed),
            ("kept, to be checked by eye", tuple(dict.fromkeys(overlap.task_id for overlap in near))),
        ):
            if ids:
                more = f", the first {limit}" if len(ids) > limit else ""
                lines += ["", f"{title}: {len(ids)}{more}"]
            for task_id in ids[:limit]:
                of_task = (overlap for overlap in self.found if overlap.task_id == task_id)
                lines += _beside([overlap for overlap in of_task if overlap.removed == (task_id not in kept)])
        return "\n".join(lines) + "\n"

    def _to_check(self) -> list[Overlap]:
        """Neighbours that are no match, unless another match removes them."""
        kept = set(self.kept)
        return [overlap for overlap in self.found if overlap.task_id in kept]

    def _counts(self) -> list[str]:
        rows = [["pairs of tasks", *VIEWS, "to check", "tasks removed"]]
        to_check = Counter(overlap.against for overlap in self._to_check())
        for name in self.against:
            matches = [overlap for overlap in self.found if overlap.removed and overlap.against == name]
            views = Counter(overlap.view for overlap in matches)
            tasks = {overlap.task_id for overlap in matches}
            rows.append([name, *map(str, [*(views[view] for view in VIEWS), to_check[name], len(tasks)])])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]


def _beside(overlaps: Sequence[Overlap]) -> list[str]:
    """One training task, and below it each evaluation task that is similar to it."""
    lines = [f"  {overlaps[0].task_id}: {_capped(overlaps[0].description)}"]
    for (name, task_id), views in groupby(overlaps, lambda overlap: (overlap.against, overlap.against_id)):
        pair = list(views)
        lines.append(f"    {task_id}: {_capped(pair[0].against_description)}")
        lines.append(f"      {name}: {', '.join(map(str, pair))}")
    return lines


def _capped(text: str, length: int = 90) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."


def decontaminate(
    tasks: Sequence[Task],
    against: Sequence[TaskSet],
    config: DecontaminateConfig,
    judge: Judge | None = None,
) -> Decontamination:
    """Find the training tasks that evaluation tasks repeat; any one match removes a task.

    Descriptions are compared as lower-case words, without "write a function to"; solutions as syntax trees,
    whatever their layout and the names that they define. A neighbour that reaches ``config.cosine`` is a
    match unless ``judge`` rejects it; pairs that another view found are not judged. AMR-Evol lets a model
    judge all five neighbours: that is a ``cosine`` near 0. Of the neighbours that are no match, ``found``
    has those that the judge rejected, and each evaluation task's nearest where its cosine is 0.5 or more.

    Deterministic. Another evaluation set shifts all cosines a little: the idf is over every description.

    Raises ConfigError where neighbours are wanted and what finds them is not installed, TaskError where
    two training tasks have one id or two evaluation sets one name.
    """
    _require_unique([task.task_id for task in tasks], "training tasks", "id")
    _require_unique([task_set.name for task_set in against], "evaluation sets", "name")
    # First, so that a missing package is reported before the work.
    vectorise = make_vectoriser(config.embedder) if config.neighbours else None
    held_out = [(task_set.name, task) for task_set in against for task in task_set]
    train = [Text(task) for task in tasks]
    evaluation = [Text(task) for _, task in held_out]
    matches = [
        *exact(train, evaluation),
        *ngrams(train, evaluation, config.ngram_words, config.ngram_share),
        *jaccard(train, evaluation, config.jaccard_words, config.jaccard),
    ]
    if vectorise:
        known = {(match.train, match.held) for match in matches}
        for nearest in neighbours(vectorise, train, evaluation, config.neighbours):
            matches += _among_neighbours(
                nearest,
                config.cosine,
                known,
                lambda near: judge is None or judge(tasks[near.train], held_out[near.held][1]),
            )
    matches.sort(key=lambda match: (match.train, match.held, VIEWS.index(match.view)))
    removed = {match.train for match in matches if match.removed}
    return Decontamination(
        against=tuple(task_set.name for task_set in against),
        kept=tuple(task.task_id for number, task in enumerate(tasks) if number not in removed),
        found=tuple(
            _overlap(match, tasks, train, held_out[match.held], evaluation[match.held]) for match in matches
        ),
    )


def _among_neighbours(
    nearest: Sequence[Match], least: float, known: Set[tuple[int, int]], same: Callable[[Match], bool]
) -> Iterator[Match]:
    """Of an evaluation task's neighbours, nearest first: those that reach the cosine ``least``, and the first
    where it does not but is worth a look."""
    for rank, near in enumerate(nearest):
        pair = (near.train, near.held)
        if near.score >= least:
            yield near._replace(removed=pair in known or same(near))
        elif rank == 0 and near.score >= TO_CHECK and pair not in known:
            yield near._replace(removed=False)


def _overlap(
    match: Match, tasks: Sequence[Task], train: Sequence[Text], held_out: tuple[str, Task], evaluation: Text
) -> Overlap:
    name, task = held_out
    return Overlap(
        task_id=tasks[match.train].task_id,
        against=name,
        against_id=task.task_id,
        view=match.view,
        alike=match.alike,
        score=match.score,
        removed=match.removed,
        description=train[match.train].description,
        against_description=evaluation.description,
    )


def without_repeats(
    task_set: TaskSet, evaluated: TasksConfig, config: DecontaminateConfig | None, run: Run
) -> TaskSet:
    """The tasks that the evaluation does not repeat; ``decontamination.txt`` lists the others, and why. All
    tasks where ``config`` is None."""
    if config is None or not task_set.tasks:
        return task_set
    decontamination = decontaminate(task_set.tasks, [evaluated.load()], config)
    run.write("decontamination.txt", decontamination.report())
    kept = set(decontamination.kept)
    return task_set.with_tasks(task for task in task_set if task.task_id in kept)


def _require_unique(names: Sequence[str], of: str, what: str) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise TaskError(
                f"Decontamination: {count} {of} have the {what} {name!r}.",
                next_step=f"Give each its own {what}: the report distinguishes {of} by it.",
            )
