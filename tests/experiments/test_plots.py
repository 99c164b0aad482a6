"""The scripts beside published experiments read what a comparison writes."""

import subprocess
import sys
from pathlib import Path

from codestill.files.serialize import write_object
from codestill.types import Arm, Comparison, Interval

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


def comparison(*names: str) -> Comparison:
    scores = {1: Interval(mean=0.2, low=0.1, high=0.3)}
    arms = tuple(Arm(name=name, runs=("seed-0",), pass_at=scores) for name in names)
    return Comparison(title="a curve", tasks="pocket:test", task_count=2, arms=arms)


def test_the_curve_is_drawn_from_a_comparison(tmp_path: Path):
    arms = [f"{arm} {count}" for arm in ("stand", "inpd", "persd") for count in (75, 150)]
    result = comparison(*arms, "stand references")
    write_object(tmp_path / "comparison.json", result)
    picture = tmp_path / "curve.png"
    command = [sys.executable, EXPERIMENTS / "persd" / "plot.py", tmp_path, picture]
    subprocess.run(command, check=True)
    assert picture.read_bytes().startswith(b"\x89PNG")
