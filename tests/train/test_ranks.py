import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tests.support.tiny import CPU
from tests.support.worlds import examples, metrics, open_run, student

from codestill.losses import Distillation
from codestill.run import Run
from codestill.teachers import LocalTeacherConfig
from codestill.train import TrainConfig, fit


def train(directory: Path, accumulation: int) -> None:
    """Eleven batches per epoch: neither a multiple of the ranks nor of the batches of a step."""
    rank = int(os.environ.get("RANK", "0"))
    config = TrainConfig(
        max_steps=5,
        batch_tokens=90,
        accumulation=accumulation,
        learning_rate=1e-3,
        checkpoint_steps=2,
        precision="float32",
    )
    teacher = LocalTeacherConfig(model="pocket", dtype="float32").build(CPU)
    given, held_out = examples(11), examples(3, "validation")
    run = open_run(directory) if rank == 0 else Run(directory, {"seed": 0}, [])
    fit(student(), given, Distillation(alpha=0.5), config, run, teacher=teacher, validation=held_out)


@pytest.mark.slow
def test_two_ranks_train_as_one_process_does(tmp_path: Path) -> None:
    together, alone = tmp_path / "together", tmp_path / "alone"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    subprocess.run(
        [*command, __file__, str(together)],
        check=True,
        timeout=280,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    train(alone, accumulation=4)
    for stage, steps in (("train", 5), ("validation", 3)):
        ours, theirs = metrics(together, stage), metrics(alone, stage)
        assert len(ours) == len(theirs) == steps
        for mine, other in zip(ours, theirs, strict=True):
            assert mine.step == other.step
            for name in ("loss", "cross_entropy", "divergence"):
                assert mine.metrics[name] == pytest.approx(other.metrics[name], rel=1e-4), (stage, name)
    first, second = (load_file(place / "student" / "model.safetensors") for place in (together, alone))
    assert max(float((first[name] - second[name]).abs().max()) for name in first) < 1e-3


if __name__ == "__main__":
    train(Path(sys.argv[1]), accumulation=2)
