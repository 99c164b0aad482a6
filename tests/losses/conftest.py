"""Shapes and dtypes of every public function of losses/ are enforced while these tests run."""

from collections.abc import Iterator
from types import FunctionType

import pytest
from beartype import beartype
from jaxtyping import jaxtyped

from codestill.losses import batch, compute, contrast, divergences, linear


@pytest.fixture(scope="module", autouse=True)
def shapes_are_checked() -> Iterator[None]:
    """Replace each public function by its checked self, whatever imported the modules before."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (batch, compute, contrast, divergences, linear):
            for attribute, value in list(vars(module).items()):
                own = isinstance(value, FunctionType) and value.__module__ == module.__name__
                if own and not attribute.startswith("_"):
                    patch.setattr(module, attribute, jaxtyped(typechecker=beartype)(value))
        yield
