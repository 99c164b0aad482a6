"""A model as a draft for a larger one: how many of its tokens speculative decoding accepts, and what that is
worth in time."""

import itertools
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, NonNegativeInt, PositiveInt

from codestill.attempt import requests
from codestill.errors import ConfigError, TaskError, VocabularyError
from codestill.evaluation.metrics import ratio, ratio_difference, share
from codestill.files.serialize import seed_for
from codestill.models import Completer, Decoding, SamplingConfig
from codestill.pace import LATENCY
from codestill.prompts import Prompts, prompts_for
from codestill.records import GROWS
from codestill.run import Run
from codestill.tasks import TaskSet
from codestill.teachers import LocalTeacherConfig
from codestill.teachers.vocabulary import require_same_vocabulary
from codestill.types import Draft, DraftLength, DraftRun, DraftTimes, Record, Request

if TYPE_CHECKING:
    from codestill.evaluation.speculative import ModelReader
    from codestill.models.rows import Row
    from codestill.models.student import LanguageModel
    from codestill.teachers.frozen import LocalTeacher

LONGEST = 8
"""Longest drafts that are looked at, in tokens."""
TIMED_TASKS = 3
TIMED_TOKENS = 64
"""Of each, when speculative decoding is timed."""


class DraftConfig(LocalTeacherConfig):
    """A larger model, for which the evaluated one drafts in speculative decoding. A plain string stands for
    ``model``."""

    temperature: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    """Sampling temperature of both; 0 is greedy decoding. Nothing else cuts their distributions."""
    texts_per_task: PositiveInt = 1
    """Answers that are sampled of the larger model for every task; acceptance is measured on these."""
    max_new_tokens: PositiveInt = 256
    """Longest of them, in tokens."""
    run_tasks: Annotated[NonNegativeInt, GROWS] = 20
    """Speculative decoding is run on so many of the tasks; 0 leaves that out."""
    run_length: int = Field(default=4, ge=1, le=LONGEST)
    """Tokens that are drafted there for each pass."""

    @property
    def sampling(self) -> SamplingConfig:
        return SamplingConfig(temperature=self.temperature, max_new_tokens=self.max_new_tokens)


class DraftText(Record):
    """A text of the target, and what the draft would have contributed."""

    task_id: str
    sample: int
    accepted: tuple[float, ...]
    """Of every token: how probable it is that a token drafted in its place is accepted."""
    given: tuple[float, ...]
    """Of every token: how probable it is that this one, if drafted, was accepted."""

    @property
    def key(self) -> str:
        return f"{self.task_id}#{self.sample}"


class SpeculatedText(Record):
    """A text that speculative decoding wrote."""

    task_id: str
    sample: int
    text: str
    tokens: int
    passes: int
    """Of the target."""

    @property
    def key(self) -> str:
        return f"{self.task_id}#{self.sample}"


@dataclass(frozen=True)
class Drafting:
    """A model that drafts, and the settings of its target."""

    model: "LanguageModel"
    config: DraftConfig

    @classmethod
    def of(cls, model: Completer, config: DraftConfig) -> "Drafting":
        """Raises ConfigError for a model without local weights, VocabularyError where the two cut text into
        other tokens: before the target's weights are loaded."""
        from codestill.models.student import LanguageModel
        from codestill.models.tokenizers import id_count

        if not isinstance(model, LanguageModel):
            raise ConfigError(
                f"{model.name} answers with text alone, and evaluate.draft_for wants its probabilities.",
                next_step="Evaluate local weights, or leave evaluate.draft_for out.",
            )
        tokenizer = config.tokenizer()
        try:
            require_same_vocabulary(model.tokenizer, tokenizer, model.vocabulary_size, id_count(tokenizer))
        except VocabularyError as error:
            raise VocabularyError(
                f"{model.name} cannot draft for {config.model}: {error.message}",
                next_step="Name a larger model of the same family as evaluate.draft_for, or leave it out: "
                "speculative decoding compares probabilities token by token.",
            ) from error
        return cls(model, config)

    def measure(self, stage: str, task_set: TaskSet, run: Run, timed: bool) -> Draft:
        """Let the target answer the tasks, and compare the two on its texts; then run speculative decoding.

        Each text is a record of the run's. ``timed``: measure times, too. Raises TaskError where no prompt
        leaves room for an answer.
        """
        target = self.config.build(self.model.placement)
        return _Measured(self, target, stage, task_set, run, prompts_for(target)).draft(timed)


@dataclass(frozen=True)
class _Measured:
    """Both models, and the tasks that they are measured on."""

    drafting: Drafting
    target: "LocalTeacher"
    stage: str
    task_set: TaskSet
    run: Run
    prompts: Prompts

    @property
    def config(self) -> DraftConfig:
        return self.drafting.config

    def draft(self, timed: bool) -> Draft:
        from codestill.evaluation.speculative import independent_tokens

        asked = requests(self.task_set, self.config.texts_per_task, self.prompts)
        found = self.run.stage(self.stage, DraftText, asked, self._texts)
        texts = [text for text in found if text.given]
        if not texts:
            raise TaskError(
                f"no prompt in {self.task_set.name} leaves {self.drafting.model.name} room to draft.",
                next_step="Evaluate on other tasks, or leave evaluate.draft_for out.",
            )
        if len(texts) < len(found):
            unread = ", ".join(text.task_id for text in found if not text.given)
            self.run.message("evaluate", f"without room to draft, not measured: {unread}")
        by_task = _by_task(texts)
        sums = [sum(sum(text.accepted) for text in of_task) for of_task in by_task.values()]
        sizes = [sum(len(text.given) for text in of_task) for of_task in by_task.values()]
        acceptance = share(sums, sizes)
        lengths = tuple(
            DraftLength(
                length=length,
                independent=independent_tokens(acceptance.mean, length),
                expected=ratio(*_expected(by_task, length)),
            )
            for length in range(1, LONGEST + 1)
        )
        return Draft(
            target=self.target.name,
            dtype=self.target.dtype,
            temperature=self.config.temperature,
            texts=len(texts),
            tokens=sum(sizes),
            acceptance=acceptance,
            acceptance_per_task={
                task_id: part / size for task_id, part, size in zip(by_task, sums, sizes, strict=True)
            },
            lengths=lengths,
            run=self._as_run(by_task) if self.config.run_tasks else None,
            times=self._times(by_task) if timed else None,
            prompts=self.prompts.version,
            chat=self.target.form,
        )

    def _texts(self, owed: Sequence[Request]) -> Iterator[DraftText]:
        """The target's answers, each measured as it ends and by itself, so that rounding does not depend on
        the others."""
        from codestill.evaluation.speculative import acceptances

        asked, target, draft = {request.key: request for request in owed}, *self._readers()
        decoding = Decoding(
            self.config.sampling,
            self.prompts.ended(self.task_set.stop, self.task_set.gaps),
            self.run.seed,
            watcher=self.run.watch(self.stage),
            ids=True,
        )
        for answer in self.target.complete(owed, decoding):
            prompt = self.target.codec.request(asked[answer.key])
            ids = answer.ids[: max(0, self._positions - len(prompt))]
            accepted, given = (
                acceptances(target, draft, prompt, ids, self.config.temperature) if ids else ((), ())
            )
            yield DraftText(
                task_id=answer.task_id,
                sample=answer.sample,
                accepted=_rounded(accepted),
                given=_rounded(given),
            )

    def _as_run(self, by_task: dict[str, list[DraftText]]) -> DraftRun:
        """Speculative decoding on tasks at even distances, beside what is expected of these."""
        chosen = _spread([*by_task], self.config.run_tasks)
        asked = [r for r in requests(self.task_set, 1, self.prompts) if r.task_id in chosen]
        wrote = self.run.stage(f"{self.stage}-run", SpeculatedText, asked, self._speculated)
        ran = [text.tokens for text in wrote], [text.passes for text in wrote]
        expected = _expected({task_id: by_task[task_id] for task_id in chosen}, self.config.run_length)
        return DraftRun(
            length=self.config.run_length,
            tasks=len(chosen),
            passes=sum(ran[1]),
            tokens=ratio(*ran),
            expected=ratio(*expected),
            difference=ratio_difference(ran, expected),
        )

    def _speculated(self, owed: Sequence[Request]) -> Iterator[SpeculatedText]:
        from codestill.models.rows import text_of

        readers = self._readers()
        for row in self._rows(owed, self.config.max_new_tokens):
            passes = self._speculate(row, readers, self.config.run_length)
            yield SpeculatedText(
                task_id=row.request.task_id,
                sample=row.request.sample,
                text=text_of(self.target.codec, row, self.target.stop_ids),
                tokens=len(row.tokens),
                passes=passes,
            )

    def _speculate(self, row: "Row", readers: tuple["ModelReader", "ModelReader"], length: int) -> int:
        """Decode the row; the passes of the target."""
        import numpy as np

        from codestill.evaluation.speculative import speculate
        from codestill.models.rows import ending

        # Another stream than that of the measured texts, so that the two are independent.
        stream = np.random.default_rng(seed_for(self.run.seed, f"speculative {row.request.key}"))
        finish = partial(ending, self.target.codec, stop_ids=self.target.stop_ids)
        uniforms = iter(stream.random, None)
        return speculate(*readers, row, length, self.config.temperature, uniforms, finish).passes

    def _times(self, by_task: dict[str, list[DraftText]]) -> DraftTimes:
        """Passes of both, and speculative decoding beside the target alone, in turn in this process."""
        from codestill.evaluation.speculative import pass_milliseconds

        self.run.progress(LATENCY, 0, 1)
        found = pass_milliseconds(*self._readers(), self._positions, LONGEST)
        chosen = _spread([*by_task], TIMED_TASKS)
        asked = [r for r in requests(self.task_set, 1, self.prompts) if r.task_id in chosen]
        lengths = (0, self.config.run_length)
        seconds, tokens = dict.fromkeys(lengths, 0.0), dict.fromkeys(lengths, 0)
        for request, length in itertools.product(asked, lengths):
            readers = self._readers()
            (row,) = self._rows([request], min(TIMED_TOKENS, self.config.max_new_tokens))
            for reader in readers:  # prompts are read in either way, and not what is compared
                reader.after(row.prompt, 1)
            begun = time.perf_counter()
            self._speculate(row, readers, length)
            seconds[length] += time.perf_counter() - begun
            tokens[length] += len(row.tokens)
        self.run.progress(LATENCY, 1, 1)
        alone, drafted = (seconds[length] / tokens[length] for length in lengths)
        return found.model_copy(update={"run_length": self.config.run_length, "run_speedup": alone / drafted})

    def _rows(self, asked: Iterable[Request], most: int) -> list["Row"]:
        from codestill.models.rows import rows_of

        decoding = Decoding(
            SamplingConfig(temperature=self.config.temperature, max_new_tokens=most),
            stopped=self.prompts.ended(self.task_set.stop, self.task_set.gaps),
        )
        return rows_of(self.target.codec, asked, decoding, self._positions)[0]

    def _readers(self) -> tuple["ModelReader", "ModelReader"]:
        """Of the target and of the draft."""
        from codestill.evaluation.speculative import ModelReader
        from codestill.models.tokenizers import id_count

        ids = id_count(self.target.tokenizer)
        return ModelReader(self.target.model, ids), ModelReader(self.drafting.model.model, ids)

    @property
    def _positions(self) -> int:
        """Longest text that both read."""
        limits = (self.target.positions, self.drafting.model.positions)
        return min((limit for limit in limits if limit is not None), default=2**31)


def _rounded(values: Sequence[float]) -> tuple[float, ...]:
    """Six decimals, to which files are kept."""
    return tuple(round(value, 6) for value in values)


def _by_task(texts: Iterable[DraftText]) -> dict[str, list[DraftText]]:
    found: dict[str, list[DraftText]] = {}
    for text in texts:
        found.setdefault(text.task_id, []).append(text)
    return found


def _expected(by_task: dict[str, list[DraftText]], length: int) -> tuple[list[float], list[float]]:
    """Each task's tokens, and the passes that are expected to write them."""
    from codestill.evaluation.speculative import expected_passes

    return (
        [float(sum(len(text.given) for text in texts)) for texts in by_task.values()],
        [sum(expected_passes(text.given, length) for text in texts) for texts in by_task.values()],
    )


def _spread(names: Sequence[str], count: int) -> list[str]:
    """So many of the names, or all, at even distances."""
    count = min(count, len(names))
    return [names[place * len(names) // count] for place in range(count)]
