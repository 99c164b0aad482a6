"""Run and comparison directories as a real run leaves them, made from real records."""

import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from codestill.files.run_files import About, write_funnels
from codestill.files.seal import seal_text
from codestill.files.serialize import append_jsonl, write_atomic, write_jsonl, write_object
from codestill.report import write_report
from codestill.types import (
    Arm,
    Attempt,
    Comparison,
    Completion,
    Difference,
    Evaluation,
    Event,
    Example,
    ExecutionResult,
    Gates,
    Interval,
    ModelProfile,
    Task,
    TestResult,
    Verdict,
)

TASKS = "pocket:test"
SAMPLES = 12
START = "org/small"
"""The model that every student began as."""
HOSTILE = '    return "</script><script>document.title=`owned`</script><img src=x onerror=alert(1)>"\n'
FAILURES: tuple[Verdict, ...] = ("wrong", "exception", "cpu_timeout")


def interval(mean: float, half: float = 0.04) -> Interval:
    return Interval(mean=mean, low=max(mean - half, 0.0), high=min(mean + half, 1.0))


def profile(scale: float) -> ModelProfile:
    return ModelProfile(
        parameters=int(44_100_000 * scale),
        file_megabytes=176.4 * scale,
        prompt_milliseconds=38.0 * scale,
        token_milliseconds=8.1 * scale,
        token_quartiles=(8.0 * scale, 8.3 * scale),
        tokens_per_second=123.4 / scale,
        peak_memory_megabytes=412.0 * scale,
        prompt_tokens=128,
        new_tokens=64,
        repeats=5,
        device="cpu",
        dtype="float32",
        threads=1,
    )


def make_tasks(count: int) -> list[Task]:
    return [
        Task(
            task_id=f"pocket/{number}",
            prompt=f'def solve_{number}(xs):\n    """Return the sum of the items above {number}."""\n',
            entry_point=f"solve_{number}",
            reference=f"    return sum(x for x in xs if x > {number})\n",
            tests=({"code": f"assert solve_{number}([{number + 1}]) == {number + 1}"},),  # type: ignore[arg-type]
            difficulty={"depth": 1 + number % 3},
        )
        for number in range(count)
    ]


def make_attempt(task: Task, sample: int, skill: float, source: random.Random) -> Attempt:
    hardness = task.difficulty["depth"] / 4
    number = task.entry_point.removeprefix("solve_")
    verdict: Verdict = "pass"
    test, error = TestResult(verdict="pass"), ""
    text = task.reference
    if source.random() > skill * (1.3 - hardness):
        verdict = source.choices(FAILURES, [6, 3, 1])[0]
        if verdict == "wrong":
            text = f"    total = 0\n    for x in xs:\n        if x >= {number}:\n            total += 1\n"
            text += "    return total\n"
            test = TestResult(
                verdict="wrong",
                error_type="AssertionError",
                call=f"{task.entry_point}([3])",
                actual="1",
                expected="3",
            )
        elif verdict == "exception":
            text = HOSTILE
            test = TestResult(verdict="exception", error_type="TypeError", message="<b>not</b> callable")
        else:
            text = "    while True:\n        pass\n"
            test, error = None, "more than 5 s of CPU time"
    completion = Completion(task_id=task.task_id, sample=sample, text=text, tokens=24)
    result = ExecutionResult(verdict=verdict, tests=(test,) if test else (), error=error)
    return Attempt(completion=completion, result=result)


def evaluation(
    model: str, attempts: list[Attempt], tasks: list[Task], scale: float, **changes: object
) -> Evaluation:
    passed: dict[str, list[bool]] = {}
    verdicts: dict[str, int] = {}
    for attempt in attempts:
        passed.setdefault(attempt.task_id, []).append(attempt.result.passed)
        verdicts[attempt.result.verdict] = verdicts.get(attempt.result.verdict, 0) + 1
    rate = sum(sum(p) / len(p) for p in passed.values()) / len(passed)
    levels = {
        f"depth={depth}": interval(
            sum(sum(passed[t.task_id]) for t in tasks if t.difficulty["depth"] == depth)
            / (SAMPLES * sum(t.difficulty["depth"] == depth for t in tasks)),
            0.06,
        )
        for depth in (1, 2, 3)
    }
    values = {
        "model": model,
        "tasks": TASKS,
        "task_count": len(tasks),
        "subset": False,
        "samples_per_task": SAMPLES,
        "temperature": 0.2,
        "top_p": 0.95,
        "pass_at": {k: interval(1 - (1 - rate) ** (1 + 0.28 * (k - 1))) for k in range(1, SAMPLES + 1)},
        "greedy": interval(rate + 0.013),
        "per_task": {key: (len(p), sum(p)) for key, p in passed.items()},
        "by_difficulty": levels,
        "verdicts": verdicts,
        "bleu": 61.3 * rate + 20,
        "bleu_signature": "nrefs:1|case:mixed|tok:13a",
        "profile": profile(scale),
        "gates": Gates(tasks=len(tasks), reference=len(tasks), empty=0, pass_body=0),
        "data_hash": "5f0c2a9d11e3b7a4",
        "prompt_mode": "completion",
        "stop_rule": "function",
        "sandbox": "process+seccomp",
        "versions": {"torch": "2.13.0"},
        "seed": 0,
    }
    return Evaluation(**(values | changes))  # type: ignore[arg-type]


def make_run(
    directory: Path,
    *,
    skill: float = 0.5,
    seed: int = 0,
    scale: float = 1.0,
    teacher: bool = False,
    tasks: int = 30,
    divergence: bool = True,
    steps: int = 400,
    **changes: object,
) -> Evaluation:
    """A finished run; ``changes`` go to its evaluation. Returns the evaluation."""
    source = random.Random(f"{directory.name}{seed}")
    alpha = 0.5 if divergence else 0.0
    config = f"recipe: logit_kd\nseed: {seed}\nobjective:\n  alpha: {alpha}\n  temperature: 2.0\n"
    config += f"student:\n  model: {START}\nteacher:\n  model: large\n"
    config += "evaluate:\n  tasks:\n    source: pocket\n    split: test\n  samples_per_task: 12\n"
    if teacher:
        config = "recipe: evaluate\nmodel: large\nseed: 0\n"
    write_atomic(directory / "config.yaml", seal_text(config))
    defaults = {"recipe": "logit_kd", "seed": 0, "objective": {"alpha": 0.0, "temperature": 2.0}}
    write_object(
        directory / "about.json", About(title="Logit distillation", needs_teacher=True, defaults=defaults)
    )
    environment = {"python": "3.11.9", "torch": "2.13.0", "processor": "a processor", "cores": "2"}
    write_object(directory / "environment.json", environment)
    events = [Event(stage="answers", metrics={"failures": 12, "accepted": 288})]
    for step in range(0, 0 if teacher else steps, 5):
        fall = 1.1 * (1 - skill) + 2.4 * 0.985**step + source.gauss(0, 0.06) * (step > 0)
        terms = {"loss": fall, "cross_entropy": fall * 1.1} | (
            {"divergence": fall * 0.7} if divergence else {}
        )
        metrics: dict[str, float | int | str | None] = {**terms, "learning_rate": 1e-3, "epoch": step / 100}
        events.append(Event(stage="train", step=step, metrics=metrics))
        if step % 50 == 0:
            smooth = {**metrics, **{name: value * 1.04 for name, value in terms.items()}}
            events.append(Event(stage="validation", step=step, metrics=smooth))
    append_jsonl(directory / "metrics.jsonl", events)
    problems = make_tasks(tasks)
    write_jsonl(directory / "tasks" / "pocket-test.jsonl", problems)
    attempts = [make_attempt(task, n, skill, source) for task in problems for n in range(SAMPLES)]
    greedy = [make_attempt(task, 0, skill, source) for task in problems]
    if not teacher:
        keep_training(directory, problems)
    name = "teacher-pocket" if teacher else "student-pocket"
    append_jsonl(directory / "stages" / f"evaluate-{name}.jsonl", attempts)
    append_jsonl(directory / "stages" / f"evaluate-{name}-greedy.jsonl", greedy)
    model = "pocket-teacher" if teacher else "llama-44m"
    found = evaluation(model, attempts, problems, scale, **changes)
    write_object(directory / "results" / f"{name}.json", found)
    return found


def keep_training(directory: Path, tasks: list[Task]) -> None:
    """What a training of ten repairs leaves: the funnel, the accounting, and the rows."""
    write_funnels(
        directory,
        {"round-1": {"tasks": 30, "attempts that <failed>": 24, "refined": 12, "rows": 10}},
    )
    account = {"round-1/tasks": 30, "round-1/refined": 12, "examples": 10, "steps": 1390, "rate": 1390.123}
    write_object(directory / "accounting.json", account)
    examples = [
        Example(
            example_id=f"{task.task_id}#0",
            prompt=task.prompt,
            completion=task.reference,
            source="repair" if number % 2 else "solution",
            attempt=task.reference.replace(">", ">=") + HOSTILE if number % 2 else "",
        )
        for number, task in enumerate(tasks[:10])
    ]
    write_jsonl(directory / "examples.jsonl", examples)


def make_start(directory: Path, like: Evaluation, passed: int, **changes: object) -> Evaluation:
    """The starting model as it stands, evaluated like another: of every task, the first ``passed`` samples
    pass."""
    write_atomic(directory / "config.yaml", seal_text(f"recipe: evaluate\nmodel: {START}\nseed: 0\n"))
    per_task = dict.fromkeys(like.per_task, (SAMPLES, passed))
    values: dict[str, object] = {
        "model": "small",
        "per_task": per_task,
        "pass_at": {1: interval(passed / SAMPLES)},
        "verdicts": {"pass": passed * len(per_task), "wrong": (SAMPLES - passed) * len(per_task)},
    }
    found = like.model_copy(update=values | changes)
    write_object(directory / "results" / "student-pocket.json", found)
    return found


def make_comparison(directory: Path, *, estimate: float = 0.062, **changes: object) -> Comparison:
    """A teacher and two student arms with two seeds each; ``changes`` go to the evaluations."""
    arms = []
    for name, skill, scale in (("distilled", 0.62, 0.25), ("raw", 0.5, 0.25), ("teacher", 0.9, 1.0)):
        runs, evaluations = [], []
        for seed in (0, 1):
            runs.append(f"{name}-s{seed}")
            evaluations.append(
                make_run(
                    directory / runs[-1],
                    skill=skill,
                    seed=seed,
                    scale=scale,
                    teacher=name == "teacher",
                    divergence=name == "distilled",
                    **changes,  # type: ignore[arg-type]
                )
            )
        first = evaluations[0]
        accounting: dict[str, int | float | str] = {
            "prompts": 2048,
            "teacher_answers": 8192 * (name == "distilled"),
            "steps": 400,
        }
        arms.append(
            Arm(
                name=name,
                runs=tuple(runs),
                pass_at=first.pass_at,
                greedy=first.greedy,
                bleu=first.bleu,
                profile=first.profile,
                accounting=accounting if name != "teacher" else {},
            )
        )
    differences = tuple(
        Difference(
            a="distilled",
            b="raw",
            metric=metric,
            interval=Interval(mean=mean, low=mean - 0.037, high=mean + 0.039),
            pairs=60,
        )
        for metric, mean in (("pass@1", estimate), ("pass@10", estimate / 2))
    )
    comparison = Comparison(
        title="Does logit distillation help a 44M student?",
        tasks=TASKS,
        task_count=30,
        arms=tuple(arms),
        differences=differences,
        teacher="teacher",
    )
    write_object(directory / "comparison.json", comparison)
    return comparison


@pytest.fixture(scope="session")
def make() -> SimpleNamespace:
    """The builders: ``make.run(directory, ...)`` and ``make.comparison(directory, ...)``."""
    run: Callable[..., Evaluation] = make_run
    comparison: Callable[..., Comparison] = make_comparison
    return SimpleNamespace(
        run=run, comparison=comparison, evaluation=evaluation, interval=interval, start=make_start
    )


@pytest.fixture(scope="session")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison directory with its report; tests only read it."""
    directory = tmp_path_factory.mktemp("report") / "comparison"
    make_comparison(directory)
    write_report([directory])
    return directory
