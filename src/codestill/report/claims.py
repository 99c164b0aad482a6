"""What the numbers support, in sentences: headlines, gates and warnings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from codestill.report.change import Change
from codestill.report.collect import PASS_AT_1, ArmView, Section
from codestill.report.numbers import bounds, counted, each_seed, listed, percent, point_bounds, points
from codestill.types import Difference, Evaluation

MANY_ARMS = 8
"""From here on, "the best arm" is mostly the luckiest one, and colours no longer tell arms apart."""

SETTINGS: dict[str, str] = {
    "samples_per_task": "samples per task",
    "temperature": "sampling temperature",
    "top_p": "top-p",
    "prompt_mode": "prompt mode",
    "stop_rule": "stop rule",
    "sandbox": "sandbox",
    "data_hash": "task data",
}
"""What must be equal for two evaluations to be comparable, and its name on the page."""


@dataclass(frozen=True)
class Headline:
    """The one sentence that a reader takes away."""

    sentence: str
    tone: Literal["shown", "not-shown", "plain", "withheld"]
    subject: str = ""
    """The arm that it is about, if any."""
    figure: str = ""
    """The number in it, set large."""
    difference: Difference | None = None


@dataclass(frozen=True)
class Gate:
    """One condition for believing an evaluation."""

    text: str
    holds: bool


def headline(section: Section, changes: Sequence[Change] = ()) -> Headline:
    """The honest headline of a section: withheld where the evaluation cannot carry one. ``changes`` are those
    of its arms since before training."""
    reason = _why_withheld(section)
    if reason:
        return Headline(f"No headline: {reason}.", "withheld")
    students = [arm for arm in section.arms if not arm.is_teacher and PASS_AT_1 in arm.pass_at]
    first = next((d for d in section.differences if d.metric == "pass@1"), None)
    if first is not None and section.is_comparison:
        return _difference_headline(first, section.task_count)
    if not students:
        return Headline("No student has been evaluated here yet.", "withheld")
    if len(changes) == 1 and len(students) <= 2:  # the student, and the model that it began as
        return _change_headline(changes[0], section.task_count)
    if first is not None and len(students) == 2:
        return _difference_headline(first, section.task_count)
    best = max(students, key=lambda arm: arm.pass_at[PASS_AT_1].mean)
    score = best.pass_at[PASS_AT_1]
    sentence = f"{best.name}: pass@1 {percent(score.mean)} {bounds(score)} over {section.task_count} tasks"
    teacher = section.teacher
    if teacher is not None and PASS_AT_1 in teacher.pass_at and teacher.pass_at[PASS_AT_1].mean > 0:
        theirs = teacher.pass_at[PASS_AT_1].mean
        sentence += f", {score.mean / theirs:.2f}× the teacher's {percent(theirs)}"
    if len(students) > 1:
        sentence += (
            f". It is the highest of {len(students)} arms, selected on the tasks that it is scored on, "
            "so it is optimistic"
        )
    return Headline(sentence + ".", "plain", best.name, percent(score.mean))


def _change_headline(change: Change, task_count: int) -> Headline:
    """Before and after, with the paired interval of the difference."""
    difference, interval = change.difference, change.difference.interval
    before, after = percent(change.before.mean), percent(change.after.mean)
    verb = "rose" if interval.mean > 0 else "fell"
    if difference.excludes_zero:
        sentence = f"pass@1 {verb} from {before} to {after}"
        verdict = "the interval excludes zero"
    else:
        sentence = f"pass@1 was {before} before training and is {after} after it"
        verdict = "the interval includes zero, so whether training changed it is unknown"
    sentence += (
        f": {points(interval.mean)} points {point_bounds(interval)}, paired over "
        f"{_pairing(difference, task_count)}: {verdict}. Before: {change.start}."
    )
    tone = "shown" if difference.excludes_zero and interval.mean > 0 else "not-shown"
    return Headline(sentence, tone, change.arm, f"{before} → {after}", difference)


def _pairing(difference: Difference, task_count: int) -> str:
    seeds, rest = divmod(difference.pairs, task_count) if task_count else (0, 1)
    if rest or seeds == 0:
        return f"{difference.pairs} pairs"
    return f"{counted(task_count, 'task')} × {counted(seeds, 'seed')}"


def _difference_headline(difference: Difference, task_count: int) -> Headline:
    interval = difference.interval
    over_seeds = difference.t_interval
    unsure = over_seeds is not None and not over_seeds.excludes_zero
    if not difference.excludes_zero:
        verdict = "the interval includes zero: no difference shown"
    elif interval.mean > 0:
        verdict = "the interval excludes zero"
    else:
        verdict = f"the interval excludes zero, in favour of {difference.b}"
    sentence = (
        f"{difference.a} − {difference.b}: {points(interval.mean)} points {point_bounds(interval)} "
        f"{difference.metric}, paired over {_pairing(difference, task_count)}: {verdict}."
    )
    if len(difference.by_seed) > 1:
        sentence += f" By seed: {each_seed(difference.by_seed)}"
        if over_seeds is not None:
            verdict = "includes zero" if unsure else "excludes zero"
            sentence += f"; the t interval over seeds, {point_bounds(over_seeds)}, {verdict}"
        sentence += "."
    tone = "not-shown" if not difference.excludes_zero else "plain" if unsure else "shown"
    return Headline(sentence, tone, difference.a, points(interval.mean), difference)


def _why_withheld(section: Section) -> str | None:
    for arm in section.arms:
        for evaluation in arm.evaluations:
            failure = evaluation.gates.failure()
            if failure:
                return f"the gates fail for {arm.name} ({failure})"
    if any(evaluation.subset for evaluation in section.evaluations):
        return f"this is a subset of {section.tasks} ({section.task_count} tasks)"
    return None


def gates(section: Section) -> list[Gate]:
    """The three gates over all evaluations of a section, each by its weakest evaluation."""
    every = [evaluation.gates for evaluation in section.evaluations]
    if not every:
        return []
    reference = min(every, key=lambda g: (g.reference > 0, g.reference + len(g.broken) - g.tasks))
    empty, body = max(every, key=lambda g: g.empty), max(every, key=lambda g: g.pass_body)
    broken = f", {len(reference.broken)} known broken" if reference.broken else ""
    whole = reference.reference + len(reference.broken) >= reference.tasks and reference.reference > 0
    return [
        Gate(f"reference solutions pass {reference.reference}/{reference.tasks}{broken}", whole),
        Gate(f"an empty completion passes {empty.empty}/{empty.tasks}", empty.empty == 0),
        Gate(f"a bare pass body passes {body.pass_body}/{body.tasks}", body.pass_body == 0),
    ]


def warnings(section: Section) -> list[str]:
    """Everything that should lower the reader's trust in this section's numbers."""
    texts: list[str] = []
    for arm in section.arms:
        for evaluation in arm.evaluations:
            texts += [f"{arm.name}: {warning}." for warning in evaluation.warnings]
            failure = evaluation.gates.failure()
            if failure:
                texts.append(f"{arm.name}: the gates fail: {failure}. Its scores cannot be believed.")
        texts += _arm_warnings(arm)
    if any(evaluation.subset for evaluation in section.evaluations):
        texts.append(
            f"Only {section.task_count} tasks of {section.tasks} were evaluated: "
            "do not compare these scores with published ones."
        )
    if section.is_comparison and not section.evaluations:
        texts.append("The runs behind this comparison are missing, so its gates could not be checked.")
    texts += _unequal_settings(section.arms)
    return list(dict.fromkeys(texts))


def _arm_warnings(arm: ArmView) -> list[str]:
    texts = []
    broken = arm.verdicts.get("infra_error", 0)
    if broken:
        texts.append(f"{arm.name}: the sandbox itself broke on {broken} samples, which are not scored.")
    if any(evaluation.sandbox.startswith("in-process") for evaluation in arm.evaluations):
        texts.append(
            f"{arm.name}: the tests ran in the process of the program that they judge (in-process verdict), "
            "where a program made to cheat can fake a pass."
        )
    return texts


def _unequal_settings(arms: tuple[ArmView, ...]) -> list[str]:
    evaluations = [evaluation for arm in arms for evaluation in arm.evaluations]
    unequal = [
        label
        for name, label in SETTINGS.items()
        if len({str(getattr(evaluation, name)) for evaluation in evaluations}) > 1
    ]
    texts = []
    if unequal:
        texts.append(f"The arms were not evaluated alike; they differ in {', '.join(unequal)}.")
    profiles = [arm.profile for arm in arms if arm.profile is not None]
    if noisy := [arm.name for arm in arms if arm.profile and arm.profile.noisy]:
        texts.append(
            f"The times of {listed(noisy)} are noise: the machine was busy whenever they were taken."
        )
    if len({(p.device, p.threads, p.prompt_tokens, p.new_tokens) for p in profiles}) > 1:
        texts.append(
            "Speeds were measured under different conditions (device, threads or lengths): "
            "their ratios mean little."
        )
    return texts


def evaluation_settings(evaluation: Evaluation) -> dict[str, str]:
    """How a score was measured: name on the page -> value."""
    values = {label: str(getattr(evaluation, name)) for name, label in SETTINGS.items()}
    if evaluation.bleu_signature:
        values["BLEU signature"] = evaluation.bleu_signature
    return values | {"seed": str(evaluation.seed)}
