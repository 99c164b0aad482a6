"""A completer that answers by a function, for tests whose subject is what is done with answers."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from codestill.models import Completer, Decoding
from codestill.prompts import Prompts
from codestill.run import Run
from codestill.sandbox import Sandbox
from codestill.teaching import Teaching
from codestill.types import ChatForm, Completion, Request


class Scripted:
    """Says what ``answer`` gives for a request, up to the token limit where ``cut`` says so; remembers the
    prompts."""

    def __init__(
        self,
        answer: Callable[[Request], str],
        name: str = "scripted",
        cut: Callable[[Request], bool] = lambda request: False,
    ) -> None:
        self.answer, self.name, self.cut = answer, name, cut
        self.prompts: list[str] = []
        self.form: ChatForm | None = None

    def complete(self, requests: Iterable[Request], decoding: Decoding) -> Iterator[Completion]:
        for request in requests:
            self.prompts.append(request.prompt)
            yield Completion(
                task_id=request.task_id,
                sample=request.sample,
                text=self.answer(request),
                finish="length" if self.cut(request) else "stop",
            )


class _OneTeacher:
    """A session whose teacher answers every stage, without ledger or kept answers."""

    tokenizer = None

    def __init__(self, teacher: Completer) -> None:
        self.teacher = teacher

    def stage(self, name: str) -> Completer:
        return self.teacher


def teaching_by(teacher: Completer, prompts: Prompts, sandbox: Sandbox, run: Run) -> Teaching:
    """A teacher at work whose answers no session keeps."""
    session: Any = _OneTeacher(teacher)
    return Teaching(session, prompts, sandbox, run)
