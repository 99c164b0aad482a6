"""A model behind an OpenAI-compatible endpoint as a teacher: its settings, and its answers as they arrive."""

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from codestill.errors import TeacherError
from codestill.models.completer import Decoding
from codestill.models.settings import Placement
from codestill.openai_client import require_key
from codestill.teachers.api_settings import ApiSettings
from codestill.teachers.asking import Asking
from codestill.teachers.calling import Unanswered
from codestill.teachers.ledger import Ledger
from codestill.teachers.parameters import Parameters
from codestill.teachers.replay import AnswerFiles
from codestill.types import ChatForm, Completion, Request

_NAMED = 5


class ApiTeacherConfig(ApiSettings):
    """A text-only model behind an HTTP endpoint. Its key is read from the environment and stored nowhere."""

    def build(self, placement: Placement | None = None) -> "ApiTeacher":
        """The teacher; no call is made yet. Raises ConfigError if the key is missing."""
        require_key(self.model, self.base_url, self.key_variable, "teacher")
        return ApiTeacher(self)


def _forget(stage: str, text: str) -> None:
    pass


@dataclass
class ApiTeacher:
    """A text-only teacher. With a ledger, every call is recorded and the budget enforced."""

    config: ApiTeacherConfig
    ledger: Ledger | None = None
    stage: str = ""
    tell: Callable[[str, str], None] = _forget
    """Called with ``stage`` and what a reader of the run should know about its answers."""
    refused: set[str] = field(default_factory=set)
    """Names of parameters that the endpoint has refused; they are not sent again."""

    @property
    def name(self) -> str:
        return self.config.model

    @property
    def identity(self) -> dict[str, Any]:
        """What an answer depends on besides request, sampling and seed. What the endpoint refuses is no part
        of it: a run learns that again after each start."""
        config = self.config
        identity: dict[str, Any] = {
            "model": config.model,
            "endpoint": config.endpoint,
            "system": config.system_prompt,
        }
        changes = {"omit": sorted(config.omit), "extra_body": config.extra_body}
        return identity | {name: value for name, value in changes.items() if value}

    @property
    def form(self) -> ChatForm | None:
        """Of the chat endpoint, the template is the server's."""
        chats = self.config.endpoint == "chat"
        return ChatForm(template="server", system_prompt=self.config.system_prompt) if chats else None

    def complete(
        self, requests: Iterable[Request], decoding: Decoding, files: AnswerFiles | None = None
    ) -> Iterator[Completion]:
        """Yield one Completion per request as it arrives; ``text`` is not yet truncated at stop sequences.

        ``files``: where each answer is kept, before it is yielded. A request that gets no answer leaves the
        others alone; once all have been tried, TeacherError names it. When the budget is exhausted, the
        endpoint refuses this client, or many requests in a row get no answer, no further call starts; those
        in flight are awaited and yielded, and BudgetError or TeacherError is raised.
        """
        config = self.config
        chat = config.endpoint == "chat"
        parameters = Parameters(config.omit, config.rename, config.extra_body, decoding, self.refused, chat)
        asking = Asking(config, parameters, decoding, list(requests), self.ledger, self.stage, files)
        worker = threading.Thread(target=asking.run)  # a process that ends awaits the calls in flight
        worker.start()
        failure: BaseException | None = None
        unanswered: list[Unanswered] = []
        without_text: list[Completion] = []
        try:
            while (item := asking.arrived.get()) is not None:
                if isinstance(item, Completion):
                    if not item.text and item.finish != "stop":
                        without_text.append(item)
                    yield item
                elif isinstance(item, str):
                    self.tell(self.stage, item)
                elif isinstance(item, Unanswered):
                    unanswered.append(item)
                else:
                    failure = failure or item
        finally:
            asking.halt.set()
            worker.join(self.config.timeout_seconds)
        self._tell_of_empty(without_text)
        if failure is not None:
            raise failure
        if unanswered:
            raise self._without_answer(unanswered, asking.gave_up)

    def _tell_of_empty(self, completions: list[Completion]) -> None:
        if completions:
            named = [f"{one.key} ({one.finish.replace('_', ' ')})" for one in completions[:_NAMED]]
            rest = len(completions) - len(named)
            self.tell(
                self.stage,
                f"{len(completions)} answers of {self.name} are empty: {', '.join(named)}"
                + (f" and {rest} more" if rest else ""),
            )

    def _without_answer(self, unanswered: list[Unanswered], gave_up: bool) -> TeacherError:
        first, *others = unanswered
        named = "".join(f"; {one.key}: {one.reason}" for one in others[: _NAMED - 1])
        rest = len(unanswered) - _NAMED
        more = f"; {len(unanswered)} requests have no answer{named}" if others else ""
        more += f"; and {rest} more" if rest > 0 else ""
        more += "; then no further one was tried" if gave_up else ""
        return TeacherError(
            f"{self.name} {first.what}{more}",
            next_step=first.next_step,
        )
