"""What a check found."""

from typing import NamedTuple


class Finding(NamedTuple):
    """One thing that was checked."""

    subject: str
    """The recipe, family or divergence."""
    what: str
    holds: bool
    detail: str
