"""Evaluation: gates first, then one pool of samples, its pass@k, and what the model costs to run."""

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
)

from codestill.attempt import Completer, attempt, execute, requests
from codestill.config import RunConfig
from codestill.errors import GateError, RunError, StageMismatch, TaskError
from codestill.models import Dtype, SamplingConfig
from codestill.prompts import CONTINUED, Prompts, PromptSetName, prompt_set
from codestill.run import Run, environment
from codestill.sandbox import Program, Sandbox, SandboxConfig
from codestill.scoring import bleu, interval, pass_at_k
from codestill.serialize import to_json, write_atomic
from codestill.tasks import Progress, TasksConfig, TaskSet, TasksReport, check_tasks, read_samples
from codestill.teachers import ApiTeacherConfig
from codestill.types import Attempt, Completion, Evaluation, Gates, Interval, ModelProfile

if TYPE_CHECKING:
    from collections.abc import Mapping


class EvaluateConfig(BaseModel):
    """How a model is evaluated."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    tasks: TasksConfig = Field(default_factory=lambda: TasksConfig.model_validate("humaneval"))
    """The task set: a name such as ``humaneval`` or ``mbpp:test``, or a file."""
    samples_per_task: PositiveInt = 10
    """Samples in one pool: pass@k is given for every k up to this number."""
    temperature: PositiveFloat = 0.2
    """Sampling temperature of the pool."""
    top_p: float = Field(default=0.95, gt=0, le=1)
    """Nucleus of the pool."""
    max_new_tokens: PositiveInt = 384
    """Longest completion, in tokens."""
    greedy: bool = True
    """Also complete every task greedily: greedy pass@1, and BLEU."""
    profile: bool = True
    """Measure latency, memory and size."""
    known_broken: tuple[str, ...] = ()
    """Task ids whose published reference fails its own tests: named in the result, still counted."""


@runtime_checkable
class Profiled(Protocol):
    """A model whose cost to run can be measured here."""

    def profile(self) -> ModelProfile: ...


_gates: "dict[tuple[str, str, SandboxConfig, tuple[str, ...]], Gates]" = {}


def check_gates(
    task_set: TaskSet,
    sandbox: Sandbox,
    known_broken: Sequence[str] = (),
    progress: Progress | None = None,
) -> Gates:
    """Pass counts of three known answers; measured once per task set and sandbox.

    Raises GateError when they show that a score on these tasks would be a lie.
    """
    key = (task_set.data_hash, sandbox.description, sandbox.config, tuple(known_broken))
    if key not in _gates:
        report = known_answers(task_set, sandbox, progress)
        broken = tuple(task_id for task_id in report.wrong("reference") if task_id in known_broken)
        gates = Gates(
            tasks=report.task_count,
            reference=report.reference_passes,
            empty=len(report.wrong("empty")),
            pass_body=len(report.wrong("pass-body")),
            broken=broken,
        )
        if why := gates.failure():
            unknown = [str(one) for one in report.findings if one.task_id not in broken][:5]
            raise GateError(
                "\n  ".join([f"the evaluation is invalid: {why}.", *unknown]),
                next_step="`codestill tasks check` lists all of them; name tasks with a broken reference in "
                "evaluate.known_broken.",
            )
        _gates[key] = gates
    return _gates[key]


def known_answers(task_set: TaskSet, sandbox: Sandbox, progress: Progress | None = None) -> TasksReport:
    """What the sandbox says of every task's reference, of an empty completion and of a bare pass body."""
    return check_tasks(
        task_set, lambda pairs: sandbox.run(Program.of(task, text) for task, text in pairs), progress
    )


def evaluate(
    model: Completer,
    name: str,
    config: EvaluateConfig,
    sandbox: Sandbox,
    run: Run,
    *,
    prompts: Prompts = CONTINUED,
) -> Evaluation:
    """Sample, execute and score ``model``; writes samples and ``results/<name>.json``.

    ``prompts`` say how it is asked and its answers are read. Raises GateError, before anything is sampled,
    when the task set fails its gates. An evaluation that this run already holds is read, not measured again.
    """
    task_set = config.tasks.load()
    _require_same_tasks(task_set, run)
    if run.result_path(name).exists():
        return read_evaluation(run.result_path(name))
    gates = check_gates(task_set, sandbox, config.known_broken, partial(run.progress, "gates"))
    write_atomic(run.tasks_path(task_set.name), _lines(task_set))
    pool_sampling = SamplingConfig(
        temperature=config.temperature, top_p=config.top_p, max_new_tokens=config.max_new_tokens
    )
    stage = f"evaluate-{name}"
    make = partial(attempt, model, task_set, sandbox, pool_sampling, run.seed, prompts=prompts)
    pool = run.stage(stage, Attempt, requests(task_set, config.samples_per_task, prompts), make)
    greedy: list[Attempt] = []
    if config.greedy:
        sampling = SamplingConfig(max_new_tokens=config.max_new_tokens)
        make = partial(attempt, model, task_set, sandbox, sampling, run.seed, prompts=prompts)
        greedy = run.stage(f"{stage}-greedy", Attempt, requests(task_set, prompts=prompts), make)
    profile = model.profile() if config.profile and isinstance(model, Profiled) else None
    return _conclude(
        name, model.name, task_set, task_set.stop.name, pool, greedy, gates, profile, config, sandbox, run
    )


def read_evaluation(path: Path) -> Evaluation:
    """The evaluation in a result file. Raises RunError when it is not one."""
    try:
        return Evaluation.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise RunError(
            f"{path} is not an evaluation: {error.errors()[0]['msg']}",
            next_step="Delete the file and run the same command again: the samples are kept.",
        ) from error


def _require_same_tasks(task_set: TaskSet, run: Run) -> None:
    """Refuse tasks other than those of this name that the run holds verdicts on."""
    path = run.tasks_path(task_set.name)
    if path.exists() and path.read_bytes() != _lines(task_set).encode():
        raise StageMismatch(
            f"{task_set.name} is not what it was when this run evaluated it: {path} differs.",
            next_step="Use another run directory for the changed tasks.",
        )


def _lines(task_set: TaskSet) -> str:
    return "".join(to_json(task) + "\n" for task in task_set.tasks)


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


def _conclude(
    name: str,
    model: str,
    task_set: TaskSet,
    stop_rule: str,
    pool: list[Attempt],
    greedy: list[Attempt],
    gates: Gates,
    profile: ModelProfile | None,
    config: EvaluateConfig,
    sandbox: Sandbox,
    run: Run,
) -> Evaluation:
    counts = _counts(task_set, pool, group=None)
    plus = any(test.group != "base" for task in task_set.tasks for test in task.tests)
    base = _counts(task_set, pool, group="base") if plus else {}
    samples = len(pool) // len(task_set.tasks)
    compared = {a.task_id: a.completion.text for a in reversed(greedy or pool)}
    score, signature = bleu(
        [compared[task.task_id] for task in task_set.tasks], [task.reference for task in task_set.tasks]
    )
    result = Evaluation(
        model=model,
        tasks=task_set.name,
        task_count=len(task_set.tasks),
        subset=task_set.subset,
        samples_per_task=samples,
        temperature=config.temperature,
        top_p=config.top_p,
        pass_at=_pass_at(counts, samples),
        pass_at_base=_pass_at(base, samples) if base else {},
        greedy=interval([float(a.result.passed) for a in greedy]) if greedy else None,
        per_task=counts,
        greedy_per_task={a.task_id: a.result.passed for a in greedy},
        by_difficulty=_by_difficulty(task_set, counts),
        verdicts=dict(sorted(Counter(a.result.verdict for a in pool).items())),
        bleu=score,
        bleu_signature=signature,
        profile=profile,
        gates=gates,
        data_hash=task_set.data_hash,
        prompt_mode=task_set.prompt_mode,
        stop_rule=stop_rule,
        sandbox=sandbox.description,
        versions=environment(),
        seed=run.seed,
    )
    lines = [to_json({"task_id": a.task_id, "completion": a.completion.text}) for a in pool]
    write_atomic(run.samples_path(name), "\n".join(lines) + "\n")
    write_atomic(run.result_path(name), result.model_dump_json(indent=1) + "\n")
    run.log("evaluate", metrics={f"{name}/pass@{k}": value.mean for k, value in result.pass_at.items()})
    return result


def _counts(task_set: TaskSet, pool: list[Attempt], group: str | None) -> dict[str, tuple[int, int]]:
    """Task id -> (samples, passed); with a group, only that group's tests count."""
    tests = {task.task_id: task.tests for task in task_set.tasks}
    samples: Counter[str] = Counter()
    passed: Counter[str] = Counter()
    for one in pool:
        samples[one.task_id] += 1
        wanted = tests[one.task_id]
        if group is None:
            ok = one.result.passed
        else:
            ran = dict(enumerate(one.result.tests))
            ok = all(
                index in ran and ran[index].verdict == "pass"
                for index, test in enumerate(wanted)
                if test.group == group
            )
        passed[one.task_id] += ok
    return {task.task_id: (samples[task.task_id], passed[task.task_id]) for task in task_set.tasks}


def _pass_at(counts: dict[str, tuple[int, int]], samples: int) -> dict[int, Interval]:
    return {
        k: interval([pass_at_k(n, passed, k) for n, passed in counts.values()]) for k in range(1, samples + 1)
    }


def _by_difficulty(task_set: TaskSet, counts: dict[str, tuple[int, int]]) -> dict[str, Interval]:
    """pass@1 by each number-valued or text-valued difficulty, e.g. ``depth=3``."""
    groups: dict[str, list[float]] = {}
    for task in task_set.tasks:
        n, passed = counts[task.task_id]
        for name, value in task.difficulty.items():
            if isinstance(value, int | str):
                groups.setdefault(f"{name}={value}", []).append(passed / n)
    return {name: interval(values) for name, values in sorted(groups.items())}


class EvaluateModel(RunConfig):
    """The evaluation of a model as it stands."""

    recipe: Literal["evaluate"] = "evaluate"
    """What kind of run this is."""
    model: str
    """A directory or hub id of a causal language model; ``pocket`` is the bundled teacher."""
    role: Literal["student", "teacher"] = "student"
    """A report gives every student's ratios to its teacher."""
    dtype: Dtype = "float32"
    """Type of the weights in memory."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Read that code first."""
    served: ApiTeacherConfig | None = None
    """Nothing is loaded: `model` answers behind this OpenAI-compatible endpoint, vLLM's for one."""
    prompts: PromptSetName | Prompts = "continued"
    """How it is asked; `instruct` for a model that answers in words."""
    evaluate: EvaluateConfig = EvaluateConfig()
    """How it is evaluated."""


def evaluate_model(config: EvaluateModel, run: Run) -> Evaluation:
    """Load the model and evaluate it, unless the run already holds the result."""
    if run.result_path(config.role).exists():
        _require_same_tasks(config.evaluate.tasks.load(), run)
        return read_evaluation(run.result_path(config.role))
    model = _loaded(config) if config.served is None else _served(config, config.served, run)
    prompts = prompt_set(config.prompts)
    with config.execution.sandbox(config.sandbox) as sandbox:
        return evaluate(model, config.role, config.evaluate, sandbox, run, prompts=prompts)


def _loaded(config: EvaluateModel) -> Completer:
    from codestill.models.student import Student

    return Student.load(
        config.model,
        dtype=config.dtype,
        trust_remote_code=config.trust_remote_code,
        device=config.execution.device,
    )


def _served(config: EvaluateModel, served: ApiTeacherConfig, run: Run) -> Completer:
    """The endpoint, its answers kept in the run and counted in its ledger."""
    from codestill.teachers.desk import TeachingConfig, open_desk

    named = served.model_copy(update={"model": config.model})
    return open_desk(named, TeachingConfig(), config.execution.device, run).at("evaluate")


class ScoreSamples(RunConfig):
    """The evaluation of completions that were made elsewhere."""

    recipe: Literal["score_samples"] = "score_samples"
    """What kind of run this is."""
    samples: Path
    """HumanEval-format JSONL: ``task_id`` and ``completion`` (or EvalPlus's ``solution``)."""
    evaluate: EvaluateConfig = EvaluateConfig()
    """The task set; settings of sampling do not apply."""


def score_samples(config: ScoreSamples, run: Run) -> Evaluation:
    """Execute and score the completions of a samples file; torch is not needed.

    Raises TaskError when tasks are missing, unknown, or unevenly sampled; StageMismatch when the run
    holds verdicts on other completions or tasks.
    """
    task_set = config.evaluate.tasks.load()
    counts: Counter[str] = Counter()
    completions = []
    for task_id, text in read_samples(config.samples):
        completions.append(Completion(task_id=task_id, sample=counts[task_id], text=text))
        counts[task_id] += 1
    _require_even(config.samples, task_set, counts)
    _require_same_tasks(task_set, run)
    with config.execution.sandbox(config.sandbox) as sandbox:
        progress = partial(run.progress, "gates")
        gated = partial(check_gates, task_set, sandbox, config.evaluate.known_broken, progress)

        def executed(owed: Sequence[Completion]) -> Iterable[Attempt]:
            gated()
            write_atomic(run.tasks_path(task_set.name), _lines(task_set))
            run.result_path("student").unlink(missing_ok=True)  # of verdicts that somebody deleted
            return execute(sandbox, task_set, owed)

        pool = run.stage("evaluate-student", Attempt, completions, executed)
        if run.result_path("student").exists():
            return read_evaluation(run.result_path("student"))
        gates = gated()
        name, settings = config.samples.name, config.evaluate
        return _conclude("student", name, task_set, "none", pool, [], gates, None, settings, sandbox, run)
