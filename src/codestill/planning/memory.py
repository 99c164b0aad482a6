"""How a student is trained in the memory that there is."""

from collections.abc import Mapping
from typing import Any

from codestill.errors import ConfigError

BYTES_PER_PARAMETER = 16
"""Of a student whose own weights are trained by AdamW: weights, gradient and two moments in float32."""
USABLE = 0.7
"""Share of the memory that weights and their states may take; the rest is for activations and logits."""


def adapted(
    student: Mapping[str, Any], parameters: int, memory: int
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """A student's settings for this much memory (bytes), and what was changed, as a sentence.

    Raises ConfigError where not even 4-bit weights fit.
    """
    usable = USABLE * memory
    size = f"{BYTES_PER_PARAMETER * parameters / 1e9:.1f} GB"
    whole = f"{parameters / 1e6:,.0f}M parameters, trained whole, take {size}"
    has = f"this machine has {memory / 1e9:.1f} GB"
    if BYTES_PER_PARAMETER * parameters <= usable:
        return dict(student), ()
    for bytes_each, kept, change in (
        (4, "float32", {}),
        (2, "bfloat16", {"dtype": "bfloat16"}),
        (0.6, "4 bits", {"quantize": "nf4"}),
    ):
        if bytes_each * parameters <= usable:
            said = f"an adapter is trained, on weights in {kept}: {whole}, and {has}"
            return {**student, "adapter": {}} | change, (said,)
    raise ConfigError(
        f"{whole}, {0.6 * parameters / 1e9:.1f} GB as an adapter on 4-bit weights, and {has}.",
        next_step="Choose a smaller student, or a larger machine.",
    )
