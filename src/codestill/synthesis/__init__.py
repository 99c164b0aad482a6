"""New tasks with tests, from seeds: a teacher proposes, solves and names inputs; execution gives the outputs.

``propose`` asks for tasks; ``synthesise`` has them solved and tested; ``calls`` reads calls and values.
"""

from codestill.synthesis.calls import UNKNOWN, closed, is_literal, read_calls, read_values
from codestill.synthesis.propose import (
    MADE,
    Admission,
    Proposals,
    SynthesisConfig,
    function_name,
    propose,
    rouge_l,
    untested,
    words,
)
from codestill.synthesis.synthesise import synthesise

__all__ = [
    "MADE",
    "UNKNOWN",
    "Admission",
    "Proposals",
    "SynthesisConfig",
    "closed",
    "function_name",
    "is_literal",
    "propose",
    "read_calls",
    "read_values",
    "rouge_l",
    "synthesise",
    "untested",
    "words",
]
