"""A model behind an OpenAI-compatible endpoint as a teacher: its settings, and its answers as they arrive."""

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from codestill.errors import ConfigError, TeacherError
from codestill.models.completer import Decoding
from codestill.models.settings import Placement, SamplingConfig
from codestill.openai_client import require_key
from codestill.teachers.api_settings import ApiSettings
from codestill.teachers.asking import Asking
from codestill.teachers.calling import LISTS_NONE, Unanswered
from codestill.teachers.ledger import AnswerFile, Ledger
from codestill.teachers.listing import Listing
from codestill.teachers.parameters import Parameters
from codestill.teachers.replay import AnswerFiles, Probe
from codestill.types import ChatForm, Completion, Request

PLAIN_TEMPERATURES = (0.0, 1.0)
"""Those at which log-probabilities are the same before sampling and after, as greedy decoding scales none."""
PROBE = Probe(
    Request(task_id="logprobs", prompt="def add(a, b):\n    return"),
    Decoding(SamplingConfig(max_new_tokens=8)),
)
_NAMED = 5


class ApiTeacherConfig(ApiSettings):
    """A model behind an HTTP endpoint. Its key is read from the environment and stored nowhere."""

    def build(self, placement: Placement | None = None) -> "ApiTeacher":
        """The teacher; no call is made yet. Raises ConfigError if the key is missing."""
        require_key(self.model, self.base_url, self.key_variable, "teacher")
        return ApiTeacher(self)


def _forget(stage: str, text: str) -> None:
    pass


@dataclass
class ApiTeacher:
    """A teacher that answers with text, and with log-probabilities where they are asked for. With a ledger,
    every call is recorded and the budget enforced."""

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
        changes = {
            "omit": sorted(config.omit),
            "extra_body": config.extra_body,
            "logprobs": config.logprobs,
        }
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
        yield from self._answers(self._asking(list(requests), decoding, files))

    @property
    def probe(self) -> Probe | None:
        """The question that shows whether the endpoint lists log-probabilities, where they are to be kept."""
        return None if self.config.logprobs is None else PROBE

    def ask_probe(self, files: Callable[[Completion], AnswerFile]) -> None:
        """Ask it: one short call, entered in the ledger. Its answer is kept if it lists what is wanted.

        Raises TeacherError, which names the endpoint and the next step, if it does not, or is refused.
        """
        request, decoding = PROBE
        fault = ""

        def file(answer: Completion) -> AnswerFile | None:
            nonlocal fault
            fault = self._lacks(answer)
            return None if fault else files(answer)

        for answer in self._answers(self._asking([request], decoding, file, probing=True)):
            if not answer.text and not answer.listed:
                fault = f"it answers nothing to a short question ({answer.finish})"
        if fault:
            raise TeacherError(
                f"{self.name} gives no log-probabilities that could teach: {fault}.", next_step=LISTS_NONE
            )

    def _lacks(self, answer: Completion) -> str:
        """What is wrong with the log-probabilities of an answer; nothing if they are as asked for."""
        wanted = self.config.logprobs or 0
        if answer.listed is None:
            return f"asked for {wanted} tokens per position, it answers with text alone"
        most = Listing.unpack(answer.listed).most
        if most < wanted:
            return f"asked for {wanted} tokens per position, it lists {most} at most"
        return ""

    def _asking(
        self,
        requests: list[Request],
        decoding: Decoding,
        files: Callable[[Completion], AnswerFile | None] | None,
        probing: bool = False,
    ) -> Asking:
        config, sampling = self.config, decoding.sampling
        chat = config.endpoint == "chat"
        parameters = Parameters(
            config.omit, config.rename, config.extra_body, decoding, self.refused, chat, config.logprobs
        )
        if parameters.lists and (sampling.temperature not in PLAIN_TEMPERATURES or sampling.top_p < 1):
            raise ConfigError(
                f"teacher.logprobs is set, and answers are sampled at temperature {sampling.temperature:g}, "
                f"top_p {sampling.top_p:g}: some servers give log-probabilities before these, some after.",
                next_step="Sample at temperature 0 or 1, with top_p 1, where both are the same.",
            )
        return Asking(config, parameters, decoding, requests, self.ledger, self.stage, files, probing=probing)

    def _answers(self, asking: Asking) -> Iterator[Completion]:
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
