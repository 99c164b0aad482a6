"""An artefact as the program runs it that will run it: asked, scored and timed as the student is."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from codestill.export.targets import Target
from codestill.models import Decoding
from codestill.models.timing import in_fresh_process
from codestill.types import ChatForm, Completion, ModelProfile, Request

if TYPE_CHECKING:
    from codestill.models.alone import Reader
    from codestill.models.student import Student

LONGEST = 4096
"""Tokens of a text at most, prompt included: programs take memory for as many when they start."""
_PROMPT, _NEW, _REPEATS = 64, 64, 20
"""As a student's own cost is measured."""


@dataclass
class Deployed:
    """An artefact in its own program, which continues prompts as its student would."""

    target: Target
    place: Path
    student: "Student"
    threads: int

    @property
    def name(self) -> str:
        return self.place.name

    @property
    def form(self) -> ChatForm | None:
        """See :class:`codestill.models.completer.Asked`."""
        return self.student.form

    @property
    def positions(self) -> int:
        """Longest text that it reads."""
        return min(self.student.positions or LONGEST, LONGEST)

    @cached_property
    def reader(self) -> "Reader":
        """The program with the artefact."""
        return self.target.form.open(self.place, self.threads, self.positions)

    def logits(self, ids: Sequence[int], keep: int) -> NDArray[Any]:
        """Logits [keep, V] after each of the last tokens of a text."""
        self.reader.begin()
        return self.reader.read(ids, keep)

    def complete(self, requests: Iterable[Request], decoding: Decoding) -> Iterator[Completion]:
        """See :class:`codestill.models.completer.Completer`."""
        from codestill.models.alone import complete_alone
        from codestill.models.tokenizers import id_count

        return complete_alone(
            self.reader,
            self.student.codec,
            requests,
            decoding,
            ids=id_count(self.student.tokenizer),
            stop_ids=self.student.stop_ids,
            limit=self.positions,
        )

    def require_running(self) -> None:
        """Read and answer a little in a process of its own: a program that was built for another processor
        ends the process that it runs in. Raises Failure where it does."""
        self._measured(_PROMPT, 1, 1)

    def profile(self) -> ModelProfile:
        """Latency, memory and size, measured in a fresh process as a student's are."""
        return self._measured(_PROMPT, _NEW, _REPEATS)

    def _measured(self, prompt_tokens: int, new_tokens: int, repeats: int) -> ModelProfile:
        from codestill.models.profile import lengths

        prompt, new = lengths(self.positions, prompt_tokens, new_tokens)
        job = {
            "form": self.target.form.name,
            "kind": self.target.kind,
            "place": str(self.place),
            "prompt_tokens": prompt,
            "new_tokens": new,
            "repeats": repeats,
            "threads": self.threads,
            "parameters": self.student.model.num_parameters(),
            "megabytes": size_of(self.place) / 1e6,
        }
        return in_fresh_process(
            "codestill.export.speed", job, f"{self.target} in {self.target.form.runs_with}"
        )


def size_of(place: Path) -> int:
    """Bytes of a file, or of all in a directory."""
    files = [place] if place.is_file() else [file for file in place.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)
