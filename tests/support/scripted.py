"""A completer that answers by a function, for tests whose subject is what is done with answers."""

from collections.abc import Callable, Iterable, Iterator

from codestill.models import SamplingConfig
from codestill.types import Completion, Request


class Scripted:
    """Says what ``answer`` gives for a request; remembers the prompts."""

    def __init__(self, answer: Callable[[Request], str], name: str = "scripted") -> None:
        self.answer, self.name = answer, name
        self.prompts: list[str] = []

    def complete(
        self,
        requests: Iterable[Request],
        sampling: SamplingConfig,
        stopped: Callable[[str], bool] | None = None,
        seed: int = 0,
    ) -> Iterator[Completion]:
        for one in requests:
            self.prompts.append(one.prompt)
            yield Completion(task_id=one.task_id, sample=one.sample, text=self.answer(one))
