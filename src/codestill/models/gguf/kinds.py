"""How a written file stores matrices."""

from typing import Literal, get_args

Kind = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""From the largest to the smallest. Finer kinds, such as Q4_K_M, are made of F16 by llama.cpp's
``llama-quantize``."""
