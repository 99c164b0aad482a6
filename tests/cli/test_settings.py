"""What the user can mistype: keys, values, files and names."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from tests.cli.conftest import Codestill, assert_refused

from codestill.cli import commands
from codestill.cli.settings import read_settings
from codestill.config import choices_of, is_settings
from codestill.evaluation import EvaluateModel
from codestill.recipes import RECIPES, load_recipe
from codestill.recipes.amr_evol import Config


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ("run sft --studnt x", ("--studnt", "Did you mean --student?")),
        ("run sft --train.learning-rat 1", ("--train.learning-rat", "Did you mean --train.learning-rate?")),
        ("run sft --train.learnin_rate 1", ("Did you mean --train.learning-rate?",)),
        ("run logit_kd --objective.temprature 2", ("Did you mean --objective.temperature?",)),
        ("run sft --train.epochs many", ("train.epochs", "valid number")),
        ("run sft --train.epochs -1", ("train.epochs", "greater than 0")),
        ("run sft --train.optimizer sgd", ("train.optimizer", "adamw", "muon")),
        ("run sft --student.preset gpt2-44", ("student.preset", "gpt2-44m")),
        ("run sft --student.model m --student.preset gpt2-44m", ("exactly one",)),
        ("run logit_kd --teacher.type api", ("an endpoint teaches", "set teacher.logprobs")),
        ("run sft --examples.tasks humanevil", ("did you mean 'humaneval'?",)),
        ("run sft --examples.tasks humaneval:train", ("test set",)),
        ("run sft --seed 1.5", ("seed",)),
        ("run sft --train.epochs null", ("train.epochs cannot be null", "Give a value")),
        ("run sft --execution.trackers=null", ("execution.trackers cannot be null",)),
        ("run sft --train.max-step null", ("Did you mean --train.max-steps?",)),
        ("run sft --student.model m --student.layers 1.5", ("student.layers.count", "valid integer")),
        ("run sft --student.model m --student.layers 0,a", ("student.layers.numbers.1", "valid integer")),
        ("run sft --student.model m --student.layers 3,0", ("numbers must ascend",)),
        ("run sft --student.model m --student.adapter.rank 0", ("adapter.rank", "greater than 0")),
        ("run", ("RECIPE",)),
        ("run sftt", ("sftt", "iterkd, logit_kd")),
        ("run mine.py", ("mine.py",)),
        ("rnu sft", ('Did you mean "run"?',)),
        ("evaluate", ("--model",)),
        ("evaluate --tasks humaneval", ("model",)),
        ("evaluate m --taks humaneval", ("Did you mean",)),
        ("compare", ("CONFIG_FILE",)),
        ("sweep --temperatures 0", ("temperatures", "greater than 0")),
        ("report", ("no run directory is given",)),
        ("report nowhere", ("nowhere",)),
        ("tasks show humanevil", ("did you mean 'humaneval'?",)),
        ("tasks show tasks.jsonl third", ("'third'",)),
        ("tasks check nowhere.jsonl", ("nowhere.jsonl", "no such file")),
    ],
)
def test_a_mistyped_command_line(codestill: Codestill, arguments: str, parts: tuple[str, ...]) -> None:
    assert_refused(codestill(*arguments.split()), *parts)
    assert not Path("runs").exists()  # nothing was begun


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("studnt: gpt2-44m", ("studnt", "mine.yaml", "Did you mean --student?")),
        ("train: {learning_rat: 1}", ("learning_rat", "Did you mean --train.learning-rate?")),
        ("evaluate: {taks: pocket}", ("taks", "Did you mean --evaluate.tasks?")),
        ("train: {epochs: many}", ("train.epochs", "valid number")),
        ("train: [1,", ("mine.yaml is not YAML", "line 1")),
        ("train: {epochs: null}", ("train.epochs cannot be null", "Give a value")),
        ("execution: {trackers: null}", ("execution.trackers cannot be null",)),
        ("- sft", ("mine.yaml", "mapping")),
        ("sft", ("mine.yaml", "mapping")),
        ("seed: 1\nseed: 2", ("mine.yaml, line 2", "'seed' was already given in line 1")),
        ("train:\n  epochs: 1\n  epochs: 2", ("mine.yaml, line 3", "'epochs'")),
        ("1: 2\nseed: 1", ("mine.yaml, line 1", "a key must be text")),
        ("student: &a\n  model: *a", ("mine.yaml, line 1", "alias")),
        ('student: "\\ud800"', ("mine.yaml, line 1", "surrogate")),
        (b"train: \xff", ("mine.yaml is not YAML",)),
    ],
)
def test_a_mistyped_config_file(codestill: Codestill, text: str | bytes, parts: tuple[str, ...]) -> None:
    Path("mine.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert_refused(codestill("run", "sft", "--config", "mine.yaml"), *parts)
    assert not Path("runs").exists()


@pytest.mark.parametrize("command", [("run", "sft", "--config"), ("compare",)])
@pytest.mark.parametrize("place", ["nowhere.yaml", "."])
def test_a_config_file_that_cannot_be_read(
    codestill: Codestill, command: tuple[str, ...], place: str
) -> None:
    assert_refused(codestill(*command, place), f"cannot read the config file {place}")


COMPARISON = "title: T\narms:\n- {name: a, recipe: sft, config: %s}\n"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (COMPARISON % "{trian: {}}", ("arm 'a'", "trian is not a setting", "Did you mean train?")),
        (COMPARISON % "{train: {epoch: 1}}", ("train.epoch", "Did you mean epochs?")),
        (COMPARISON % "{train: {epochs: 0}}", ("arm 'a'", "train.epochs", "greater than 0")),
        (COMPARISON % "{}" + "seeds: [1, 1]", ("a seed is named twice",)),
        (COMPARISON % "{}" + '- {name: "A?", model: m}\n- {name: A, model: m}', ("two arms share a name",)),
        (COMPARISON % "{}" + "teacher: b", ("no arm is called 'b'",)),
        (COMPARISON % "{}" + "differences: [[a, b]]", ("no arm is called 'b'",)),
        ("title: T\narms: [{name: a}]", ("either a recipe or a model",)),
        ("title: T\narms: [{name: a, recipe: sftt}]", ("no recipe 'sftt'",)),
        ("title: T\narms: []", ("arms",)),
        ("arms: [{name: a, model: m}]", ("title",)),
    ],
)
def test_a_mistyped_comparison(codestill: Codestill, text: str, parts: tuple[str, ...]) -> None:
    Path("mine.yaml").write_text(text)
    assert_refused(codestill("compare", "mine.yaml"), *parts)
    assert not Path("runs").exists()


def test_options_override_the_file(codestill: Codestill) -> None:
    Path("mine.yaml").write_text(
        "samples: nowhere.jsonl\nevaluate: {tasks: tasks.jsonl, samples_per_task: 3}\n"
    )
    options = ["--config", "mine.yaml", "--samples", "other.jsonl"]
    assert_refused(codestill("evaluate", *options), "Cannot read other.jsonl")
    settings = commands.evaluate_settings(options)
    assert settings is not None
    assert (settings[1].samples, settings[1].evaluate.samples_per_task) == (Path("other.jsonl"), 3)


RECIPE = "from codestill.config import RunConfig as Config\n"


@pytest.mark.parametrize(
    ("text", "parts"),
    [("Config = 1\n", ("no distill",)), ("", ("no Config and no distill",))],
)
def test_a_recipe_of_ones_own_that_is_none(codestill: Codestill, text: str, parts: tuple[str, ...]) -> None:
    Path("mine.py").write_text(text)
    assert_refused(codestill("run", "mine.py"), "mine.py", *parts, "distill(config, run)")


def test_a_recipe_of_ones_own_runs(codestill: Codestill) -> None:
    Path("mine.py").write_text(
        RECIPE + "def distill(config, run):\n    run.log('own', {'seed': config.seed})\n"
    )
    outcome = codestill("run", "mine.py", "--seed", "5")
    assert outcome.code == 0, outcome.err
    assert '"seed":5' in Path("runs/mine/metrics.jsonl").read_text()


@pytest.mark.parametrize("option", ["--train.learning-rate", "--sandbox.wall-factor"])
def test_a_number_that_is_not_finite(codestill: Codestill, option: str) -> None:
    assert_refused(codestill("run", "sft", option, "inf"), "finite number")
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    "command",
    ["run sft", "run logit_kd", "evaluate m", "evaluate --samples f", "compare", "sweep", "quickstart"],
)
def test_every_command_has_help(codestill: Codestill, command: str) -> None:
    outcome = codestill(*command.split(), "--help")
    assert outcome.code == 0, outcome.err
    assert "--seed" in outcome.out and "--run-dir" in outcome.out


def without_help(model: type[BaseModel], place: str = "") -> Iterator[str]:
    """The settings, at any depth, that say nothing of themselves."""
    if len({str(field.annotation) for field in model.model_fields.values()}) == 1 < len(model.model_fields):
        return  # weights, or shares: they are told of together
    for name, field in model.model_fields.items():
        if not field.description:
            yield place + name
        for kind in choices_of(field.annotation):
            if is_settings(kind):
                yield from without_help(kind, f"{place}{name}.")


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_setting_has_help(recipe: str) -> None:
    assert list(without_help(load_recipe(recipe).Config)) == []


def test_help_gives_the_recipes_own_defaults_and_what_is_its_own_first(
    codestill: Codestill, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    text = codestill("run", "persd", "--help-all").out
    for option, default in (
        ("--arm CHOICE", "persd-combined"),
        ("--attempts.temperature FLOAT", "0.3"),
        ("--train.learning-rate FLOAT", "0.001"),
        ("--warm-up.train.learning-rate FLOAT", "0.0015"),
        ("--teacher.timeout-seconds FLOAT", "120.0"),  # of the other kind of teacher
    ):
        words = text.split(f"{option} ", 1)[1]
        assert words.split("[default: ", 1)[1].startswith(f"{default}]"), option
    order = [
        text.index(name) for name in ("--arm", "--attempts.temp", "--sandbox.tier", "--execution.device")
    ]
    assert order == sorted(order)


@pytest.mark.parametrize("recipe", ["sft", "logit_kd", "persd", "opd", "iterkd", "amr_evol"])
def test_help_begins_with_what_most_runs_set(
    codestill: Codestill, monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    text = codestill("run", recipe, "--help").out
    shown = re.findall(r"^│[ *]+(--[\w.-]+)", text, re.MULTILINE)
    assert 10 <= len(shown) <= 22 and len(set(shown)) == len(shown)
    assert {"--student", "--teacher", "--evaluate.tasks", "--train.learning-rate", "--seed"} <= {*shown}
    titles = re.findall(r"^╭─ (\w+) ─", text, re.MULTILINE)
    assert titles[:2] == ["Models", "Tasks"] and titles[-1] == "Run"
    (more,) = re.findall(r"^(\d+) more settings: --help-all", text, re.MULTILINE)
    assert "--sandbox.tier" not in text and int(more) > 50
    if recipe == "iterkd":  # the longest: the rest of them are printed alike
        assert "--sandbox.tier" in codestill("run", recipe, "--help-all").out


def test_help_of_a_recipe_of_ones_own_has_its_settings(codestill: Codestill) -> None:
    Path("own.py").write_text(
        "from codestill.config import RunConfig\n\n\n"
        'class Config(RunConfig):\n    depth: int = 3\n    """How deep."""\n\n\n'
        "def distill(config, run): ...\n"
    )
    text = codestill("run", "own.py", "--help").out
    assert "--depth INT" in text and "How deep." in text and "[default: 3]" in text


def test_help_of_evaluate_says_what_it_takes(codestill: Codestill) -> None:
    text = codestill("evaluate", "--help").out
    for said in (
        "codestill evaluate MODEL",
        "--samples FILE",
        "--tasks TASKS",
        "--limit INT",
        "humaneval:test",
    ):
        assert said in text
    assert "object at" not in text


def evaluated(*options: str) -> Any:
    given = commands.model_first(["m", *options])
    found = read_settings(
        EvaluateModel, "evaluate", [commands.evaluate_option(o, EvaluateModel) for o in given]
    )
    assert found is not None
    tasks = found[1].evaluate.tasks
    return tasks.source, tasks.split, tasks.limit


@pytest.mark.parametrize(
    ("options", "tasks"),
    [
        ("--tasks humaneval --limit 20", ("humaneval", "test", 20)),
        ("--limit=20", ("humaneval", "test", 20)),
        ("--tasks mbpp:train --limit 3", ("mbpp", "train", 3)),
        ("--tasks=mbpp --split validation", ("mbpp", "validation", None)),
        ("--tasks mine.jsonl:test --tasks.limit 5", ("jsonl", "test", 5)),
    ],
)
def test_tasks_by_name_may_be_limited(options: str, tasks: tuple[Any, ...]) -> None:
    assert evaluated(*options.split()) == tasks


def test_a_string_and_its_settings_go_together(tmp_path: Path) -> None:
    def persd(*options: str) -> Any:
        found = read_settings(load_recipe("persd").Config, "run persd", options)
        assert found is not None
        return found[1]

    config = persd(
        "--student", "org/x", "--student.dtype", "bfloat16", "--teacher", "y", "--teacher.chat", "false"
    )
    assert (config.student.model, config.student.dtype) == ("org/x", "bfloat16")
    assert (config.teacher.model, config.teacher.chat) == ("y", False)
    file = tmp_path / "file.yaml"
    file.write_text("student: org/x\ntasks: mbpp:train\n")
    config = persd("--config", str(file), "--student.dtype", "bfloat16", "--tasks.limit", "4")
    assert (config.student.model, config.student.dtype) == ("org/x", "bfloat16")
    assert (config.tasks.source, config.tasks.split, config.tasks.limit) == ("mbpp", "train", 4)
    config = persd("--config", str(file), "--student", "gpt2-44m")
    assert (config.student.preset, config.student.model) == ("gpt2-44m", None)


def test_a_task_set_that_there_is_not_is_refused(codestill: Codestill) -> None:
    for more in ((), ("--limit", "3")):
        assert_refused(codestill("evaluate", "m", "--tasks", "humanevol", *more), "did you mean 'humaneval'?")


@pytest.mark.parametrize("value", ["false", "true"])
def test_a_switch_takes_its_value_after_a_space_too(value: str) -> None:
    spaced = read_settings(Config, "run amr_evol", ["--evolution.decompose", value, "--count", "3"])
    joined = read_settings(Config, "run amr_evol", [f"--evolution.decompose={value}", "--count", "3"])
    assert spaced is not None and spaced == joined
    assert spaced[1].evolution.decompose is (value == "true")


@pytest.mark.parametrize("form", ["{} null", "{}=null"])
@pytest.mark.parametrize(
    ("recipe", "option", "given"),
    [
        ("persd", "warm-up", "{}"),
        ("persd", "max-examples", "5"),
        ("sft", "train.max-steps", "5"),
        ("sft", "examples.validation", "{source: pocket}"),
        ("sft", "examples.decontaminate", "{}"),
        ("sft", "student.reasoning", "true"),  # a switch
        ("sft", "student.revision", "main"),
        ("sft", "student.layers", "[0, 2]"),
        ("sft", "student.adapter", "{rank: 4}"),
        ("sft", "student.quantize", "nf4"),
        ("sft", "execution.attention", "eager"),
    ],
)
def test_an_option_takes_away_what_a_file_sets(
    recipe: str, option: str, given: str, form: str, tmp_path: Path
) -> None:
    path = option.replace("-", "_").split(".")
    beside = {"student.quantize": ", adapter: {}"}.get(option, "")
    values = f"{path[-1]}: {given}{beside}"
    if len(path) == 2:
        values = f"{path[0]}: {{{'model: m, ' if path[0] == 'student' else ''}{values}}}"
    (tmp_path / "c.yaml").write_text(values)
    file = ["--config", str(tmp_path / "c.yaml")]
    found = []
    for words in ([], form.format(f"--{option}").split()):
        read = read_settings(load_recipe(recipe).Config, f"run {recipe}", [*file, *words])
        assert read is not None
        value = read[1]
        for name in path:
            value = getattr(value, name)
        found.append(value)
    assert found[0] is not None and found[1] is None


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--student.layers 3", 3),
        ("--student.layers=3,", (3,)),
        ("--student.layers 0,3", (0, 3)),
        ("--student.layers 0 --student.layers 3", (0, 3)),
        ("--student.layers=0,2 --seed 1 --student.layers 3", (0, 2, 3)),
    ],
)
def test_a_setting_of_one_value_or_a_list(words: str, expected: object) -> None:
    read = read_settings(load_recipe("sft").Config, "run sft", ["--student.model", "m", *words.split()])
    assert read is not None and read[1].student.layers == expected
