"""Rows that are trained on have the form in which the student is evaluated."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.recipes import SETTINGS, TASKS
from tests.support.tiny import CPU
from transformers import AutoModelForCausalLM

import codestill.train.loop
from codestill.assembly import assemble
from codestill.capture import CaptureRun
from codestill.compare import CompareConfig, SweepConfig, plan
from codestill.config import RunConfig
from codestill.errors import ConfigError, ModelError, StageMismatch
from codestill.evaluation import EvaluateConfig, EvaluateModel, evaluate, evaluate_model, read_evaluation
from codestill.files.serialize import read_jsonl
from codestill.models import ChatConfig, StudentConfig
from codestill.models.chat import ChatCodec
from codestill.models.student import Student
from codestill.prompts import CONTINUED, prompts_for
from codestill.recipes import load_recipe
from codestill.recipes.persd.self_repair import SelfRepair, SelfRepairConfig
from codestill.run import Run
from codestill.sandbox import Sandbox, SandboxConfig
from codestill.tasks import STOP_RULES, TasksConfig
from codestill.teachers import LocalTeacherConfig
from codestill.types import Attempt, Example

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
    place = student.save(tmp_path / "chatting")
    (place / "codestill.json").unlink()  # somebody else's model
    return place


@pytest.mark.parametrize(
    ("recipe", "chats"),
    [
        ("sft", False),
        *((recipe, True) for recipe in ("sft", "logit_kd", "logit_kd cached", "persd", "amr_evol", "iterkd")),
        pytest.param("opd", False, marks=pytest.mark.slow),
        ("opd", True),
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
    if settings.get("teacher_logits") == "cached":
        settings["cache"] = {"max_length": 1024}
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
    attempts = {
        f"{path.parent.name}/{attempt.key}": attempt.completion
        for path in (tmp_path / "run" / "stages").glob("round-*/attempts.jsonl")
        for attempt in (read_jsonl(path, Attempt) if recipe == "opd" else ())
    }
    own = [example for _, example in trained if example.source == "attempt"]
    assert bool(own) == (recipe == "opd")
    for example in own:  # as the student wrote it
        completion = attempts[example.example_id]
        assert example.completion == ((chats and completion.raw) or completion.text)
    others = [example for _, example in trained if example.source != "attempt"]
    assert others and all(one.completion.startswith("```python\ndef ") == chats for one in others)
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
        "examples": {
            "tasks": tasks,
            "validation": None,
            "allow_test_split": True,
        },  # the same tasks, on purpose
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


REFERENCES: dict[str, Any] = {"answers": "reference", "tasks": TASKS, "validation": None}
TAUGHT = SETTINGS["sft"]["examples"] | {"unsolved": "drop"}
WARM_UP = {"tasks": TASKS, "train": SETTINGS["persd"]["train"] | {"max_length": 1024}}


@pytest.mark.parametrize(
    ("recipe", "chats", "settings", "warned"),
    [
        ("sft", True, {"examples": REFERENCES}, True),
        ("logit_kd", True, {"examples": REFERENCES}, True),
        ("persd", True, {"warm_up": WARM_UP}, True),
        ("sft", False, {"examples": REFERENCES}, False),
        ("sft", True, {"examples": TAUGHT}, False),
        ("logit_kd", True, {"examples": TAUGHT}, False),
        ("persd", True, {"warm_up": None}, False),
    ],
)
def test_a_chat_model_is_not_trained_on_references_without_a_word(
    recipe: str, chats: bool, settings: dict[str, Any], warned: bool, chatting: Path, tmp_path: Path
) -> None:
    module = load_recipe(recipe)
    student = {"model": str(chatting), "chat": "auto" if chats else False}
    given = SETTINGS[recipe] | {"student": student} | settings
    config = module.Config.model_validate(given | {"train": given["train"] | {"max_length": 1024}})
    with Run.open(tmp_path / "run", config) as run:
        module.distill(config, run)
    events = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    said = [n for n, event in enumerate(events) if "answers=teacher" in (event["message"] or "")]
    assert len(said) == warned
    steps = [n for n, event in enumerate(events) if event["kind"] == "metrics" and "loss" in event["metrics"]]
    for number in said:
        assert number < steps[0]  # before it is trained
        assert "5 of 5 examples" in events[number]["message"]


def test_a_saved_student_is_asked_as_it_was_trained(chatting: Path, tmp_path: Path) -> None:
    """By whoever loads it; and whatever its tokenizer's template would say."""
    for given, chats in (({"chat": False}, False), ({"system_prompt": "Be brief."}, True)):
        student = StudentConfig.model_validate({"model": str(chatting), **given}).build(placement=CPU)
        again = StudentConfig(model=str(student.save(tmp_path / "saved"))).build(placement=CPU)
        assert (again.form is not None) == chats
        assert again.form == student.form and again.codec.prompt("x") == student.codec.prompt("x")
        plain = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
        assert not chats or student.codec.end in plain.generation_config.eos_token_id
    preset = StudentConfig(preset="pocket-0.1m").build(again.tokenizer, placement=CPU)
    assert StudentConfig(model=str(preset.save(tmp_path / "fresh"))).build(placement=CPU).form is None
    (tmp_path / "fresh" / "codestill.json").write_text('{"chat": 3}')
    with pytest.raises(ModelError, match=r"codestill\.json does not say how the model is asked"):
        StudentConfig(model=str(tmp_path / "fresh")).build(placement=CPU)


@pytest.mark.parametrize(
    "config",
    [
        StudentConfig(model="pocket"),
        StudentConfig(model="pocket", chat=False),
        LocalTeacherConfig(model="pocket"),
        EvaluateModel(model="pocket", chat=False),
        EvaluateModel.model_validate({"model": "m", "served": {"base_url": "http://localhost/v1"}}),
        CaptureRun(),
        ChatConfig(reasoning=False, system_prompt=""),
    ],
    ids=lambda config: type(config).__name__,
)
def test_settings_that_are_read_back_mean_the_same(config: ChatConfig) -> None:
    """A run's config.yaml holds every default; so does a comparison's teacher."""
    again = type(config).model_validate(config.model_dump(mode="json"))
    assert again == config and again.own == config.own


def test_the_teacher_of_a_comparison_is_asked_as_it_teaches(tmp_path: Path) -> None:
    arms = [{"name": "teacher", "model": "pocket"}, {"name": "a", "recipe": "persd", "config": {}}]
    for prompts, chat in (("continued", False), ("auto", "auto")):
        arms[1]["config"] = {"teacher": "pocket", "prompts": prompts}
        given = {"title": "t", "arms": arms, "teacher": "teacher", "seeds": [0]}
        (run,) = plan(CompareConfig.model_validate(given))["teacher"]
        assert run.config.chat == chat and not run.config.own
    sweep = SweepConfig(teacher=LocalTeacherConfig(model="pocket", chat=False), students=("pocket-0.1m",))
    assert all(
        run.config.teacher.chat is False for run in plan(sweep.comparison())["pocket-0.1m T=1 alpha=0.1"]
    )


DATED = (
    "{{ strftime_now('%d %B %Y') }}{% if date_string is defined %} {{ date_string }}{% endif %}" + TEMPLATE
)


def test_the_date_of_a_template_is_always_the_same(chatting: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    student = StudentConfig(model=str(chatting)).build(placement=CPU)
    student.tokenizer.chat_template = DATED
    codec = ChatCodec(student.tokenizer, ChatConfig())
    assert codec.render("x").startswith("26 July 2024 26 Jul 2024### user")
    assert codec.form == ChatCodec(student.tokenizer, ChatConfig()).form


@pytest.mark.parametrize(
    ("template", "end"),
    [
        (TEMPLATE, "<|endoftext|>"),
        (TEMPLATE.replace("{{ m.content }}", "{{ m.content | upper }}"), None),
        ("{% if messages[-1].role != 'user' %}{{ raise_exception('no') }}{% endif %}" + TEMPLATE, None),
        ("{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}", None),
    ],
    ids=["ends", "changes the answer", "takes no answer", "has no control token"],
)
def test_what_ends_a_turn(template: str, end: str | None, chatting: Path) -> None:
    student = StudentConfig(model=str(chatting), chat=False).build(placement=CPU)
    student.tokenizer.chat_template = template
    codec = ChatCodec(student.tokenizer, ChatConfig())
    assert codec.turn_end == (None if end is None else student.tokenizer.convert_tokens_to_ids(end))
    assert codec.end == student.tokenizer.eos_token_id
    chosen = replace(student, saved_form=None).asked_as(ChatConfig(), "chat")
    assert (chosen.form is not None) == (end is not None)


def test_finished_results_of_a_model_that_is_asked_otherwise_are_refused(
    chatting: Path, tmp_path: Path
) -> None:
    evaluation = EvaluateConfig.model_validate(SETTINGS["sft"]["evaluate"])
    student = StudentConfig(model=str(chatting)).build(placement=CPU)
    with Sandbox(SandboxConfig(), workers=1) as box, Run.open(tmp_path / "run", RunConfig()) as run:
        first = evaluate(student, "student", evaluation, box, run)
        assert evaluate(student, "student", evaluation, box, run) == first
        for other, prompts in ((replace(student, chat=None), None), (student, CONTINUED)):
            with pytest.raises(StageMismatch, match="asked otherwise"):
                evaluate(other, "student", evaluation, box, run, prompts=prompts)


def test_an_editor_of_another_form_is_refused(chatting: Path) -> None:
    student = StudentConfig(model=str(chatting)).build(placement=CPU)
    with pytest.raises(ConfigError, match="not asked in the same form"):
        SelfRepair(student, None, None, SelfRepairConfig(), editor=replace(student, chat=None))  # pyright: ignore


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
    student = replace(student, chat=None)
    base = student.save(chatting.parent / "base")
    (base / "codestill.json").unlink()
    assert StudentConfig(model=str(base)).build(placement=CPU).form is None
    assert StudentConfig(model=str(base), chat=True).build(placement=CPU).codec.end == student.pad_id
    student.model.generation_config.eos_token_id = [student.pad_id]  # pyright: ignore
    (student.save(base) / "codestill.json").unlink()
    assert StudentConfig(model=str(base)).build(placement=CPU).form is not None
    assert isinstance(ChatConfig().chat, str)
