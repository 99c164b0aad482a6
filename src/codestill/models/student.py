"""A model with its tokenizer: complete requests, save, load, profile."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Self

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from codestill.files.whole import written_whole
from codestill.models.batch import position_limit
from codestill.models.chat import codec_of, form_of
from codestill.models.choices import choose
from codestill.models.codec import TextCodec
from codestill.models.completer import Decoding
from codestill.models.gguf.store import quantization_of
from codestill.models.load import DTYPES, load_weights, resolve
from codestill.models.sample import complete
from codestill.models.saved import SavedForm, read_saved_form
from codestill.models.settings import AdapterConfig, ChatConfig, Device, Dtype, Placement, Quantization
from codestill.models.tokenizers import load_tokenizer, require_rows, warn_if_reload_differs
from codestill.types import ChatForm, Completion, ModelProfile, Request


@dataclass
class LanguageModel:
    """A causal language model and its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    trust_remote_code: bool = False
    revision: str | None = None
    placement: Placement = field(default_factory=Placement)
    chat: ChatConfig | None = None
    """How prompts are put into the tokenizer's chat template; None where the model continues them."""
    saved_form: ChatConfig | None = None
    """How the model was asked when it was saved, which ``chat: auto`` follows; None for others' models."""
    fills_gaps: bool | None = None
    """Whether it was trained to fill in the middle (``train.fim``); None where nobody has said, as of others'
    models."""
    quantization: str | None = None
    """How the weights were quantised in the GGUF file that they came from, e.g. ``Q4_K_M``."""

    def __post_init__(self) -> None:
        require_rows(self.tokenizer, self.vocabulary_size, self.name)

    @property
    def vocabulary_size(self) -> int:
        """Width of the logits; padding may make it exceed the number of the tokenizer's ids."""
        return self.model.get_output_embeddings().weight.shape[0]  # pyright: ignore

    @property
    def pad_id(self) -> int:
        """The id that pads a batch; never a target."""
        return int(self.tokenizer.pad_token_id)  # pyright: ignore[reportArgumentType]

    @property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end a completion: the tokenizer's eos, those of the generation config, and every other
        special token, after which no answer goes on."""
        return self._eos_ids | {self.codec.end} | self.codec.controls.keys()

    @property
    def _eos_ids(self) -> frozenset[int]:
        """Ends of sequence by the tokenizer and the generation config."""
        more = getattr(self.model.generation_config, "eos_token_id", None)
        more = [] if more is None else [more] if isinstance(more, int) else more
        own = self.tokenizer.eos_token_id
        return frozenset([*more, *([] if own is None else [own])])  # pyright: ignore[reportReturnType]

    @property
    def positions(self) -> int | None:
        """Longest sequence that the model reads, prompt included; None without a limit."""
        return position_limit(self.model.config)

    @cached_property
    def codec(self) -> TextCodec:
        """Encodes what the model reads, in training as when it is asked, and decodes what it answers."""
        return codec_of(self.tokenizer, self.chat)

    @property
    def form(self) -> ChatForm | None:
        """The chat template around prompts; None where the model continues them."""
        return self.codec.form

    def asked_as(self, config: ChatConfig, setting: str) -> Self:
        """The same model, asked as the settings say; ``setting`` names them in errors.

        Raises ModelError where they want a chat template and there is none that serves.
        """
        if config.undecided and self.saved_form is not None:
            config = self.saved_form
        return replace(self, chat=form_of(config, self.tokenizer, self._eos_ids, self.name, setting))

    @property
    def unfit_for_gaps(self) -> str:
        """Why it should fill no gaps, as editors ask for nothing else; empty where nothing speaks against
        it."""
        if self.codec.fim is None:
            return "its tokenizer has no tokens for fill-in-the-middle"
        return "it was not trained to fill in the middle (train.fim)" if self.fills_gaps is False else ""

    def require_fim(self) -> None:
        """Raise ModelError where the tokenizer cannot frame a gap."""
        self.codec.gap("", "")

    @property
    def dtype(self) -> Dtype:
        return next(name for name, dtype in DTYPES.items() if dtype == self.model.dtype)

    def complete(self, requests: Iterable[Request], decoding: Decoding) -> Iterator[Completion]:
        """Yield one Completion per request as each ends; see :func:`codestill.models.sample.complete`, and
        with ``decoding.choices`` :func:`codestill.models.choices.choose`."""
        if decoding.choices:
            plain = self.chat and self.chat.model_copy(update={"answer_prefix": ""})  # the word comes first
            return choose(self.model, codec_of(self.tokenizer, plain), requests, decoding.choices)
        return complete(
            self.model,
            self.tokenizer,
            requests,
            decoding,
            stop_ids=self.stop_ids,
            batch_size=self.placement.decode_batch,
            codec=self.codec,
            prefill_tokens=self.placement.prefill_tokens,
        )

    def save(self, directory: str | Path) -> Path:
        """Write weights (safetensors), config, generation config and tokenizer: all of it or nothing.

        The directory loads with ``AutoModelForCausalLM`` and ``AutoTokenizer``, without codestill, and ends
        its turns there too. How the model is asked is in ``codestill.json``.
        """
        directory = Path(directory)
        if self.chat is not None and self.model.generation_config is not None:
            self.model.generation_config.eos_token_id = sorted(self._eos_ids | {self.codec.end})
        with written_whole(directory) as temporary:
            self.model.save_pretrained(temporary)
            form = self.chat or ChatConfig(chat=False)
            SavedForm(**form.alone.model_dump(), fills_gaps=self.fills_gaps).write(temporary)
            self.tokenizer.save_pretrained(str(temporary))
        warn_if_reload_differs(str(directory), self.tokenizer)
        return directory

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        tokenizer: str | None = None,
        revision: str | None = None,
        dtype: Dtype = "float32",
        trust_remote_code: bool = False,
        device: Device = "auto",
    ) -> Self:
        """Load from a directory, GGUF file, hub id or bundled name (``pocket``). Raises ModelError."""
        place = resolve(str(source))
        model = load_weights(
            place, revision=revision, trust_remote_code=trust_remote_code, dtype=dtype, device=device
        )
        ids = (
            load_tokenizer(resolve(tokenizer, weights=False), trust_remote_code=trust_remote_code)
            if tokenizer
            else load_tokenizer(place, revision=revision, trust_remote_code=trust_remote_code)
        )
        said = read_saved_form(Path(place))
        return cls(
            model,
            ids,
            name_of(str(source)),
            trust_remote_code,
            revision,
            quantization=quantization_of(place),
            saved_form=said and said.alone,
            fills_gaps=said.fills_gaps if said else None,
        )

    def profile(
        self, prompt_tokens: int = 64, new_tokens: int = 64, repeats: int = 20, threads: int | None = None
    ) -> ModelProfile:
        """Latency, memory and size, measured in a fresh process; see :mod:`codestill.models.profile`."""
        from codestill.models.profile import profile

        return profile(self.model, prompt_tokens, new_tokens, repeats, threads, self.trust_remote_code)


@dataclass
class Student(LanguageModel):
    """The model that is trained. Between trainings it is always a plain model: an adapter exists only while
    one runs."""

    adapter: AdapterConfig | None = None
    """What is trained beside the weights, instead of them; None: the weights themselves."""
    quantize: Quantization | None = None
    """How the weights are kept while an adapter is trained; None: as they are."""


def name_of(source: str) -> str:
    """The hub id itself, or the last part of a path."""
    if Path(source).expanduser().is_file():  # a link's own name: the hub's cache names files by their hash
        return Path(source).name
    return Path(source).resolve().name if Path(source).expanduser().exists() else source
