"""Students: presets or any Hugging Face causal language model, batched sampling, and what they cost."""

from codestill.models.config import Device, Dtype, SamplingConfig, StudentConfig
from codestill.models.presets import PRESETS, PresetRow, preset_table

__all__ = ["PRESETS", "Device", "Dtype", "PresetRow", "SamplingConfig", "StudentConfig", "preset_table"]
