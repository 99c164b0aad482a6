"""Rows that are trained on have the form in which the student is evaluated."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.recipes import SETTINGS, TASKS
from tests.support.tiny import CPU

import codestill.train.loop
from codestill.assembly import assemble
from codestill.evaluation import EvaluateModel, evaluate_model, read_evaluation
from codestill.models import ChatConfig, StudentConfig
from codestill.models.student import Student
from codestill.prompts import prompts_for
from codestill.recipes import load_recipe
from codestill.run import Run
from codestill.tasks import STOP_RULES, TasksConfig
from codestill.types import Example

TEMPLATE = (
    "{% for m in messages %}### {{ m.role }}\n{{ m.content }}<|endoftext|>\n{% endfor %}"
    "{% if add_generation_prompt %}### assistant\n{% endif %}"
)
STOP = STOP_RULES["definitions"]


@pytest.fixture
def chatting(tmp_path: Path) -> Path:
    """A pocket student whose tokenizer has a chat template."""
    student = StudentConfig(preset="pocket-0.1m").build(placement=CPU)
    student.tokenizer.chat_template = TEMPLATE
    return student.save(tmp_path / "chatting")


@pytest.mark.parametrize(
    ("recipe", "chats"),
    [
        ("sft", False),
        *((recipe, True) for recipe in ("sft", "logit_kd", "logit_kd cached", "persd", "amr_evol", "iterkd")),
    ],
)
def test_rows_have_the_form_of_the_evaluation(
    recipe: str, chats: bool, chatting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[tuple[Student, Example]] = []
    read: list[tuple[int, ...]] = []
    fit, prompt_of = codestill.train.loop.fit, codestill.train.loop.tokenize_within

    def watched(student: Student, examples: list[Example], *args: Any, **options: Any) -> Student:
        trained.extend((student, example) for example in examples)
        return fit(student, examples, *args, **options)

    def tokenized(limits: Any, examples: Any, codec: Any, *args: Any) -> Any:
        found = prompt_of(limits, examples, codec, *args)
        read.extend(tuple(row.tokens[: row.prompt_length]) for row in found[0])
        return found

    monkeypatch.setattr(codestill.train.loop, "fit", watched)
    monkeypatch.setattr(codestill.train.loop, "tokenize_within", tokenized)
    module = load_recipe(recipe.split()[0])
    student = {"model": str(chatting), "chat": "auto" if chats else False}
    settings = SETTINGS[recipe] | {"student": student}
    settings["train"] = settings["train"] | {"max_length": 1024}
    if "warm_up" in settings:
        settings["warm_up"] = {"tasks": TASKS, "train": settings["train"]}
    config = module.Config.model_validate(settings)
    with Run.open(tmp_path / "run", config) as run:
        student = module.distill(config, run)
    found = read_evaluation(tmp_path / "run" / "results" / "student.json")
    assert (found.chat is not None) == chats
    assert found.prompts == prompts_for(student).version
    assert all(asked.form == student.form == found.chat for asked, _ in trained)
    prompts = [student.codec.prompt(example.prompt) for _, example in trained]
    assert prompts and {tuple(ids) for ids in prompts} <= set(read)
    assert all(example.completion.startswith("```python\ndef ") == chats for _, example in trained)
    for _, example in trained:
        for faulty in example.faults:
            assert faulty.completion.startswith("```python\n") == chats


def test_a_row_reads_back_as_the_program_that_it_holds() -> None:
    """By the rule that reads the student's answers in evaluation."""
    from tests.support.forms import CHATS, CONTINUES

    tasks = TasksConfig.model_validate({"source": "pocket", "split": "train", "count": 20}).load()
    for student in (CHATS, CONTINUES):
        prompts = prompts_for(student)
        for task in tasks.tasks:
            whole = assemble(task.prompt, task.reference, task.entry_point)
            for completion in (task.reference, whole):
                answer = prompts.to_train(task, completion)
                text = prompts.read(answer, task, STOP)
                assert task.program(text).strip() == whole.strip()


def test_a_student_that_learnt_its_rows_solves_their_tasks(chatting: Path, tmp_path: Path) -> None:
    """Overfitted in its chat form, it solves the tasks when it is asked in it, and none as a continuation."""
    tasks = {"source": "pocket", "split": "train", "count": 4, "depths": [1]}
    reading = {"tasks": tasks, "samples_per_task": 1, "temperature": 0.01, "max_new_tokens": 96}
    reading |= {"profile": False}
    settings = SETTINGS["sft"] | {
        "student": str(chatting),
        "examples": {"tasks": tasks, "validation": None},
        "train": {"max_steps": 150, "batch_tokens": 2000, "accumulation": 1, "learning_rate": 3e-3},
        "evaluate": reading,
    }
    module = load_recipe("sft")
    config = module.Config.model_validate(settings)
    with Run.open(tmp_path / "run", config) as run:
        module.distill(config, run)
    found = read_evaluation(tmp_path / "run" / "results" / "student.json")
    assert found.pass_at[1].mean == 1.0, json.dumps(found.verdicts)
    model = {"model": str(tmp_path / "run" / "student"), "evaluate": reading, "execution": {"device": "cpu"}}
    for chat, score in (("auto", 1.0), (False, 0.0)):
        asked = EvaluateModel.model_validate(model | {"chat": chat})
        with Run.open(tmp_path / f"as-{chat}", asked) as run:
            assert evaluate_model(asked, run).pass_at[1].mean == score


def test_fresh_weights_continue_whatever_template_their_tokenizer_has(chatting: Path) -> None:
    tokenizer = StudentConfig(model=str(chatting)).build(placement=CPU).tokenizer
    assert StudentConfig(model=str(chatting), from_scratch=True).build(placement=CPU).form is None
    preset = StudentConfig(preset="pocket-0.1m").build(tokenizer, placement=CPU)
    assert tokenizer.chat_template and preset.form is None
    assert StudentConfig(preset="pocket-0.1m", chat=True).build(tokenizer, placement=CPU).form is not None


def test_a_base_model_with_the_template_of_its_chat_version_continues(chatting: Path) -> None:
    """Its end of sequence is another token than the one that ends the template's turns."""
    student = StudentConfig(model=str(chatting)).build(placement=CPU)
    assert student.form is not None
    student.tokenizer.chat_template = TEMPLATE.replace("<|endoftext|>", "<|pad|>")
    base = student.save(chatting.parent / "base")
    assert StudentConfig(model=str(base)).build(placement=CPU).form is None
    assert StudentConfig(model=str(base), chat=True).build(placement=CPU).codec.end == student.pad_id
    student.model.generation_config.eos_token_id = [student.pad_id]  # pyright: ignore
    assert StudentConfig(model=str(student.save(base))).build(placement=CPU).form is not None
    assert isinstance(ChatConfig().chat, str)
