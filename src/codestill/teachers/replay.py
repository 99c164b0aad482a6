"""Answers that were paid for once: kept by content, found by every run."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from codestill.errors import TeacherError
from codestill.models.completer import Completer, Decoding
from codestill.serialize import fingerprint, to_json, write_atomic
from codestill.types import Completion, Request

Replay = Literal["record", "only"]
"""``record``: what is kept is not asked for, the rest is asked for and kept. ``only``: nothing is asked."""


class Identified(Completer, Protocol):
    """A teacher that can say what its answers depend on."""

    @property
    def identity(self) -> dict[str, Any]:
        """What an answer depends on besides request, sampling and seed."""
        ...


@dataclass
class Replayed:
    """A teacher whose answers are kept in ``directory``, a file each, named by what was asked.

    Task ids are no part of the name: the same words asked for another task are the same question. Safe with
    several processes at once: a file appears whole, and the second of two equal answers replaces the first.
    """

    teacher: Identified
    directory: Path
    mode: Replay = "record"

    @property
    def name(self) -> str:
        return self.teacher.name

    def complete(self, requests: Iterable[Request], decoding: Decoding) -> Iterator[Completion]:
        """Yield what is kept, then what the teacher answers to the rest, keeping it. A question that stands
        here twice is asked once: whether a kill came between the two must not change what they are told.

        Raises TeacherError, naming the request, where an answer is missing under ``only``.
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
                next_step="Record them with replay=record, or point at the directory that has them.",
            )
        if not missing:
            return
        same: dict[Path, list[Request]] = {}
        for request in missing:
            same.setdefault(self._path(request, decoding), []).append(request)
        paths = {alike[0].key: path for path, alike in same.items()}
        once = [alike[0] for alike in same.values()]
        for answer in self.teacher.complete(once, decoding):
            path = paths[answer.key]
            record = answer.model_dump(mode="json", exclude={"task_id", "sample"})
            write_atomic(path, to_json(record) + "\n")
            for request in same[path]:
                yield answer.model_copy(update={"task_id": request.task_id, "sample": request.sample})

    def _read(self, request: Request, decoding: Decoding) -> Completion | None:
        try:
            text = self._path(request, decoding).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        return Completion.model_validate(
            json.loads(text) | {"task_id": request.task_id, "sample": request.sample}
        )

    def _path(self, request: Request, decoding: Decoding) -> Path:
        name = fingerprint(
            {
                "teacher": self.teacher.identity,
                "prompt": request.prompt,
                "sampling": decoding.sampling.model_dump(mode="json"),
                "sample": request.sample,
                "seed": decoding.seed,
            }
        )
        return self.directory / name[:2] / f"{name}.json"
