"""Configs that ship with the package, and the names by which the command line finds them."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Codestill, assert_refused

from codestill.cli.settings import read_settings
from codestill.configs import CONFIGS, comparisons, recipe_configs
from codestill.recipes import RECIPES, load_recipe

REAL = sorted(path.stem for path in (CONFIGS / "real").glob("*.yaml"))
MODELS = ("--teacher.model", "org/teacher", "--student", "org/student")


def read(recipe: str, *words: str) -> Any:
    settings = read_settings(load_recipe(recipe).Config, f"run {recipe}", words, recipe_configs(recipe))
    assert settings is not None
    return settings[1]


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Every value of a mapping by the path that leads to it."""
    if not isinstance(value, dict) or not value:
        return {path: value}
    return {k: v for name, inner in value.items() for k, v in leaves(inner, f"{path}.{name}").items()}


def test_every_recipe_that_takes_a_students_own_weights_has_real_settings() -> None:
    assert [recipe for recipe in RECIPES if not recipe.startswith("pocket")] == REAL
    assert all("real" in recipe_configs(recipe) for recipe in REAL)
    assert recipe_configs("pocket_base") == recipe_configs("mine.py") == {}


@pytest.mark.parametrize("recipe", REAL)
def test_real_settings_are_those_of_real_models(recipe: str) -> None:
    config = read(recipe, "--config", "real", *MODELS)
    values = leaves(config.model_dump(mode="json"))
    assert not [path for path, value in values.items() if "pocket" in str(value)]
    assert (config.teacher.model, config.student.model) == ("org/teacher", "org/student")
    assert config.teacher.chat == config.student.chat == "auto"
    assert values.get(".warm_up") is None
    assert [path for path in values if ".decontaminate." in path]
    examples = getattr(config, "examples", config)
    assert (examples.tasks.source, examples.tasks.split) == ("mbpp", "train")
    assert getattr(examples, "answers", "") != "reference" and values.get(".solutions") != "reference"
    lengths = {path: value for path, value in values.items() if path.endswith("max_new_tokens")}
    assert set(lengths.values()) == {1024}, lengths
    train, evaluate = config.train, config.evaluate
    assert train.max_steps is None and train.epochs <= 2 and train.precision == "auto"
    assert (
        train.learning_rate <= 2e-5 and train.warmup_fraction > 0 and train.schedule in ("linear", "cosine")
    )
    assert {value for path, value in values.items() if path.endswith("max_length")} == {train.max_length}
    assert (evaluate.tasks.source, evaluate.samples_per_task, evaluate.profile) == (
        "humaneval-plus",
        0,
        False,
    )


@pytest.mark.parametrize("recipe", REAL)
@pytest.mark.parametrize(
    ("words", "lacking"),
    [
        ("", "no student and no teacher"),
        ("--student org/student", "no teacher"),
        ("--teacher.model org/teacher", "no student"),
        ("--teacher.dtype bfloat16 --student org/student", "no teacher"),
    ],
)
def test_real_settings_are_not_for_the_pocket_models(
    codestill: Codestill, recipe: str, words: str, lacking: str
) -> None:
    outcome = codestill("run", recipe, "--config", "real", *words.split())
    asked = [f"--{name}.model MODEL" for name in ("student", "teacher") if f"no {name}" in lacking]
    assert_refused(outcome, f"and {lacking} is given", *asked)
    assert not Path("runs").exists()


def test_a_teacher_that_is_not_asked_need_not_be_given() -> None:
    alone = ("--student", "org/student")
    config = read("sft", "--config", "real", "--examples.answers", "reference", *alone)
    assert not config.needs_teacher
    row = read("opd", "--config", "real", "--row", "sdft", "--solutions", "reference", *alone)
    assert not row.needs_teacher


@pytest.mark.parametrize("recipe", ["persd", "iterkd", "amr_evol"])
def test_real_settings_take_a_served_teacher(recipe: str) -> None:
    served = ("--teacher.type", "api", "--teacher.base-url", "http://localhost:8000/v1")
    config = read(recipe, "--config", "real", *served, *MODELS)
    assert (config.teacher.type, config.teacher.model) == ("api", "org/teacher")


def test_files_and_options_override_a_bundled_config(codestill: Codestill) -> None:
    Path("mine.yaml").write_text("train: {epochs: 1}\ntasks: tasks.jsonl:train\n")
    options = ("--train.learning-rate", "3e-6", "--evaluate.tasks.limit", "20")
    config = read("persd", "--config", "real", "--config=mine.yaml", *options, *MODELS)
    assert (config.train.epochs, config.train.learning_rate, config.train.max_length) == (1, 3e-6, 1536)
    assert (config.tasks.path, config.tasks.split) == (Path("tasks.jsonl"), "train")
    assert (config.evaluate.tasks.source, config.evaluate.tasks.limit) == ("humaneval-plus", 20)
    assert read("persd", "--config", "mine.yaml", "--config", "real", *MODELS).train.epochs == 2


def test_a_file_of_the_name_comes_first(codestill: Codestill) -> None:
    Path("real").mkdir()  # a directory is no config
    assert read("sft", "--config", "real", *MODELS).train.epochs == 2
    Path("real").rmdir()
    Path("real").write_text("train: {epochs: 5}\n")
    assert read("sft", "--config", "real", *MODELS).train.epochs == 5


@pytest.mark.parametrize(
    ("command", "parts"),
    [
        ("run sft --config reel", ("cannot read the config file reel", "bundled config: pocket, real")),
        ("run pocket_base --config real", ("cannot read the config file real", "Check the path.")),
        ("compare quickstrat", ("cannot read the config file quickstrat", "bundled config: quickstart")),
        ("run persd --config real --train.epoch 1", ("Did you mean --train.epochs?",)),
    ],
)
def test_an_unknown_name_is_refused(codestill: Codestill, command: str, parts: tuple[str, ...]) -> None:
    assert_refused(codestill(*command.split()), *parts)
    assert not Path("runs").exists()


def test_help_names_the_bundled_configs(codestill: Codestill) -> None:
    for command in ("run sft --help", "run sft --config real --help"):
        assert "Bundled, by name: pocket, real." in " ".join(codestill(*command.split()).out.split())
    assert "Bundled" not in codestill("run", "pocket_base", "--help").out


def test_a_bundled_comparison_has_its_name(codestill: Codestill, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[Any, Path]] = []
    monkeypatch.setattr("codestill.cli.commands.compare_in", lambda *given: compared.append(given))
    assert codestill("compare", "quickstart", "--seeds", "7").code == 0
    ((config, directory),) = compared
    assert config.title.startswith("Quickstart") and config.seeds == (7,)
    assert directory == Path("runs/quickstart") and set(comparisons()) == {"quickstart"}


def test_a_bundled_config_runs(codestill: Codestill) -> None:
    """On a bundled teacher, and tasks that take seconds."""
    Path("small.yaml").write_text(
        json.dumps(
            {
                "examples": {
                    "tasks": {"source": "pocket", "split": "train", "count": 8, "depths": [1]},
                    "decontaminate": None,
                    "max_new_tokens": 64,
                },
                "evaluate": {"tasks": {"source": "pocket", "split": "test", "count": 2, "depths": [2]}},
                "execution": {"device": "cpu"},
            }
        )
    )
    words = ("--config", "real", "--config", "small.yaml", "--student", "pocket-base-0.1m")
    outcome = codestill("run", "sft", *words, "--teacher.model", "pocket", "--evaluate.max-new-tokens", "24")
    assert outcome.code == 0, outcome.err
    assert "learning_rate: 1.0e-05" in Path("runs/sft/config.yaml").read_text()
    assert Path("runs/sft/results/student.json").exists()
