"""Names of models, before anything is loaded."""

import pytest

from codestill.errors import ModelError
from codestill.models.load import resolve


@pytest.mark.parametrize(
    ("name", "meant"), [("poket", "pocket"), ("pocket_base", "pocket-base"), ("pocket-base-1.6", "1.6m")]
)
def test_a_misspelt_bundled_model_is_not_sought_on_the_hub(name: str, meant: str) -> None:
    with pytest.raises(ModelError) as raised:
        resolve(name)
    assert meant in raised.value.next_step


@pytest.mark.parametrize("name", ["gpt2", "org/pocket", "bigcode/starcoder2-3b"])
def test_what_may_be_on_the_hub_is_left_to_it(name: str) -> None:
    assert resolve(name) == name
