"""What a GGUF file states about its model, and every reason not to read it."""

import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from codestill.errors import ModelError

if TYPE_CHECKING:
    from gguf import GGUFReader, ReaderTensor

MAGIC = b"GGUF"
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$", re.IGNORECASE)
_ORIGINAL = "Give the model's Hugging Face folder or hub id instead."


@dataclass(frozen=True)
class Header:
    """The metadata and tensor list of one file, whose format, tensor types and length have been checked."""

    path: Path
    reader: "GGUFReader"

    @classmethod
    def read(cls, path: Path) -> "Header":
        """Raises ModelError for a file that is no GGUF, is cut short or damaged, holds part of a model, or
        stores weights in a way that cannot be dequantised; also where the package gguf is missing."""
        _require_whole(path)
        try:
            from gguf import GGUFReader
        except ImportError as error:
            raise ModelError(
                f"{path} is a GGUF file, and the package that reads them is not installed.",
                next_step="Install it with: pip install 'codestill[gguf]'",
            ) from error
        try:
            reader = GGUFReader(path)
        except OSError:
            raise
        except Exception as error:  # the reader raises ValueError, IndexError, KeyError, ... for bad bytes
            raise ModelError(
                f"{path} cannot be read as GGUF; it is cut short, damaged, or newer than the package gguf: "
                f"{str(error) or type(error).__name__}",
                next_step="Compare its size and SHA-256 with the publisher's, and download it again if they "
                "differ; else update the package: pip install -U gguf",
            ) from error
        header = cls(path, reader)
        header._require_readable()
        return header

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a metadata key; arrays are lists."""
        field = self.reader.get_field(key)
        return default if field is None else field.contents()

    def want(self, key: str) -> Any:
        """The value of a metadata key. Raises ModelError where the file lacks it."""
        if (value := self.get(key)) is None:
            raise self._lacks(key)
        return value

    def count(self, key: str) -> int:
        """The number of entries of an array. Raises ModelError where the file lacks it."""
        if (field := self.reader.get_field(key)) is None:
            raise self._lacks(key)
        return len(field.data)

    def refused(self, reason: str, next_step: str = _ORIGINAL) -> ModelError:
        """An error that names the file."""
        return ModelError(f"{self.path.name} {reason}.", next_step=next_step)

    def _lacks(self, key: str) -> ModelError:
        return self.refused(f"lacks {key}", "Its converter was too old or went wrong: " + _ORIGINAL)

    @cached_property
    def architecture(self) -> str:
        return str(self.want("general.architecture"))

    @cached_property
    def tensors(self) -> "dict[str, ReaderTensor]":
        return {tensor.name: tensor for tensor in self.reader.tensors}

    @cached_property
    def tensor_types(self) -> dict[str, int]:
        """Type -> number of tensors that are stored so, the most weights first."""
        weights: Counter[str] = Counter()
        for tensor in self.reader.tensors:
            weights[tensor.tensor_type.name] += int(tensor.n_elements)
        counts = Counter(tensor.tensor_type.name for tensor in self.reader.tensors)
        return {name: counts[name] for name, _ in weights.most_common()}

    @cached_property
    def quantization(self) -> str:
        """The recipe that the file names, such as ``Q4_K_M``, if it has tensors of that type; else the type
        that most weights are stored in."""
        from gguf import LlamaFileType

        try:
            name = LlamaFileType(int(self.get("general.file_type", -1))).name
        except ValueError:
            name = ""
        stated = re.sub("^(ALL|MOSTLY)_", "", name)
        if any(stated == kind or stated.startswith(f"{kind}_") for kind in self.tensor_types):
            return stated
        return next(iter(self.tensor_types), "")

    def _require_readable(self) -> None:
        from gguf import GGML_QUANT_SIZES, dequantize

        if (kind := self.get("general.type", "model")) != "model":
            raise self.refused(f"holds no model but a {kind}")
        if int(self.get("split.count", 1)) > 1:
            raise _sharded(self.path, int(self.get("split.count")))
        for kind in {tensor.tensor_type for tensor in self.reader.tensors}:
            try:
                dequantize(np.zeros((1, GGML_QUANT_SIZES[kind][1]), np.uint8), kind)
            except NotImplementedError as error:
                raise self.refused(
                    f"stores weights as {kind.name}, which cannot be dequantised",
                    "Take another quantisation of the model, such as Q8_0 or Q4_K_M.",
                ) from error


def is_gguf(path: Path) -> bool:
    """Whether a file is one by its name or first bytes."""
    if path.suffix.lower() == ".gguf":
        return True
    try:
        with path.open("rb") as stream:
            return stream.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def _require_whole(path: Path) -> None:
    try:
        stream = path.open("rb")
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read: {error.strerror}.", next_step="Check the file's permissions."
        ) from error
    with stream:
        head = stream.read(len(MAGIC))
        pointer = head == b"vers" and stream.read(32).startswith(b"ion https://git-lfs")
    if pointer:
        raise ModelError(
            f"{path} is a Git LFS pointer; the model itself has not been downloaded.",
            next_step="Fetch it with: git lfs pull",
        )
    if head != MAGIC:
        raise ModelError(
            f"{path} is no GGUF file: it begins with {head!r} instead of {MAGIC!r}.",
            next_step="Check that the download is complete, or give the model's directory.",
        )
    if shard := _SHARD.search(path.name):
        raise _sharded(path, int(shard[2]))


def _sharded(path: Path, count: int) -> ModelError:
    whole = _SHARD.sub(".gguf", path.name)
    whole = whole if whole != path.name else f"whole-{path.name}"
    first = _SHARD.sub(r"-00001-of-\2.gguf", path.name)
    return ModelError(
        f"{path.name} is one of {count} parts of a model.",
        next_step=f"Join them with llama.cpp's tool, and give the result: "
        f"llama-gguf-split --merge {first} {whole}",
    )
