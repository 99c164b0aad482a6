"""Evaluation: gates first, then one pool of samples, its pass@k, and what the model costs to run."""

from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol, Self, runtime_checkable

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from codestill.attempt import Workbench
from codestill.environment import environment
from codestill.errors import StageMismatch
from codestill.evaluation.draft import DraftConfig, Drafting
from codestill.evaluation.gates import check_gates
from codestill.evaluation.likelihood import nats_per_byte, require_weights
from codestill.evaluation.metrics import bleu, interval, pass_at_k
from codestill.files.serialize import read_jsonl, read_record, sealed_lines, write_jsonl, write_object
from codestill.models import Completer, SamplingConfig
from codestill.pace import LATENCY
from codestill.prompts import Prompts, prompts_for
from codestill.run import Run
from codestill.sandbox import Sandbox
from codestill.tasks import TasksConfig, TaskSet
from codestill.types import (
    Attempt,
    ChatForm,
    Draft,
    Evaluation,
    Gates,
    Interval,
    ModelProfile,
    Settings,
    Task,
)


class EvaluateConfig(Settings):
    """How a model is evaluated."""

    tasks: TasksConfig = Field(default_factory=lambda: TasksConfig.model_validate("humaneval"))
    """The task set: a name such as ``humaneval`` or ``mbpp:test``, or a file."""
    samples_per_task: NonNegativeInt = 10
    """Samples in one pool: pass@k is given for every k up to this number. 0 for the greedy
    completion alone, whose pass@1 is then the only score."""
    temperature: PositiveFloat = 0.2
    """Sampling temperature of the pool."""
    top_p: float = Field(default=0.95, gt=0, le=1)
    """Nucleus of the pool."""
    max_new_tokens: PositiveInt = 1024
    """Longest completion, in tokens."""
    greedy: bool = True
    """Also complete every task greedily: greedy pass@1, and BLEU."""
    likelihood: TasksConfig | None = None
    """Tasks whose reference solutions are scored, too, by the likelihood that the model gives them: nats per
    byte tell models apart of which no program passes. Local weights alone."""
    draft_for: DraftConfig | None = None
    """A larger model with the same tokens, for which the evaluated one drafts in speculative decoding: how
    many of its tokens are accepted, how many a pass of the larger one gives, and what that is worth in time.
    Local weights alone."""
    profile: bool = True
    """Measure latency, memory and size."""
    known_broken: tuple[str, ...] = ()
    """Task ids whose published reference fails its own tests: named in the result, still counted."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not (self.samples_per_task or self.greedy):
            raise ValueError("samples_per_task: 0 leaves the greedy completion alone, so greedy must be on")
        return self

    @property
    def sampling(self) -> SamplingConfig:
        """How the pool is sampled: greedily where it is the greedy completion alone."""
        if not self.samples_per_task:
            return self.greedy_sampling
        return SamplingConfig(
            temperature=self.temperature, top_p=self.top_p, max_new_tokens=self.max_new_tokens
        )

    @property
    def greedy_sampling(self) -> SamplingConfig:
        return SamplingConfig(max_new_tokens=self.max_new_tokens)


@runtime_checkable
class Profiled(Protocol):
    """A model whose cost to run can be measured here."""

    def profile(self) -> ModelProfile: ...


@runtime_checkable
class FillsGaps(Protocol):
    """A model that says whether it can fill in the middle."""

    @property
    def unfit_for_gaps(self) -> str: ...

    def require_fim(self) -> None: ...


def evaluate(
    model: Completer,
    name: str,
    config: EvaluateConfig,
    sandbox: Sandbox,
    run: Run,
    *,
    prompts: Prompts | None = None,
) -> Evaluation:
    """Sample, execute and score ``model``; writes samples and ``results/<name>.json``.

    ``prompts`` say how it is asked and its answers are read (default: those that suit it). Raises GateError,
    before anything is sampled, when the task set fails its gates. An evaluation that this run already holds
    is read, not measured again.
    """
    task_set = config.tasks.load()
    require_same_tasks(task_set, run)
    version = (prompts or prompts_for(model)).version
    if run.result_path(name).exists():
        done = read_evaluation(run.result_path(name))
        if (done.prompts, done.chat) != (version, model.form):
            raise StageMismatch(
                f"{run.result_path(name)} is of a model that was asked otherwise.",
                next_step="Use another run directory for other prompts or another chat template.",
            )
        return done
    warnings = _of_gaps(model) if task_set.gaps else ()
    drafting = Drafting.of(model, config.draft_for) if config.draft_for else None
    likely = (require_weights(model), config.likelihood.load()) if config.likelihood else None
    gates = check_gates(task_set, sandbox, config.known_broken, partial(run.progress, "gates"))
    keep_tasks(task_set, run)
    workbench = Workbench(sandbox, run, prompts)
    stage, count = f"evaluate-{name}", config.samples_per_task
    pool: list[Attempt] = []
    greedy: list[Attempt] = []
    if count:
        pool = workbench.attempt(stage, model, task_set, config.sampling, samples=count)
    if config.greedy:
        greedy = workbench.attempt(f"{stage}-greedy", model, task_set, config.greedy_sampling)
    likelihoods = nats_per_byte(*likely, prompts or prompts_for(model), run) if likely else {}
    draft = drafting.measure(f"{stage}-draft", task_set, run, config.profile) if drafting else None
    profile = None
    if config.profile and isinstance(model, Profiled):
        run.progress(LATENCY, 0, 1)
        profile = model.profile()
        run.progress(LATENCY, 1, 1)
    samples = ExecutedSamples(
        name,
        model.name,
        task_set,
        task_set.stop.name,
        pool or greedy,
        greedy,
        profile,
        warnings,
        prompts=version,
        chat=model.form,
        quantization=getattr(model, "quantization", None),
        likelihoods=likelihoods,
        likelihood_tasks=likely[1].name if likely else "",
        draft=draft,
    )
    return conclude(samples, gates, config, workbench)


def _of_gaps(model: Completer) -> tuple[str, ...]:
    """What to know of a model that is asked to fill gaps. Raises ModelError where it cannot be asked."""
    if not isinstance(model, FillsGaps):
        return ()
    model.require_fim()
    why = model.unfit_for_gaps
    return (f"{model.name} is unfit for an editor: {why}",) if why else ()


@dataclass(frozen=True)
class ExecutedSamples:
    """What a model generated for a task set, executed."""

    name: str
    """Of the result."""
    model: str
    task_set: TaskSet
    stop_rule: str
    pool: list[Attempt]
    """The same number for every task; the greedy ones where no others were asked for."""
    greedy: list[Attempt]
    """One for every task, or none at all."""
    profile: ModelProfile | None = None
    warnings: tuple[str, ...] = ()
    prompts: str = ""
    """Version of the prompts that the model was asked with; unknown for samples made elsewhere."""
    chat: ChatForm | None = None
    """The chat template around them; None without one."""
    quantization: str | None = None
    likelihoods: dict[str, float] = field(default_factory=dict)
    """Task id -> nats per byte of its reference solution, where ``config.likelihood`` has tasks."""
    likelihood_tasks: str = ""
    """Name of those tasks."""
    draft: Draft | None = None
    """As a draft for a larger model."""


def read_evaluation(path: Path) -> Evaluation:
    """The evaluation in a result file. Raises RunError when it is not one."""
    step = "Delete the file and run the same command again: the samples are kept."
    return read_record(path, Evaluation, step)


def require_same_tasks(task_set: TaskSet, run: Run) -> None:
    """Refuse tasks other than those of this name that the run holds verdicts on."""
    path = run.tasks_path(task_set.name)
    if path.exists() and path.read_bytes() != sealed_lines(task_set).encode():
        step = "Delete the file: the same command writes it again, and refuses verdicts on other tasks."
        list(read_jsonl(path, Task, whole=True, next_step=step))  # damage is no other set
        raise StageMismatch(
            f"{task_set.name} is not what it was when this run evaluated it: {path} differs.",
            next_step="Use another run directory for the changed tasks.",
        )


def keep_tasks(task_set: TaskSet, run: Run) -> None:
    """Write the tasks that the run's verdicts are on."""
    write_jsonl(run.tasks_path(task_set.name), task_set)


def conclude(
    samples: ExecutedSamples, gates: Gates, config: EvaluateConfig, workbench: Workbench
) -> Evaluation:
    """Score the samples; write them and the result."""
    task_set, pool, greedy, run = samples.task_set, samples.pool, samples.greedy, workbench.run
    counts = _counts(task_set, pool, group=None)
    problems = _problems(task_set)
    groups = list(problems.values()) or None
    plus = any(test.group != "base" for task in task_set.tasks for test in task.tests)
    base = _counts(task_set, pool, group="base") if plus else {}
    per_task = len(pool) // len(task_set.tasks)
    compared = {attempt.task_id: attempt.completion.text for attempt in reversed(greedy or pool)}
    score, signature = bleu(
        [compared[task.task_id] for task in task_set.tasks], [task.reference for task in task_set.tasks]
    )
    refused = (a.task_id for a in pool if a.completion.finish == "prompt_too_long")
    if too_long := tuple(dict.fromkeys(refused)):
        unasked = f"{len(too_long)} of {len(task_set.tasks)} prompts leave {samples.model} no room"
        run.message("evaluate", f"{unasked}, and count as failures: {', '.join(too_long)}")
    result = Evaluation(
        model=samples.model,
        quantization=samples.quantization,
        tasks=task_set.name,
        task_count=len(task_set.tasks),
        subset=task_set.subset,
        samples_per_task=per_task,
        temperature=config.sampling.temperature,
        top_p=config.sampling.top_p,
        pass_at=_pass_at(counts, per_task, groups),
        pass_at_base=_pass_at(base, per_task, groups) if base else {},
        greedy=interval([float(a.result.passed) for a in greedy], groups=groups) if greedy else None,
        problems=problems,
        exact_match=_exact_match(task_set, compared, groups),
        per_task=counts,
        greedy_per_task={attempt.task_id: attempt.result.passed for attempt in greedy},
        by_difficulty=_by_difficulty(task_set, counts),
        verdicts=dict(sorted(Counter(attempt.result.verdict for attempt in pool).items())),
        unfinished=_unfinished(pool),
        bleu=score,
        bleu_signature=signature,
        likelihood_tasks=samples.likelihood_tasks,
        nats_per_byte=interval([*samples.likelihoods.values()]) if samples.likelihoods else None,
        nats_per_byte_per_task=samples.likelihoods,
        draft=samples.draft,
        warnings=(*_unreadable(task_set, pool), *samples.warnings),
        profile=samples.profile,
        gates=gates,
        data_hash=task_set.data_hash,
        prompt_mode=task_set.prompt_mode,
        prompts=samples.prompts,
        chat=samples.chat,
        stop_rule=samples.stop_rule,
        sandbox=workbench.sandbox.description,
        versions=environment(),
        seed=run.seed,
    )
    lines = [{"task_id": attempt.task_id, "completion": attempt.completion.text} for attempt in pool]
    write_jsonl(run.samples_path(samples.name), lines)
    write_object(run.result_path(samples.name), result, indent=1)
    metrics = {f"{samples.name}/pass@{k}": value.mean for k, value in result.pass_at.items()}
    run.log("evaluate", metrics=metrics)
    return result


def _unreadable(task_set: TaskSet, pool: list[Attempt]) -> list[str]:
    """A warning where most samples are no program: a score of 0 then says nothing of the model."""
    tasks = task_set.by_id
    failed = [attempt.completion for attempt in pool if not attempt.result.passed]
    broken = [answer for answer in failed if not tasks[answer.task_id].accepts(answer.text)]
    if 2 * len(broken) <= len(pool):
        return []
    fences = sum("```" in (answer.raw or answer.text) for answer in broken)
    hint = f"; {fences} hold code fences: is it a chat model? (--chat true)" if fences else ""
    return [
        f"{len(broken)} of {len(pool)} samples are no Python program that defines the task's function{hint}"
    ]


def _counts(task_set: TaskSet, pool: list[Attempt], group: str | None) -> dict[str, tuple[int, int]]:
    """Task id -> (samples, passed); with a group, only that group's tests count."""
    tests = {task.task_id: task.tests for task in task_set.tasks}
    samples: Counter[str] = Counter()
    passed: Counter[str] = Counter()
    for attempt in pool:
        samples[attempt.task_id] += 1
        wanted = tests[attempt.task_id]
        if group is None:
            ok = attempt.result.passed
        else:
            ran = dict(enumerate(attempt.result.tests))
            ok = all(
                index in ran and ran[index].verdict == "pass"
                for index, test in enumerate(wanted)
                if test.group == group
            )
        passed[attempt.task_id] += ok
    return {task.task_id: (samples[task.task_id], passed[task.task_id]) for task in task_set.tasks}


def _unfinished(pool: list[Attempt]) -> dict[str, int]:
    reasons = Counter(attempt.completion.finish for attempt in pool)
    return {reason: count for reason, count in sorted(reasons.items()) if reason != "stop"}


def _pass_at(
    counts: dict[str, tuple[int, int]], samples: int, groups: list[str] | None
) -> dict[int, Interval]:
    return {
        k: interval([pass_at_k(n, passed, k) for n, passed in counts.values()], groups=groups)
        for k in range(1, samples + 1)
    }


def _problems(task_set: TaskSet) -> dict[str, str]:
    """Task id -> problem, in the set's order; empty where no problem has several tasks."""
    if not any(task.problem for task in task_set):
        return {}
    return {task.task_id: task.problem or task.task_id for task in task_set}


def _exact_match(task_set: TaskSet, texts: dict[str, str], groups: list[str] | None) -> Interval | None:
    if any(task.suffix is None for task in task_set):
        return None
    same = [float(texts[task.task_id].strip() == task.reference.strip()) for task in task_set]
    return interval(same, groups=groups)


def _by_difficulty(task_set: TaskSet, counts: dict[str, tuple[int, int]]) -> dict[str, Interval]:
    """pass@1 by each number-valued or text-valued difficulty, e.g. ``depth=3``."""
    groups: dict[str, list[float]] = {}
    for task in task_set.tasks:
        n, passed = counts[task.task_id]
        for name, value in task.difficulty.items():
            if isinstance(value, int | str):
                groups.setdefault(f"{name}={value}", []).append(passed / n)
    return {name: interval(values) for name, values in sorted(groups.items())}
