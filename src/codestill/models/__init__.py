"""Students: presets or any Hugging Face causal language model, batched sampling, and deployment cost."""

from codestill.models.config import StudentConfig
from codestill.models.presets import PRESETS, PresetRow, preset_table
from codestill.models.settings import Device, Dtype, SamplingConfig

__all__ = ["PRESETS", "Device", "Dtype", "PresetRow", "SamplingConfig", "StudentConfig", "preset_table"]
