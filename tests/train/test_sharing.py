"""An equal training is done once, and its student given to every run that asks."""

from pathlib import Path

import pytest
from tests.worlds import examples, open_run, student, weights

from codestill.losses import CrossEntropy
from codestill.train import TrainConfig, fit
from codestill.train.loop import DistillationTrainer


def test_an_equal_training_is_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[str] = []
    train = DistillationTrainer.train

    def counted(self: DistillationTrainer, *args: object, **kwargs: object) -> object:
        trained.append(str(self.run.directory.name))
        return train(self, *args, **kwargs)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(DistillationTrainer, "train", counted)
    alone = TrainConfig(max_steps=2, batch_tokens=300, accumulation=1, precision="float32")
    shared = alone.model_copy(update={"shared": tmp_path / "shared"})

    def made(name: str, config: TrainConfig, count: int = 4) -> bytes:
        with open_run(tmp_path / name) as run:
            fit(student(), examples(count), CrossEntropy(), config, run)
        return weights(tmp_path / name)

    first = made("first", shared)
    assert made("second", shared) == first == made("alone", alone)
    assert trained == ["first", "alone"]
    assert made("first", shared) == first  # a finished run is read, as ever
    assert made("fewer", shared, count=3) != first
    assert made("longer", shared.model_copy(update={"max_steps": 3})) != first
    assert trained == ["first", "alone", "fewer", "longer"]
    assert len(list((tmp_path / "shared").iterdir())) == 3
