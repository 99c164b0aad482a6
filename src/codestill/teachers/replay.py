"""A content-addressed cache of a teacher's answers, shared between runs."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from pydantic import ValidationError

from codestill.errors import TeacherError
from codestill.files.serialize import fingerprint, first_problem, read_object, sealed
from codestill.models.completer import Completer, Decoding
from codestill.teachers.ledger import AnswerFile
from codestill.types import ChatForm, Completion, Request

ASK_AGAIN = "Delete the file, and run the same command again: this answer alone is requested once more."

Replay = Literal["record", "only"]
"""``record``: kept answers are reused, all others requested and kept. ``only``: no request is sent."""


DEFAULT_STOP = "definitions"
"""The rule whose answers are kept without its name: that of nearly all."""
AnswerFiles = Callable[[Completion], AnswerFile]
"""Gives an answer the file that keeps it."""


class Probe(NamedTuple):
    """A question that is asked once, before all others, to see whether a teacher gives what is wanted."""

    request: Request
    decoding: Decoding


class Identified(Completer, Protocol):
    """A teacher that knows what its answers depend on."""

    @property
    def identity(self) -> dict[str, Any]:
        """What an answer depends on besides request, sampling and seed."""
        ...


class Keeping(Identified, Protocol):
    """A teacher that keeps an answer when it arrives, together with its call in the ledger."""

    def complete(
        self, requests: Iterable[Request], decoding: Decoding, files: AnswerFiles | None = None
    ) -> Iterator[Completion]:
        """Yield one Completion per request; each has been written to its file, if ``files`` gives one."""
        ...

    @property
    def probe(self) -> Probe | None:
        """None where nothing needs to be found out."""
        ...

    def ask_probe(self, files: AnswerFiles) -> None:
        """Ask it, and keep the answer if the teacher gives what is wanted. Raises TeacherError if not."""
        ...


@dataclass
class Replayed:
    """A teacher whose answers are kept in ``directory``, one file each, named by the hash of the request.

    The hash leaves task ids out: the same prompt for another task is the same request. It leaves out the seed
    where nothing is sampled, so that runs of all seeds share greedy answers. Safe with concurrent processes:
    files are written atomically, and the second of two answers to a request replaces the first.
    """

    teacher: Keeping
    directory: Path
    mode: Replay = "record"

    @property
    def name(self) -> str:
        return self.teacher.name

    @property
    def form(self) -> ChatForm | None:
        return self.teacher.form

    def complete(self, requests: Iterable[Request], decoding: Decoding) -> Iterator[Completion]:
        """Yield kept answers, then the teacher's to the other requests, keeping them. Identical requests are
        sent once, so that they get the same answer whether or not the process is killed in between.

        Raises TeacherError, naming the first request, if an answer is missing with ``only``.
        """
        missing: list[Request] = []
        for request in requests:
            kept = self._read(request, decoding)
            if kept is None:
                missing.append(request)
            else:
                yield kept
        if missing and self.mode == "only":
            raise TeacherError(
                f"{len(missing)} answers are not in {self.directory}; first {missing[0].key}: "
                f"{missing[0].prompt[:80]!r}",
                next_step="Record them with replay=record, or use the directory that contains them.",
            )
        if not missing:
            return
        self._find_out()
        by_path: dict[Path, list[Request]] = {}
        for request in missing:
            by_path.setdefault(self._path(request, decoding), []).append(request)
        paths = {identical[0].key: path for path, identical in by_path.items()}
        unique = [identical[0] for identical in by_path.values()]

        for answer in self.teacher.complete(unique, decoding, lambda one: _file(paths[one.key], one)):
            path = paths[answer.key]
            for request in by_path[path]:
                yield _known(answer, request, path)

    def _find_out(self) -> None:
        """Ask the teacher's probe, unless its answer is kept already."""
        probe = self.teacher.probe
        if probe is not None and self._read(*probe) is None:
            path = self._path(*probe)
            self.teacher.ask_probe(lambda answer: _file(path, answer))

    def _read(self, request: Request, decoding: Decoding) -> Completion | None:
        # Earlier versions kept greedy answers under the seed, too.
        own = self._named(request, decoding, decoding.seed)
        path = own if own.exists() else self._path(request, decoding)
        if not path.exists():
            return None
        # Answers were paid for: those that were kept before there were checksums are used as they are.
        kept = read_object(path, ASK_AGAIN, TeacherError, unsealed=True)
        try:
            answer = Completion.model_validate(kept | {"task_id": request.task_id, "sample": request.sample})
            return _known(answer, request, path)
        except ValidationError as error:
            raise TeacherError(
                f"{path} is not a kept answer: {first_problem(error)}", next_step=ASK_AGAIN
            ) from error

    def _path(self, request: Request, decoding: Decoding) -> Path:
        return self._named(request, decoding, decoding.seed if self._samples(decoding) else 0)

    def _samples(self, decoding: Decoding) -> bool:
        """Whether another seed may give another answer: an endpoint that is sent no temperature samples at
        its own."""
        omitted = "temperature" in self.teacher.identity.get("omit", ())
        return omitted or decoding.sampling.temperature > 0

    def _named(self, request: Request, decoding: Decoding, seed: int) -> Path:
        name = fingerprint(
            {
                "teacher": self.teacher.identity,
                "prompt": request.prompt,
                "sampling": decoding.sampling.model_dump(mode="json"),
                "sample": request.sample,
                "seed": seed,
            }
            | ({} if request.suffix is None else {"suffix": request.suffix})
            | ({"choices": decoding.choices} if decoding.choices else {})
            | ({"stop": decoding.stop} if decoding.stop not in ("", DEFAULT_STOP) else {})
        )
        return self.directory / name[:2] / f"{name}.json"


def read_kept(directory: Path, name: str) -> Completion:
    """The answer that :attr:`Completion.kept` names, with what was listed; it has no task. Raises
    TeacherError where its file is missing or damaged."""
    path = directory / name[:2] / f"{name}.json"
    if not path.exists():
        raise TeacherError(
            f"{path} is missing: the log-probabilities of an answer were in it.",
            next_step="Restore it, or ask for the answers again in another run directory.",
        )
    kept = read_object(path, ASK_AGAIN, TeacherError, unsealed=True)
    try:
        return Completion.model_validate(kept | {"task_id": "", "sample": 0})
    except ValidationError as error:
        raise TeacherError(
            f"{path} is not a kept answer: {first_problem(error)}", next_step=ASK_AGAIN
        ) from error


def _file(path: Path, answer: Completion) -> AnswerFile:
    return AnswerFile(path, sealed(answer.model_dump(mode="json", exclude={"task_id", "sample"})))


def _known(answer: Completion, request: Request, path: Path) -> Completion:
    """The answer to this request; what was listed stays in its file, by whose name it can be read."""
    kept = path.stem if answer.listed else ""
    asked = {"task_id": request.task_id, "sample": request.sample}
    return answer.model_copy(update=asked | {"listed": None, "kept": kept})
