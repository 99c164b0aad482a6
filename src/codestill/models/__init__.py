"""Students: presets or any Hugging Face causal language model, batched sampling, and deployment cost."""

from codestill.models.completer import Asked, Completer, Decoding
from codestill.models.config import StudentConfig, load_student
from codestill.models.presets import PRESETS, SizeRow, model_table, preset_table
from codestill.models.settings import AdapterConfig, ChatConfig, Device, Dtype, Placement, SamplingConfig

__all__ = [
    "PRESETS",
    "AdapterConfig",
    "Asked",
    "ChatConfig",
    "Completer",
    "Decoding",
    "Device",
    "Dtype",
    "Placement",
    "SamplingConfig",
    "SizeRow",
    "StudentConfig",
    "load_student",
    "model_table",
    "preset_table",
]
