"""What the pages say about answers and logits is computed from the kept result; the quickstart is the same
experiment with fewer seeds."""

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
import yaml

from codestill.cli.commands import QUICKSTART
from codestill.files.serialize import write_object
from codestill.types import Arm, Comparison, Difference, Evaluation, Gates, Interval

ROOT = Path(__file__).parents[2]
EXPERIMENT = ROOT / "experiments" / "answers_and_logits"
SCRIPT = runpy.run_path(str(ROOT / "experiments" / "tables.py"))
PAGES = {
    "answers_and_logits": "recipes/logit_kd.md",
    "cut": "models.md",
    "fim": "fill-in-the-middle.md",
    "gaps": "fill-in-the-middle.md",
    "opd": "recipes/opd.md",
    "other_tokenizer": "other-tokenizers.md",
}
"""Experiments with a kept result, and the page that shows it."""
ANY = Interval(mean=0.5, low=0.4, high=0.6)


def result(**passed: dict[str, str]) -> dict[str, Any]:
    return {"samples_per_task": 2, "differences": [["ours", "theirs"]], "passed": passed}


def trained(path: Path) -> dict[str, Any]:
    """Recipe and config of each arm that is trained, without the tasks that only give a validation loss."""
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    for arm in config["arms"]:
        if "recipe" in arm:
            arm["config"]["examples"] = {**arm["config"]["examples"], "validation": None}
    return {arm["name"]: (arm["recipe"], arm["config"]) for arm in config["arms"] if "recipe" in arm}


@pytest.mark.parametrize(("experiment", "page"), PAGES.items())
def test_the_page_has_every_row_of_the_tables(experiment: str, page: str):
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    lines = SCRIPT["tables"](SCRIPT["kept"](experiment))
    assert len(lines) > 7
    for line in lines:
        assert line in text.splitlines()


@pytest.mark.parametrize("experiment", PAGES)
def test_the_kept_result_is_that_of_the_config(experiment: str):
    config = yaml.safe_load((ROOT / "experiments" / experiment / "config.yaml").read_text(encoding="utf-8"))
    kept = SCRIPT["kept"](experiment)
    assert list(kept["passed"]) == [arm["name"] for arm in config["arms"]]
    assert kept["differences"] == config["differences"]
    assert kept["samples_per_task"] == (config["evaluate"]["samples_per_task"] or 1)  # the greedy one
    as_they_stand = {arm["name"] for arm in config["arms"] if "model" in arm}
    for arm, seeds in kept["passed"].items():
        assert list(seeds) == (["0"] if arm in as_they_stand else [str(seed) for seed in config["seeds"]])
        tasks = config["evaluate"]["tasks"]
        assert {len(digits) for digits in seeds.values()} == {tasks.get("count") or tasks["limit"]}


def test_the_quickstart_trains_as_the_experiment_does():
    ours, theirs = trained(QUICKSTART), trained(EXPERIMENT / "config.yaml")
    assert ours == {name: theirs[name] for name in ours}
    assert {"references", "answers", "answers + logits"} == set(ours)


def test_its_page_shows_the_quickstarts_arms_and_differences():
    config = yaml.safe_load(QUICKSTART.read_text(encoding="utf-8"))
    text = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
    shown = text[text.index(config["title"]) :].partition("\n```")[0].splitlines()
    for arm in config["arms"]:
        assert any(line.startswith(f"{arm['name']} ") for line in shown)
    for a, b in config["differences"]:
        assert any(line.startswith(f"{a} - {b}: ") for line in shown)


def test_likelihoods_are_compared_solution_by_solution():
    greedy = result(ours={"0": "10"}, theirs={"0": "00"}) | {"samples_per_task": 1}
    assert SCRIPT["rates"](greedy, "ours") == [[1.0, 0.0]]
    assert not any("nats" in line for line in SCRIPT["tables"](greedy))
    nats = {
        "ours": {"0": {"a": 1.0, "b": 3.0}, "1": {"a": 2.0, "b": 4.0}},
        "theirs": {"0": {"b": 4.0, "a": 2.0}},
    }
    lines = SCRIPT["tables"](greedy | {"nats_per_byte": nats})
    assert "| ours | 2.500 [1.500, 3.500] |" in lines and "| theirs | 3.000 [2.000, 4.000] |" in lines
    assert "| ours − theirs | −0.500 [−0.500, −0.500] |" in lines


def test_a_difference_is_taken_task_by_task_and_seed_by_seed():
    found = SCRIPT["differences"](result(ours={"0": "2210", "1": "2222"}, theirs={"0": "2000", "1": "2220"}))
    ((a, b, whole, by_seed),) = found
    assert (a, b) == ("ours", "theirs")
    assert by_seed == [0.375, 0.25]
    assert whole.mean == pytest.approx(0.3125)
    assert whole.low < whole.mean < whole.high


def test_a_table_says_where_no_difference_is_shown():
    equal = SCRIPT["tables"](result(ours={"0": "2020", "1": "0202"}, theirs={"0": "0202", "1": "2020"}))
    assert "| ours − theirs | +0.0 [−100.0, +100.0] | +0.0, +0.0 | not shown |" in equal
    both, one = "2" * 40, "1" * 40
    ahead = SCRIPT["tables"](result(ours={"0": both, "1": both}, theirs={"0": one, "1": one}))
    assert "| ours − theirs | +50.0 [+36.8, +54.4] | +50.0, +50.0 |  |" in ahead
    assert "| theirs | 50.0 [50.0, 50.0] | 50.0, 50.0 |" in ahead


def test_a_finished_run_is_kept_as_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    counts = {"teacher": [[2, 2, 1]], "ours": [[0, 2, 1], [1, 1, 0]]}
    arms = []
    for name, seeds in counts.items():
        runs = tuple(name if name == "teacher" else f"{name}/seed-{n}" for n in range(len(seeds)))
        arms.append(Arm(name=name, runs=runs, pass_at={1: ANY}))
        for number, (run, passed) in enumerate(zip(runs, seeds, strict=True)):
            evaluation = Evaluation(
                model="m",
                tasks="pocket:test",
                task_count=3,
                subset=False,
                samples_per_task=2,
                temperature=0.2,
                top_p=0.95,
                pass_at={1: ANY},
                per_task={f"t{task}": (2, count) for task, count in enumerate(passed)},
                verdicts={},
                gates=Gates(tasks=3, reference=3, empty=0, pass_body=0),
                data_hash="a hash",
                prompt_mode="completion",
                stop_rule="definitions",
                sandbox="a sandbox",
                versions={"torch": "2.13.0"},
                seed=number,
            )
            path = tmp_path / run / "results" / f"{'teacher' if name == 'teacher' else 'student'}.json"
            write_object(path, evaluation)
    difference = Difference(a="ours", b="teacher", metric="pass@1", interval=ANY, pairs=6)
    comparison = Comparison(
        title="t",
        tasks="pocket:test",
        task_count=3,
        arms=tuple(arms),
        differences=(difference,),
        teacher="teacher",
    )
    write_object(tmp_path / "comparison.json", comparison)
    monkeypatch.setitem(SCRIPT["keep"].__globals__, "HERE", tmp_path)
    (tmp_path / "mine").mkdir()
    SCRIPT["keep"]("mine", tmp_path)
    kept = json.loads((tmp_path / "mine/result.json").read_text(encoding="utf-8"))
    assert kept["command"] == "codestill compare experiments/mine/config.yaml"
    assert kept["passed"] == {"teacher": {"0": "221"}, "ours": {"0": "021", "1": "110"}}
    assert kept["differences"] == [["ours", "teacher"]]
    assert (kept["samples_per_task"], kept["data_hash"]) == (2, "a hash")


def test_the_figure_is_drawn(tmp_path: Path):
    SCRIPT["draw"](
        result(ours={"0": "2210", "1": "2222"}, theirs={"0": "2000", "1": "2220"}), tmp_path / "f.png"
    )
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")
