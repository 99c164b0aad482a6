"""The body of a request: sampling parameters under the names that the endpoint takes."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Literal

from codestill.files.serialize import seed_for
from codestill.models.completer import Decoding

Parameter = Literal["seed", "top_p", "temperature", "max_tokens"]
PARAMETERS: tuple[Parameter, ...] = ("seed", "top_p", "temperature", "max_tokens")
"""In the order in which they are given up where a refusal names several."""
RESERVED = ("model", "messages", "prompt", "suffix", "stream", "n")
"""Fields of a request that no setting changes."""
LISTED = 20
"""Alternatives to the first token that are asked for where there are words to choose from: the most that
OpenAI's API lists."""
_NEW_NAMES = {"max_tokens": "max_completion_tokens"}


@dataclass
class Parameters:
    """What is sent besides the prompt. ``refused`` are names that the endpoint does not take."""

    omit: Sequence[Parameter]
    rename: Mapping[str, str]
    extra_body: Mapping[str, Any]
    decoding: Decoding
    refused: set[str]
    """Remembered for the run."""
    chat: bool = True
    """Whether the endpoint's form is ``chat``, not ``completions``."""
    logprobs: int | None = None
    """Tokens to list at every position of an answer; None for no such list."""

    def names(self, refused: AbstractSet[str]) -> dict[Parameter, str]:
        """Parameter -> its name on the wire, for those that are sent."""
        found: dict[Parameter, str] = {}
        for parameter in PARAMETERS:
            name = self.rename.get(parameter, parameter)
            if name in refused:
                name = _NEW_NAMES.get(name, "")
            if parameter not in self.omit and name and name not in refused and name not in self.extra_body:
                found[parameter] = name
        return found

    def body(self, key: str, refused: AbstractSet[str]) -> dict[str, Any]:
        """The fields of one request's body besides model and prompt."""
        sampling = self.decoding.sampling
        values: dict[Parameter, Any] = {
            "seed": seed_for(self.decoding.seed, key) % 2**31,
            "top_p": sampling.top_p,
            "temperature": sampling.temperature,
            "max_tokens": sampling.max_new_tokens,
        }
        named = {name: values[parameter] for parameter, name in self.names(refused).items()}
        return {"stream": False, **named, **self._listing(refused), **self.extra_body}

    def _listing(self, refused: AbstractSet[str]) -> dict[str, Any]:
        """What asks for probabilities of tokens. Those of the first, from which a choice is read, are given
        up once the endpoint has refused them."""
        count = LISTED if self.decoding.choices else self.logprobs
        asked = {"logprobs": True, "top_logprobs": count} if self.chat else {"logprobs": count}
        return asked if count is not None and (self.lists or not asked.keys() & refused) else {}

    @property
    def lists(self) -> bool:
        """Whether answers must come with their tokens' log-probabilities."""
        return self.logprobs is not None and not self.decoding.choices

    def sent(self, refused: AbstractSet[str]) -> list[str]:
        """Names on the wire that a refusal may be about."""
        return [*self.names(refused).values(), *self._listing(refused)]

    def can_do_without(self, name: str, refused: AbstractSet[str]) -> bool:
        """Whether a request may be sent without a name that is refused. A limit of tokens must go by some
        name, as budgets rest on it; log-probabilities that are to be kept must come, at a known temperature.
        """
        if self.lists and name in (*self._listing(refused), "temperature", "top_p"):
            return False
        return "max_tokens" not in self.names(refused) or "max_tokens" in self.names({*refused, name})

    def without(self, refused: AbstractSet[str]) -> tuple[Parameter, ...]:
        """Parameters that are not sent because the endpoint refused them."""
        return tuple(name for name in self.names(set()) if name not in self.names(refused))

    def learn(self, refused: AbstractSet[str]) -> str | None:
        """Remember what a call that was answered did without; what to tell, if it is new."""
        new = refused - self.refused
        if not new:
            return None
        self.refused |= new
        names = self.names(self.refused)
        renamed = [f"{name} is sent as {_NEW_NAMES[name]}" for name in sorted(new) if name in _NEW_NAMES]
        dropped = [
            f"{name} is not sent" for name in sorted(new) if name not in (*_NEW_NAMES, *names.values())
        ]
        return f"the endpoint refuses {', '.join(sorted(new))}: from now on {', '.join(renamed + dropped)}"
