"""How verdicts were reached stands in the result, and the report says what an in-process one is worth."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from codestill.cli import main
from codestill.evaluation import read_evaluation
from codestill.report import write_report
from codestill.report.claims import warnings
from codestill.report.collect import read_report

CHEAT = """\
    class Right:
        def __eq__(self, other):
            return True

    return Right()
"""
CLAIM = "where a program made to cheat can fake a pass"
TASK = {
    "task_id": "same",
    "prompt": "def same(x):\n",
    "entry_point": "same",
    "reference": "    return x\n",
    "tests": ["assert same(1) == 1", "assert same('b') == 'b'"],
}


@pytest.mark.parametrize(("verdict", "passed"), [("split", 0), ("in-process", 1)])
def test_a_result_says_how_it_was_reached(
    verdict: str, passed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tasks.jsonl").write_text(json.dumps(TASK) + "\n")
    Path("samples.jsonl").write_text(json.dumps({"task_id": "same", "completion": CHEAT}) + "\n")
    options = ["--tasks", "tasks.jsonl", "--run-dir", "run", "--sandbox.verdict", verdict]
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", "--samples", "samples.jsonl", *options])
    assert not ended.value.code
    found = read_evaluation(Path("run/results/student.json"))
    assert found.sandbox.startswith(f"{verdict} verdict, tier ")
    assert found.per_task == {"same": (1, passed)}  # what the claim is about, shown
    assert [CLAIM in line for line in warnings(read_report([Path("run")]).sections[0])] == [True] * passed
    write_report([Path("run")])
    for page in ("report.html", "report.md"):
        text = Path("run", page).read_text("utf-8")
        assert f"{verdict} verdict, tier " in text
        assert (CLAIM in text) is bool(passed)


def test_each_arm_is_named(make: SimpleNamespace, tmp_path: Path) -> None:
    make.run(tmp_path / "a", sandbox="split verdict, tier A: seccomp")
    make.run(tmp_path / "b", sandbox="in-process verdict, tier A: seccomp")
    (section,) = read_report([tmp_path / "a", tmp_path / "b"]).sections
    found = warnings(section)
    assert [line.split(":")[0] for line in found if CLAIM in line] == [section.arms[1].name]
    assert any("they differ in sandbox" in line for line in found)
