"""The story of a run: before and after, the funnel, what it took, rows with their difference, settings."""

import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest

from codestill.cli.commands import EVALUATE_EXAMPLES, evaluate_option, model_first
from codestill.cli.settings import read_settings
from codestill.evaluation import EvaluateModel
from codestill.evaluation.metrics import compare_pairs
from codestill.files.run_files import About, write_funnels
from codestill.files.serialize import append_jsonl, read_object, write_object
from codestill.recipes import load_recipe
from codestill.report import write_report
from codestill.report.change import changes, command_before
from codestill.report.claims import headline, warnings
from codestill.report.collect import Section, read_report
from codestill.report.funnel import funnels
from codestill.report.numbers import amount, percent, significant
from codestill.report.rows import MOST, OF_A_RUN, trained_rows
from codestill.report.settings import changed_settings
from codestill.report.spend import accounting, spent
from codestill.report.story import before, story
from codestill.types import Call, Evaluation


def section_of(*directories: Path) -> Section:
    (section,) = read_report(directories).sections
    return section


def rates(evaluation: Evaluation) -> list[float]:
    """In the order in which a file has them."""
    return [passed / samples for _, (samples, passed) in sorted(evaluation.per_task.items())]


def test_the_change_is_paired_with_the_model_that_training_began_with(
    make: SimpleNamespace, tmp_path: Path
) -> None:
    after = make.run(tmp_path / "run", steps=0)
    start = make.start(tmp_path / "start", after, passed=1)
    section = section_of(tmp_path / "run", tmp_path / "start")
    (change,) = changes(section, section.arms)
    expected = compare_pairs([rates(after)], [rates(start)])
    assert change.difference.interval == expected.interval
    assert (change.arm, change.before, change.after) == ("run", start.pass_at[1], after.pass_at[1])
    assert change.difference.pairs == 30
    found = headline(section, [change])
    assert found.figure == f"{percent(start.pass_at[1].mean)} → {percent(after.pass_at[1].mean)}"
    assert found.sentence.startswith(f"pass@1 rose from 8.3% to {percent(after.pass_at[1].mean)}: +")
    html, _ = write_report([tmp_path / "run", tmp_path / "start"])
    assert found.figure in html.read_text("utf-8")


@pytest.mark.parametrize(
    "other",
    [{"temperature": 0.8}, {"data_hash": "another"}, {"samples_per_task": 5}, {"config": "org/other"}],
)
def test_what_was_evaluated_otherwise_is_no_score_before(
    make: SimpleNamespace, tmp_path: Path, other: dict[str, object]
) -> None:
    after = make.run(tmp_path / "run", steps=0)
    model = other.pop("config", None)
    make.start(tmp_path / "start", after, passed=1, **other)
    if model:
        path = tmp_path / "start" / "config.yaml"
        make.start(tmp_path / "start", after, passed=1)
        text = path.read_text().replace("org/small", str(model))
        path.write_text(seal(text))
    section = section_of(tmp_path / "run", tmp_path / "start")
    assert changes(section, section.arms) == []


def seal(text: str) -> str:
    from codestill.files.seal import seal_text

    return seal_text(text[: text.rindex("#")])


def test_a_change_that_may_be_none_is_unknown(make: SimpleNamespace, tmp_path: Path) -> None:
    after = make.run(tmp_path / "run", steps=0)
    make.start(tmp_path / "start", after, passed=1, per_task=after.per_task, pass_at=after.pass_at)
    section = section_of(tmp_path / "run", tmp_path / "start")
    found = headline(section, changes(section, section.arms))
    assert found.tone == "not-shown"
    assert "so whether training changed it is unknown" in found.sentence and "rose" not in found.sentence


def test_a_fall_is_called_one(make: SimpleNamespace, tmp_path: Path) -> None:
    after = make.run(tmp_path / "run", steps=0)
    make.start(tmp_path / "start", after, passed=12)
    section = section_of(tmp_path / "run", tmp_path / "start")
    found = headline(section, changes(section, section.arms))
    assert "pass@1 fell from 100.0%" in found.sentence and found.tone != "shown"


def test_arms_of_a_comparison_change_over_all_their_seeds(make: SimpleNamespace, tmp_path: Path) -> None:
    make.comparison(tmp_path / "c", steps=0)
    first = make.run(tmp_path / "like", steps=0)
    make.start(tmp_path / "start", first, passed=1)
    report = read_report([tmp_path / "c", tmp_path / "start"])
    found = changes(report.sections[0], report.arms)
    assert [(change.arm, change.difference.pairs) for change in found] == [("distilled", 60), ("raw", 60)]
    assert len(found[0].difference.by_seed) == 2


def test_a_missing_score_is_said_with_the_command_that_measures_it(
    make: SimpleNamespace, tmp_path: Path
) -> None:
    make.run(tmp_path, steps=0)
    html, markdown = (path.read_text("utf-8") for path in write_report([tmp_path]))
    command = "codestill evaluate org/small --tasks pocket:test --evaluate.samples-per-task 12"
    for page in (html, markdown):
        assert "The score before training was not measured." in page and command in page
    assert "→" not in headline(section_of(tmp_path)).figure


def test_random_weights_have_no_score_before(make: SimpleNamespace, tmp_path: Path) -> None:
    make.run(tmp_path, steps=0)
    path = tmp_path / "config.yaml"
    path.write_text(seal(path.read_text().replace("model: org/small", "preset: gpt2-44m")))
    section = section_of(tmp_path)
    assert before(section, measured=False) == (
        "The student began with random weights: there is no score before training.",
        "",
    )
    assert "gpt2-44m, which begins with random weights" in " ".join(story(section, ""))


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"student": {"model": "a model", "dtype": "bfloat16", "system_prompt": "It's code."}, "seed": 3},
        {"evaluate": {"tasks": {"source": "mbpp", "split": "test", "limit": 9}, "greedy": False}},
        {
            "evaluate": {"tasks": "humaneval", "temperature": 0.7, "samples_per_task": 3},
            "prompts": "instruct",
        },
    ],
)
def test_the_command_evaluates_the_start_as_the_student_was(changed: dict[str, object]) -> None:
    config = load_recipe("persd").Config.model_validate(changed)
    values = config.model_dump(mode="json")
    command = command_before(values)
    assert command is not None
    _, name, *words = shlex.split(command)
    options = [evaluate_option(option, EvaluateModel) for option in model_first(words)]
    short = {"evaluate.tasks": "tasks", "evaluate.tasks.limit": "limit"}
    read = read_settings(EvaluateModel, "evaluate", options, examples=EVALUATE_EXAMPLES, short=short)
    assert name == "evaluate" and read is not None
    parsed = read[1].model_dump(mode="json")
    compared = {key: value for key, value in values["evaluate"].items() if key != "profile"}
    assert {key: parsed["evaluate"][key] for key in compared} == compared
    for key in EvaluateModel.model_fields.keys() & values["student"].keys():
        assert parsed[key] == values["student"][key], key
    assert (parsed["seed"], parsed["prompts"]) == (values["seed"], values["prompts"])


def test_the_story_names_what_was_done_and_with_what(make: SimpleNamespace, tmp_path: Path) -> None:
    make.run(tmp_path, steps=0)
    assert story(section_of(tmp_path), "") == [
        "Logit distillation (logit_kd).",
        "The student is org/small; the teacher is large.",
        "The student was trained for 1,390 steps on 10 rows (seed 0).",
    ]
    path = tmp_path / "about.json"
    about = About(title="Logit distillation", needs_teacher=False, defaults={})
    write_object(path, about)
    assert story(section_of(tmp_path), "")[1] == "The student is org/small."


def test_the_funnel_is_the_runs_own(make: SimpleNamespace, tmp_path: Path) -> None:
    make.run(tmp_path, steps=0)
    (found,) = funnels(section_of(tmp_path))
    assert [(step.name, step.count, step.share) for step in found.steps] == [
        ("tasks", 30, ""),
        ("attempts that <failed>", 24, "80%"),
        ("refined", 12, "50%"),
        ("rows", 10, "83%"),
    ]
    assert [step.width for step in found.steps] == [100.0, 80.0, 40.0, 33.3]
    html, markdown = (path.read_text("utf-8") for path in write_report([tmp_path]))
    assert "attempts that &lt;failed&gt;" in html and "<failed>" not in html
    assert "tasks 30 → attempts that &lt;failed&gt; 24 (80%) → refined 12 (50%)" in markdown


def test_seeds_are_summed_and_rounds_are_in_order(make: SimpleNamespace, tmp_path: Path) -> None:
    make.comparison(tmp_path, steps=0)
    for seed in (0, 1):
        rounds = {f"round-{number}": {"tasks": number, "rows": 2 * number} for number in (10, 2)}
        write_funnels(tmp_path / f"raw-s{seed}", rounds)
    found = funnels(section_of(tmp_path))
    assert [(funnel.title, [step.count for step in funnel.steps]) for funnel in found] == [
        ("distilled, round 1", [60, 48, 24, 20]),
        ("raw, round 2", [4, 8]),
        ("raw, round 10", [20, 40]),
    ]
    assert found[1].steps[1].share == "×2.0"


def test_a_single_run_shows_its_accounting_and_what_it_took(make: SimpleNamespace, tmp_path: Path) -> None:
    make.run(tmp_path, steps=0)
    calls = [
        Call(key=f"t{n}#0", stage="s", model="m", prompt_tokens=1000, completion_tokens=11, cost=c, seconds=1)
        for n, c in enumerate((0.25, 0.5))
    ]
    append_jsonl(tmp_path / "ledger.jsonl", calls)
    section = section_of(tmp_path)
    assert spent([section.arms[0].sources[0].run]) == [
        ("answers of the teacher", "2"),
        ("tokens that it read", "2,000"),
        ("tokens that it wrote", "22"),
        ("cost", "0.75"),
        ("training steps", "1,390"),
    ]
    table = accounting(section)
    assert table is not None
    assert [cell.value for cell in table.head] == ["number of", "round 1", "whole run"]
    assert {row[0].value: [cell.value for cell in row[1:]] for row in table.rows} == {
        "refined": ["12", "–"],
        "tasks": ["30", "–"],
        "examples": ["–", "10"],
        "rate": ["–", "1,390.123"],
        "steps": ["–", "1,390"],
    }
    assert "1,390.123" in write_report([tmp_path])[1].read_text("utf-8")


def test_rows_that_were_trained_on_stand_beside_their_attempts(make: SimpleNamespace, tmp_path: Path) -> None:
    make.run(tmp_path, steps=0)
    rows = trained_rows(read_report([tmp_path]))
    assert len(rows) == OF_A_RUN and {row.source for row in rows} == {"repair", "solution"}
    assert rows[0].is_repair and not rows[1].is_repair  # what stands beside something comes first
    html = write_report([tmp_path])[0].read_text("utf-8")
    shown = html[html.index("Rows that were trained on") :]
    assert "<del>=</del>" in shown and "onerror=alert(1)" in shown
    assert "<img" not in shown and "<script>document" not in shown
    assert re.search(r'<td class="old"><span class="sign">−</span>', shown)


def test_a_run_counts_once_however_often_it_is_evaluated(make: SimpleNamespace, tmp_path: Path) -> None:
    for name in ("a", "b"):
        make.run(tmp_path / name, steps=0, tasks=3)
        results = tmp_path / name / "results"
        found = read_object(results / "student-pocket.json")
        for place, model in (("round-1/student-pocket", "small"), ("teacher-pocket", "large")):
            write_object(
                results / f"{place}.json",
                {key: value for key, value in found.items() if key != "checksum"} | {"model": model},
            )
    report = read_report([tmp_path / "a", tmp_path / "b"])
    (section,) = report.sections
    assert len(section.arms) == 5  # the teacher is the same one
    assert [arm.name for arm in section.owners] == ["a", "b"]
    assert [funnel.title for funnel in funnels(section)] == ["a, round 1", "b, round 1"]
    assert {row.arm for row in trained_rows(report)} == {"a", "b"}
    table = accounting(section)
    assert table is not None
    assert [(cell.value, cell.note) for cell in table.head[1:]] == [
        ("a", "round 1"),
        ("a", "whole run"),
        ("b", "round 1"),
        ("b", "whole run"),
    ]


def test_many_runs_share_the_room_for_rows(make: SimpleNamespace, tmp_path: Path) -> None:
    for number in range(5):
        make.run(tmp_path / f"r{number}", steps=0, tasks=12)
    rows = trained_rows(read_report([tmp_path / f"r{n}" for n in range(5)]))
    assert len(rows) == 10 <= MOST and {row.arm for row in rows} == {f"r{n}" for n in range(5)}


def test_of_several_seeds_the_first_ones_rows_are_shown(make: SimpleNamespace, tmp_path: Path) -> None:
    make.comparison(tmp_path, steps=0)
    (tmp_path / "raw-s1" / "examples.jsonl").unlink()
    rows = trained_rows(read_report([tmp_path]))
    assert [row.arm for row in rows] == ["distilled"] * OF_A_RUN + ["raw"] * OF_A_RUN


def test_settings_that_differ_from_the_defaults_are_a_list(make: SimpleNamespace, tmp_path: Path) -> None:
    for name, divergence in (("a", True), ("b", False)):
        make.run(tmp_path / name, steps=0, divergence=divergence)
    report = read_report([tmp_path / "a", tmp_path / "b"])
    table = changed_settings(report.runs)
    assert table is not None
    assert [cell.value for cell in table.head] == ["setting", "value", "default", "runs"]
    rows = [tuple(cell.value for cell in row) for row in table.rows]
    assert ("objective.alpha", "0.5", "0.0", "a") in rows and ("objective.alpha", "0.0", "0.0", "b") in rows
    assert ("student.model", "org/small", "–", "all") in rows  # chosen: it has no default
    assert not [row for row in rows if row[0] in ("recipe", "seed", "objective.temperature")]
    alone = changed_settings({"b": report.runs["b"]})
    assert alone is not None and len(alone.head) == 3
    assert "objective.alpha" not in [row[0].value for row in alone.rows]


def test_a_group_that_is_off_differs_from_one_that_is_on(make: SimpleNamespace, tmp_path: Path) -> None:
    make.run(tmp_path, steps=0)
    path = tmp_path / "config.yaml"
    path.write_text(seal(path.read_text().replace("seed: 0", "seed: 0\nwarm_up: null\nextra:\n  size: 3")))
    defaults = {"warm_up": {"steps": 3}, "extra": None, "seed": 0}
    write_object(tmp_path / "about.json", About(title="", needs_teacher=False, defaults=defaults))
    table = changed_settings(read_report([tmp_path]).runs)
    assert table is not None
    rows = {row[0].value: (row[1].value, row[2].value) for row in table.rows}
    assert rows["warm_up"] == ("none", "set") and rows["extra.size"] == ("3", "none") and "seed" not in rows


def test_a_time_that_is_noise_is_in_no_headline(make: SimpleNamespace, tmp_path: Path) -> None:
    found = make.run(tmp_path, steps=0)
    tile = "<dt>student, ms/token</dt>"
    html = write_report([tmp_path])[0].read_text("utf-8")
    assert tile in html and "8.00 to 8.30" in html and "[8.00, 8.30]" in html
    noise = found.profile.model_copy(update={"token_quartiles": (6.0, 12.0)})
    write_object(tmp_path / "results" / "student-pocket.json", found.model_copy(update={"profile": noise}))
    html = write_report([tmp_path])[0].read_text("utf-8")
    assert tile not in html and "[6.00, 12.0] noise" in html and "<dt>student, file, MB</dt>" in html
    assert any("are noise" in text for text in warnings(section_of(tmp_path)))


def test_results_of_earlier_versions_are_read(make: SimpleNamespace, tmp_path: Path) -> None:
    make.run(tmp_path, steps=0)
    for name in ("about.json", "funnel.json", "accounting.json", "examples.jsonl"):
        (tmp_path / name).unlink()
    path = tmp_path / "results" / "student-pocket.json"
    found = read_object(path)
    for name in ("token_quartiles", "measured"):
        del found["profile"][name]
    write_object(path, {key: value for key, value in found.items() if key != "checksum"})
    html = write_report([tmp_path])[0].read_text("utf-8")
    assert "logit_kd. The student is org/small." in html and "noise" not in html
    assert "<dt>student, ms/token</dt>" not in html  # how much it scatters is unknown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1390.2, "1,390"),
        (0.00123, "0.00123"),
        (12.34, "12.3"),
        (0.25, "0.250"),
        (0.0, "0"),
        (1e7, "10,000,000"),
    ],
)
def test_no_number_has_an_exponent(value: float, text: str) -> None:
    assert significant(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234567.5, "1,234,567.5"),
        (3, "3"),
        (2.0, "2"),
        (0.000012, "0.000012"),
        (0.75, "0.75"),
        (0.0, "0"),
        (2.5e7, "25,000,000"),
        ("a", "a"),
    ],
)
def test_amounts_are_read_at_a_glance(value: float | str, text: str) -> None:
    assert amount(value) == text
