"""From a teacher, a student and tasks: which recipe suits them, and the comparison that runs it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from codestill.compare import ArmConfig, CompareConfig
from codestill.config import RunConfig, merged
from codestill.configs import recipe_configs
from codestill.errors import ConfigError, VocabularyError
from codestill.evaluation import EvaluateConfig
from codestill.files.serialize import is_object
from codestill.files.strict_yaml import load_yaml
from codestill.models import StudentConfig
from codestill.openai_client import require_answer, served_models
from codestill.planning.memory import adapted
from codestill.planning.split import parts
from codestill.pocket import BUNDLED
from codestill.recipes import load_recipe
from codestill.run import Run
from codestill.tasks import TasksConfig, write_tasks
from codestill.tasks.preflight import preflight
from codestill.teachers import ApiTeacherConfig
from codestill.teachers.session import AnyTeacherConfig, TeacherUsage
from codestill.train import TrainConfig
from codestill.types import Task

Method = Literal["logit_kd", "persd", "sft"]
_FROM_TEXT = (
    "the student learns from the teacher's answers that pass the tests, and from its repairs of the "
    "student's own attempts"
)


class DistilConfig(RunConfig):
    """Teach a student what a teacher knows about tasks: choose a recipe, run it, and evaluate the student
    before and after on tasks that are held out."""

    teacher: AnyTeacherConfig
    """The model that teaches: a directory, GGUF file or hub id, or an OpenAI-compatible endpoint."""
    student: StudentConfig
    """The model that learns."""
    tasks: TasksConfig
    """What it learns: your own file, or a task set with a training split."""
    held_out: TasksConfig | None = None
    """What it is evaluated on (default: the tasks' own test split; of a file without one, `share` of it)."""
    share: float = Field(default=0.2, gt=0, lt=1)
    """How much of a file without test tasks is held out."""
    recipe: Method | Literal["auto"] = "auto"
    """How it learns; ``auto`` takes what the teacher and the vocabularies allow, and says why."""
    score_teacher: bool = True
    """Evaluate the teacher, too: what there is to reach."""
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    """Training seeds, a run each."""
    teacher_usage: TeacherUsage = TeacherUsage()
    """What is kept of the teacher's answers, and their budget."""
    train: TrainConfig = TrainConfig()
    """How the student is trained; what is not set is as suits the recipe and the student."""
    evaluate: EvaluateConfig = EvaluateConfig()
    """How models are evaluated; what is not set is as suits them."""

    @model_validator(mode="after")
    def _names_what_is_held_out(self) -> Self:
        if "tasks" in self.evaluate.model_fields_set:
            raise ValueError("evaluate.tasks: what is evaluated on is named by held_out")
        return self

    @property
    def name(self) -> str:
        """The teacher's and the student's, for a directory."""
        return f"distil-{Path(self.teacher.model).name}-{_name(self.student)}"

    def asked(self) -> Self:
        """The same with the model's name where an endpoint serves only one and none is given. Raises
        ConfigError where it serves several, TeacherError where it does not say."""
        teacher = self.teacher
        if not isinstance(teacher, ApiTeacherConfig) or "model" in teacher.model_fields_set:
            return self
        require_answer(teacher.base_url, "teacher", teacher.key_variable)
        served = served_models(teacher.base_url, teacher.timeout_seconds, teacher.key_variable)
        if len(served) != 1:
            shown = f": {', '.join(served[:8])}" if served else ""
            raise ConfigError(
                f"the endpoint lists {len(served) or 'no'} models{shown}.",
                next_step="Name one with --teacher.model.",
            )
        teacher = ApiTeacherConfig.model_validate(
            teacher.model_dump(exclude_unset=True) | {"model": served[0]}
        )
        return self.model_copy(update={"teacher": teacher})


@dataclass(frozen=True)
class Choice:
    """What is done, and why."""

    recipe: Method
    reasons: tuple[str, ...]
    """Sentences."""
    comparison: CompareConfig
    """The student before and after, and the teacher."""
    files: Mapping[Path, Sequence[Task]]
    """Tasks that the comparison reads from files of its own."""

    def begin(self, directory: Path) -> None:
        """Make the comparison's directory, with its files."""
        with Run.open(directory, self.comparison):
            for path, tasks in self.files.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                write_tasks(path, tasks)


def choose(config: DistilConfig, directory: Path) -> Choice:
    """Decide on a recipe and its settings; no weights are loaded, and nothing is written. The parts of own
    tasks are to be files below ``directory``.

    Raises ConfigError where the job cannot be done, ModelError for a model that cannot be read, TaskError for
    tasks that cannot.
    """
    recipe, why = _recipe(config)
    settings, origin = _settings(recipe, config.student)
    if settings.get("teacher", {}).get("model") != config.teacher.model:
        settings.pop("teacher", None)  # they are for another
    student, fits = _fitting(config)
    train, held_out, divided, files = parts(config.tasks, config.held_out, config.share, directory / "given")
    values = merged(
        settings,
        {
            "student": student,
            "teacher": _given(config.teacher),
            "teacher_usage": _given(config.teacher_usage),
            "train": _given(config.train),
            "evaluate": _given(config.evaluate) | {"tasks": held_out},
        },
    )
    values = merged(values, {"tasks": train} if recipe == "persd" else {"examples": {"tasks": train}})
    if recipe == "logit_kd" and isinstance(config.teacher, ApiTeacherConfig):
        values["teacher_logits"] = "cached"  # they come with its answers
    if "adapter" in student and "learning_rate" not in config.train.model_fields_set:
        values["train"]["learning_rate"] = None  # an adapter has one of its own
    model = load_recipe(recipe).Config
    run = model.model_validate(values | {"sandbox": config.sandbox})
    if not files:  # else they are parts of one set, and still to be written
        preflight(run)
    return Choice(
        recipe=recipe,
        reasons=(why, *fits, divided, origin),
        files=files,
        comparison=CompareConfig(
            title=f"{_name(config.student)}, taught by {config.teacher.model}",
            arms=tuple(_arms(config, recipe, student, values)),
            seeds=config.seeds,
            teacher="teacher" if config.score_teacher else None,
            differences=() if _is_fresh(config.student) else (("after", "before"),),
            evaluate=run.evaluate,
            sandbox=config.sandbox,
            execution=config.execution,
        ),
    )


def _recipe(config: DistilConfig) -> tuple[Method, str]:
    """The recipe, and why."""
    if config.recipe != "auto":
        return config.recipe, f"{config.recipe}, as was asked for"
    teacher = config.teacher
    if isinstance(teacher, ApiTeacherConfig) and teacher.logprobs is None:
        if _is_fresh(config.student):
            return "sft", (
                "sft: an endpoint gives text alone, and a student with fresh weights makes no attempts that "
                "could be repaired: it learns from the teacher's answers that pass the tests"
            )
        return "persd", (
            "persd: an endpoint gives text alone (set teacher.logprobs if it lists the likeliest tokens), so "
            f"{_FROM_TEXT}"
        )
    if _is_fresh(config.student) and config.student.tokenizer is None:
        return "logit_kd", (
            "logit_kd: the student's weights are fresh, so it takes the teacher's vocabulary and learns its "
            "probabilities"
        )
    if differs := _vocabularies_differ(config):
        return "persd", f"persd: the vocabularies differ, so {_FROM_TEXT}. {differs}"
    return "logit_kd", (
        "logit_kd: both have one vocabulary, so the student learns the teacher's probabilities on its "
        "answers that pass the tests"
    )


def _is_fresh(student: StudentConfig) -> bool:
    return student.preset is not None or student.from_scratch


def _is_pocket(student: StudentConfig) -> bool:
    return student.model in BUNDLED or (student.preset or "").startswith("pocket")


def _name(student: StudentConfig) -> str:
    return Path(student.preset or student.model or "").name


def _given(settings: Any) -> dict[str, Any]:
    """The settings that were given; of a choice its name, too. An address keeps its credentials."""
    kind = {"type": settings.type} if hasattr(settings, "type") else {}
    address = {"base_url": settings.base_url} if "base_url" in settings.model_fields_set else {}
    return kind | settings.model_dump(mode="json", exclude_unset=True) | address


def _vocabularies_differ(config: DistilConfig) -> str:
    """How the vocabularies differ, as a sentence; empty where they do not."""
    from codestill.models.load import load_config, resolve
    from codestill.models.tokenizers import load_tokenizer
    from codestill.teachers import require_same_vocabulary
    from codestill.teachers.forms import tokenizer_of

    student, teacher = config.student, config.teacher
    place = resolve(student.model or "", weights=not student.tokenizer)
    ours = load_tokenizer(resolve(student.tokenizer, weights=False) if student.tokenizer else place)
    width = load_config(
        place, revision=student.revision, trust_remote_code=student.trust_remote_code
    ).vocab_size
    theirs = tokenizer_of(teacher)
    other = width
    if not isinstance(teacher, ApiTeacherConfig):
        code = teacher.trust_remote_code
        of_teacher = load_config(resolve(teacher.model), revision=teacher.revision, trust_remote_code=code)
        other = of_teacher.vocab_size
    try:
        require_same_vocabulary(ours, theirs, width, other)
    except VocabularyError as error:
        return error.message
    return ""


def _settings(recipe: Method, student: StudentConfig) -> tuple[dict[str, Any], str]:
    """The bundled settings for a student of this kind, and which they are."""
    if _is_fresh(student) and not _is_pocket(student):
        return {}, "settings: the recipe's defaults, which are for students with fresh weights"
    kind = "pocket" if _is_pocket(student) else "real"
    path = recipe_configs(recipe).get(kind)
    if path is None:
        return {}, "settings: the recipe's defaults"
    values = load_yaml(path.read_text(encoding="utf-8"))
    assert is_object(values), "bundled"
    return values, f"settings: --config {kind} of {recipe}"


def _fitting(config: DistilConfig) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The student's settings, with an adapter where its own weights cannot be trained on this machine."""
    student = _given(config.student)
    if _is_fresh(config.student) or config.student.adapter or config.student.layers:
        return student, ()
    from codestill.models.load import load_config, pick_device, resolve
    from codestill.models.presets import size_row
    from codestill.models.room import total_bytes

    place = resolve(config.student.model or "")
    code = config.student.trust_remote_code
    shape = load_config(place, revision=config.student.revision, trust_remote_code=code)
    return adapted(
        student,
        size_row(_name(config.student), shape).parameters,
        total_bytes(pick_device(config.execution.device)),
    )


def _arms(
    config: DistilConfig, recipe: Method, student: Mapping[str, Any], values: dict[str, Any]
) -> Iterator[ArmConfig]:
    if config.score_teacher:
        served = isinstance(config.teacher, ApiTeacherConfig)
        how = {"served": _given(config.teacher)} if served else {}
        yield ArmConfig(name="teacher", model=config.teacher.model, config=how)
    if not _is_fresh(config.student):
        same = {k: v for k, v in student.items() if k in ("revision", "dtype", "trust_remote_code", "chat")}
        yield ArmConfig(name="before", model=config.student.model, config=same)
    trained = {k: v for k, v in values.items() if k not in ("sandbox", "execution", "evaluate", "seed")}
    yield ArmConfig(name="after", recipe=recipe, config=trained)
