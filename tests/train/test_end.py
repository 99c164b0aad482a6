"""How a training begins and ends: what it says, what is in memory, and what an adapter is saved with."""

import gc
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.worlds import examples, open_run
from tests.train.test_adapters import CONFIG, SETTINGS, student
from torch._subclasses.fake_tensor import FakeTensor

from codestill.errors import TrainingError
from codestill.losses import CrossEntropy
from codestill.models.student import Student
from codestill.train import TrainConfig, fit


def test_an_adapter_names_the_revision_that_it_belongs_to(tmp_path: Path) -> None:
    for source, expected in (("org/name", ("org/name", "4f1c2e0")), (str(tmp_path), (None, None))):
        given = replace(student(adapter={"rank": 2}), revision="4f1c2e0")
        given.model.config.name_or_path = source  # as after loading from there
        with open_run(tmp_path / source.replace("/", "-")) as run:
            fit(given, examples(2), CrossEntropy(), TrainConfig(max_steps=1), run)
            config = json.loads((run.adapter_directory / "adapter_config.json").read_text())
        assert (config["base_model_name_or_path"], config["revision"]) == expected


@pytest.mark.parametrize("settings", [*SETTINGS.values(), {"dtype": "bfloat16"}], ids=str)
def test_one_model_is_in_memory_when_a_training_is_over(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At its end, while what was trained is merged or loaded, and when the saved student is read."""

    def storages() -> dict[int, int]:
        gc.collect()
        found = [x for x in gc.get_objects() if issubclass(type(x), torch.Tensor)]
        tensors = [x for x in found if not isinstance(x, FakeTensor)]  # another test's, without a storage
        return {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in tensors}

    others = storages()  # what earlier tests of this process have left
    given = student("pocket-base", **settings)
    whole = sum(p.nbytes for p in given.model.parameters())
    held: dict[str, float] = {}

    def measure(place: str) -> None:
        parts = {at: size for at, size in storages().items() if others.get(at) != size}
        held[place] = max(held.get(place, 0), sum(parts.values()) / whole)

    load, save = Student.load.__func__, Student.save  # type: ignore[attr-defined]

    def loading(kind: type[Student], source: Any, **how: Any) -> Student:
        measure("before it is read")
        return load(kind, source, **how)

    def saving(kept: Student, directory: Any) -> Path:
        measure("while it is saved")
        return save(kept, directory)

    monkeypatch.setattr(Student, "load", classmethod(loading))
    monkeypatch.setattr(Student, "save", saving)
    measure("at first")
    with open_run(tmp_path) as run:
        trained = fit(given, examples(12), CrossEntropy(), CONFIG, run)
    measure("in the end")
    assert trained.model.num_parameters() > given.model.num_parameters() == 0
    with open_run(tmp_path / "again") as run, pytest.raises(TrainingError, match="has freed its weights"):
        fit(given, examples(12), CrossEntropy(), CONFIG, run)
    assert held["at first"] - 1 < 0.2
    states = 0.6 if given.adapter else 2.2  # an optimiser's, and of an adapter its own
    assert held["while it is saved"] < 1.2 + states, held
    assert held["before it is read"] < 0.2, held
    assert held["in the end"] < 1.2, held


@pytest.mark.parametrize(
    ("settings", "precision", "said"),
    [
        ({}, "float32", "float32 products"),
        ({}, "bfloat16", "bfloat16 products"),
        ({"dtype": "bfloat16"}, "float32", "bfloat16 weights and products,"),
        ({"dtype": "bfloat16", "adapter": {}}, "float32", "products (the adapter's in float32),"),
        ({"dtype": "bfloat16", "adapter": {}}, "bfloat16", "bfloat16 weights and products,"),
        ({"quantize": "nf4", "adapter": {}}, "float32", "products (the adapter's in float32),"),
    ],
)
def test_the_precision_of_a_step_is_told_as_it_is(
    settings: dict[str, Any], precision: Any, said: str, tmp_path: Path
) -> None:
    told: list[str] = []
    config = CONFIG.model_copy(update={"precision": precision, "max_steps": 1})
    with open_run(tmp_path, lambda event: told.append(event.message)) as run:
        fit(student(**settings), examples(4), CrossEntropy(), config, run)
    (line,) = [text for text in told if "loss from" in text]
    assert said in line and ("16 " in said or "bfloat16" in line or "float32 products" in line)
    rounded = any("rounds away updates" in text for text in told)
    assert rounded is (settings == {"dtype": "bfloat16"})
