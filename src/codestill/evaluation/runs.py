"""Evaluation as a run of its own: of a model as it stands, or of completions that were made elsewhere."""

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from pydantic import model_validator

from codestill.attempt import Workbench, execute
from codestill.config import RunConfig
from codestill.errors import TaskError
from codestill.evaluation.evaluate import (
    EvaluateConfig,
    ExecutedSamples,
    conclude,
    evaluate,
    keep_tasks,
    read_evaluation,
    require_same_tasks,
)
from codestill.evaluation.gates import check_gates
from codestill.evaluation.samples import Form, form_of, read_as
from codestill.models import ChatConfig, Completer, Dtype, StudentConfig
from codestill.prompts import PromptsSetting, fitting, prompts_for
from codestill.run import Run
from codestill.tasks import TaskSet, read_samples
from codestill.teachers import ApiTeacherConfig
from codestill.teachers.session import TeacherUsage, open_session
from codestill.types import Attempt, Completion, Evaluation

if TYPE_CHECKING:
    from collections.abc import Mapping


def _require_even(path: Path, task_set: TaskSet, counts: "Mapping[str, int]") -> None:
    known = {task.task_id for task in task_set.tasks}
    unknown, missing = sorted(counts.keys() - known), sorted(known - counts.keys())
    if unknown or missing:
        what = f"has task {unknown[0]!r}, which is not in" if unknown else f"lacks task {missing[0]!r} of"
        raise TaskError(
            f"{path} {what} {task_set.name} ({len(unknown)} unknown, {len(missing)} missing).",
            next_step="Score it with the task set it was made for; every task needs a sample.",
        )
    if len(set(counts.values())) > 1:
        raise TaskError(
            f"{path} has between {min(counts.values())} and {max(counts.values())} samples per task.",
            next_step="pass@k needs one pool: give every task the same number of samples.",
        )


class EvaluateModel(ChatConfig, RunConfig):
    """The evaluation of a model as it stands."""

    recipe: Literal["evaluate"] = "evaluate"
    """What kind of run this is."""
    model: str
    """A directory, GGUF file or hub id of a causal language model; ``pocket`` is the bundled teacher."""
    role: Literal["student", "teacher"] = "student"
    """A report gives every student's ratios to its teacher."""
    revision: str | None = None
    """Branch, tag or commit of `model` on the hub."""
    dtype: Dtype = "float32"
    """Type of the weights in memory."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Read that code first."""
    served: ApiTeacherConfig | None = None
    """Nothing is loaded: `model` answers behind this OpenAI-compatible endpoint, vLLM's for one."""
    prompts: PromptsSetting = "auto"
    """How it is prompted: `continued`, `instruct`, or ``auto``, which suits it."""
    evaluate: EvaluateConfig = EvaluateConfig()
    """How it is evaluated."""

    @model_validator(mode="after")
    def _chat_of_weights(self) -> Self:
        unused = [*(["chat"] if self.chat != "auto" else []), *self.own]
        if self.served is not None and unused:
            raise ValueError(f"{unused[0]}: a served model applies its own template; set served.endpoint")
        if self.served is not None and self.evaluate.likelihood is not None:
            raise ValueError("evaluate.likelihood: a served model answers with text alone")
        if self.served is not None and self.evaluate.draft_for is not None:
            raise ValueError("evaluate.draft_for: a served model answers with text alone")
        return self


def evaluate_model(config: EvaluateModel, run: Run) -> Evaluation:
    """Load the model and evaluate it, unless the run already holds the result."""
    if run.result_path(config.role).exists():
        require_same_tasks(config.evaluate.tasks.load(), run)
        return read_evaluation(run.result_path(config.role))
    config.preflight(run)
    model = _loaded(config, run) if config.served is None else _served(config, config.served, run)
    prompts = prompts_for(model, config.prompts)
    with config.execution.sandbox(config.sandbox) as sandbox:
        return evaluate(model, config.role, config.evaluate, sandbox, run, prompts=prompts)


def _loaded(config: EvaluateModel, run: Run) -> Completer:
    """The model, asked as the settings say; what ``auto`` chose is told."""
    given = StudentConfig.shared_with(config)
    student = fitting(given, config.prompts).build(placement=config.execution)
    if student.tokenizer.chat_template:
        way = "in the tokenizer's chat template" if student.form else "as texts to continue"
        run.message("evaluate", f"the model is asked {way}")
    return student


def _served(config: EvaluateModel, served: ApiTeacherConfig, run: Run) -> Completer:
    """The endpoint; its answers are kept in the run and counted in its ledger."""
    named = served.model_copy(update={"model": config.model})
    return open_session(named, TeacherUsage(), config.execution, run).stage("evaluate")


class ScoreSamples(RunConfig):
    """The evaluation of completions that were made elsewhere."""

    recipe: Literal["score_samples"] = "score_samples"
    """What kind of run this is."""
    samples: Path
    """HumanEval-format JSONL: ``task_id`` and ``completion`` (or EvalPlus's ``solution``)."""
    form: Form | Literal["auto"] = "auto"
    """What the texts are: ``completion`` (they continue the prompt, or are whole programs), ``answer`` (chat
    answers, with fences or prose), ``stripped`` (the first line lost its indentation). ``auto`` takes the
    form in which most are programs, and says so where that is not ``completion``."""
    evaluate: EvaluateConfig = EvaluateConfig()
    """The task set; settings of sampling do not apply."""

    @model_validator(mode="after")
    def _texts_alone(self) -> Self:
        if self.evaluate.draft_for is not None:
            raise ValueError("evaluate.draft_for: completions made elsewhere have no probabilities")
        return self


def score_samples(config: ScoreSamples, run: Run) -> Evaluation:
    """Execute and score the completions of a samples file; torch is not needed.

    Raises TaskError when tasks are missing, unknown, or unevenly sampled; StageMismatch when the run
    holds verdicts on other completions or tasks.
    """
    task_set = config.evaluate.tasks.load()
    samples = read_samples(config.samples)
    _require_even(config.samples, task_set, Counter(task_id for task_id, _ in samples))
    completions, told = _completions(config, task_set, samples)
    require_same_tasks(task_set, run)
    with config.execution.sandbox(config.sandbox) as sandbox:
        workbench = Workbench(sandbox, run)
        progress = partial(run.progress, "gates")
        gated = partial(check_gates, task_set, sandbox, config.evaluate.known_broken, progress)

        def executed(owed: Sequence[Completion]) -> Iterable[Attempt]:
            gated()
            keep_tasks(task_set, run)
            run.result_path("student").unlink(missing_ok=True)  # of verdicts that somebody deleted
            return execute(sandbox, task_set, owed)

        pool = run.stage("evaluate-student", Attempt, completions, executed)
        if run.result_path("student").exists():
            return read_evaluation(run.result_path("student"))
        executed_samples = ExecutedSamples(
            "student", config.samples.name, task_set, "none", pool, greedy=[], warnings=told
        )
        return conclude(executed_samples, gated(), config.evaluate, workbench)


def _completions(
    config: ScoreSamples, task_set: TaskSet, samples: Sequence[tuple[str, str]]
) -> tuple[list[Completion], tuple[str, ...]]:
    """The samples' completions, numbered by task, and what to tell of their form."""
    tasks = task_set.by_id
    form = config.form
    if form == "auto":
        form = form_of([(tasks[task_id], text) for task_id, text in samples])
    told = ()
    if form != config.form and form != "completion":
        told = (
            f"{config.samples.name}: as they stand, hardly a text is a program; they are read as `{form}` "
            "(--form completion scores them as they stand).",
        )
    numbers: Counter[str] = Counter()
    completions: list[Completion] = []
    for task_id, text in samples:
        read = read_as(form, text, tasks[task_id])
        raw = "" if read == text else text
        completions.append(Completion(task_id=task_id, sample=numbers[task_id], text=read, raw=raw))
        numbers[task_id] += 1
    return completions, told
