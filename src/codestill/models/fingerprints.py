"""Fingerprints that identify a model whatever its name."""

import hashlib

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from codestill.files.serialize import fingerprint

_SAMPLED = 4096


def weights_fingerprint(model: PreTrainedModel) -> str:
    """16 hex digits for the weights: every tensor's name, shape, dtype, and some thousand evenly spaced
    values, so that billions of parameters take a second."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        flat = tensor.detach().flatten()
        sample = flat[:: max(1, len(flat) // _SAMPLED)].contiguous().cpu()
        digest.update(sample.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """16 hex digits for the map from tokens to ids: equal where ids mean the same tokens."""
    return fingerprint(tokenizer.get_vocab())
