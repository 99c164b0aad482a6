"""Which student a run trains. torch is imported only when the student is built."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Discriminator, NonNegativeInt, PositiveInt, Tag, model_validator

from codestill.errors import ModelError
from codestill.models.presets import POCKET_VOCABULARY, PRESET_NAMES, PRESETS, PresetName
from codestill.models.settings import (
    DEFAULT_TOKENIZER,
    AdapterConfig,
    ChatConfig,
    Commas,
    Device,
    Dtype,
    Placement,
    Quantization,
)
from codestill.types import Settings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from codestill.models.student import Student


def _how(value: Any) -> str:
    return "numbers" if isinstance(value, list | tuple) else "count"


Layers = Annotated[
    Annotated[PositiveInt, Tag("count")] | Annotated[tuple[NonNegativeInt, ...], Tag("numbers")],
    Discriminator(_how),  # so that an error is about what was meant
    Commas,
]


class StudentConfig(ChatConfig):
    """The model to be trained: a preset with fresh weights, or any causal language model.

    A plain string is a preset's name, or else a directory, GGUF file or hub id.
    """

    preset: PresetName | None = None
    """A shape that ships with codestill, with fresh weights; `codestill students` lists them."""
    model: str | None = None
    """A directory, GGUF file or hub id of a causal language model, instead of a preset; `pocket-base` is
    bundled."""
    from_scratch: bool = False
    """With `model`: use only its shape, and start from fresh weights."""
    layers: Layers | None = None
    """With `model`: keep only so many of its layers, at even distances, or only these, by number from 0 (as
    an option `0,3,6`). Widths, embeddings and head stay."""
    tokenizer: str | None = None
    """A directory, GGUF file or hub id. Default: the model's own; for a preset the teacher's if there is one,
    else bigcode/starcoder2-3b (for a pocket preset the pocket tokenizer)."""
    revision: str | None = None
    """Branch, tag or commit of `model` on the hub."""
    trust_remote_code: bool = False
    """Run Python code that comes with `model`. Read that code first."""
    dtype: Dtype = "float32"
    """Type of the weights in memory and in the saved student (with `quantize`, the default is bfloat16)."""
    adapter: AdapterConfig | None = None
    """Train low-rank adapters (LoRA) beside the weights of `model`, which stay as they are."""
    quantize: Quantization | None = None
    """With an adapter: keep the weights in 4 bits while it is trained (QLoRA)."""

    @classmethod
    def from_text(cls, text: str) -> dict[str, Any]:
        """The settings that a string stands for."""
        return {"preset" if text in PRESET_NAMES else "model": text}

    @model_validator(mode="before")
    @classmethod
    def _from_string(cls, value: Any) -> Any:
        if isinstance(value, str):
            return cls.from_text(value)
        if isinstance(value, dict) and value.get("quantize"):
            return {"dtype": "bfloat16"} | value
        return value

    @model_validator(mode="after")
    def _one_origin(self) -> "StudentConfig":
        if (self.preset is None) == (self.model is None):
            raise ValueError("give exactly one of `preset` and `model`")
        if self.layers is not None and self.model is None:
            raise ValueError("layers: only those of a `model` can be chosen; a preset has its own")
        if isinstance(self.layers, tuple) and [*self.layers] != sorted(set(self.layers)):
            raise ValueError("layers: numbers must ascend, each at most once")
        if self.layers == ():
            raise ValueError("layers: a student needs at least one")
        if self.adapter and (self.preset or self.from_scratch):
            raise ValueError("an adapter needs trained weights to adapt: give a `model`, not fresh weights")
        if self.quantize and not self.adapter:
            raise ValueError(f"{self.quantize} weights cannot be trained: set `adapter` beside `quantize`")
        return self

    @classmethod
    def shared_with(cls, settings: Settings, **changes: Any) -> Self:
        """From other settings that have some of the same names, those that they share; changed so."""
        names = cls.model_fields.keys() & type(settings).model_fields.keys()
        return cls.model_validate(settings.model_dump(include=set(names)) | changes)

    def build(
        self,
        tokenizer: "PreTrainedTokenizerBase | None" = None,
        placement: Placement | None = None,
        seed: int = 0,
    ) -> "Student":
        """Make or load the student; ``tokenizer`` (the teacher's) is for presets without one of their own.

        ``seed`` determines fresh weights.

        Raises ModelError when it cannot be loaded, has no chat template that is asked for, or cannot be
        trained as the settings say; VocabularyError when the tokenizer has more ids than the model's
        embedding has rows.
        """
        from codestill.models.load import pick_device
        from codestill.models.student import Student
        from codestill.models.trainable import require_trainable

        placement = placement or Placement()
        if self.model is None or self.from_scratch:
            student = _fresh(self, tokenizer, placement.device, seed)
        else:
            where: Any = pick_device(placement.device)
            student = Student.load(
                self.model,
                tokenizer=self.tokenizer,
                revision=self.revision,
                dtype=self.dtype,
                trust_remote_code=self.trust_remote_code,
                # A whole that is cut need not fit where its student does.
                device=placement.device if self.layers is None else "cpu",
            )
            if self.layers is not None:
                student = _cut(student, self.layers)
                student.model.to(where)
        student.placement, student.adapter, student.quantize = placement, self.adapter, self.quantize
        if self.model is None or self.from_scratch:
            student.fills_gaps = False
        require_trainable(student)  # before a teacher is asked for anything
        # With fresh weights, `auto` has nothing to follow: nothing was trained to end a turn.
        fresh = self.from_scratch or self.model is None
        return student if fresh and self.undecided else student.asked_as(self, "student.chat")


def _cut(student: "Student", layers: int | tuple[int, ...]) -> "Student":
    """A student of some of the model's layers."""
    from codestill.models.cut import chosen, cut_model, named

    kept = chosen(layers, student.model.config, student.name)
    model = cut_model(student.model, kept, student.name, student.trust_remote_code)
    return replace(student, model=model, name=named(student.name, kept))


def _fresh(
    config: StudentConfig, tokenizer: "PreTrainedTokenizerBase | None", device: Device, seed: int
) -> "Student":
    """A student with the shape of a preset or a model, and fresh weights."""
    from codestill.models.cut import chosen, cut_config, named
    from codestill.models.load import fresh_weights, load_config, resolve
    from codestill.models.student import Student, name_of
    from codestill.models.tokenizers import load_tokenizer, require_rows

    trust = config.trust_remote_code
    if config.model is not None:
        place = resolve(config.model)
        name = name_of(config.model)
        ids = (
            load_tokenizer(resolve(config.tokenizer, weights=False), trust_remote_code=trust)
            if config.tokenizer
            else load_tokenizer(place, revision=config.revision, trust_remote_code=trust)
        )
        shape = load_config(place, revision=config.revision, trust_remote_code=trust)
        if config.layers is not None:
            layers = chosen(config.layers, shape, name)
            shape, name = cut_config(shape, layers), named(name, layers)
        for key, value in _token_ids(ids).items():
            setattr(shape, key, value)
    elif config.preset is not None:
        preset, name = PRESETS[config.preset], config.preset
        default = "pocket" if preset.vocabulary == POCKET_VOCABULARY else DEFAULT_TOKENIZER
        if config.tokenizer or tokenizer is None:
            ids = load_tokenizer(resolve(config.tokenizer or default, weights=False), trust_remote_code=trust)
        else:
            ids = tokenizer
        require_rows(ids, preset.vocabulary, name)  # before the weights are allocated
        shape = preset.transformers_config(**_token_ids(ids))
    else:
        raise ModelError("A student needs a preset or a model.", next_step="Set one of them.")
    weights = fresh_weights(shape, seed=seed, trust_remote_code=trust, dtype=config.dtype, device=device)
    return Student(weights, ids, name, trust)


def _token_ids(tokenizer: "PreTrainedTokenizerBase") -> dict[str, int | None]:
    return {
        "bos_token_id": tokenizer.bos_token_id,  # pyright: ignore[reportReturnType]
        "eos_token_id": tokenizer.eos_token_id,  # pyright: ignore[reportReturnType]
        "pad_token_id": tokenizer.pad_token_id,  # pyright: ignore[reportReturnType]
    }


def load_student(source: str, *, device: Device = "auto", seed: int = 0) -> "Student":
    """A student by preset, directory, GGUF file, hub id or bundled name (``pocket-base``).

    ``seed`` decides fresh weights. Raises ModelError when it cannot be loaded.
    """
    return StudentConfig.model_validate(source).build(placement=Placement(device=device), seed=seed)
