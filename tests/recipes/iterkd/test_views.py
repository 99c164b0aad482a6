"""Two views of attempts: what they say, what they cannot say, and how far they are believed."""

import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.scripted import Scripted, teaching_by
from tests.support.tiny import CPU, tiny_model

from codestill.attempt import execute
from codestill.config import RunConfig
from codestill.errors import ConfigError
from codestill.models import Decoding
from codestill.prompts import CONTINUED, INSTRUCT, Prompts
from codestill.prompts.rating import read_rubric, read_steps
from codestill.recipes.iterkd.views import (
    FeedbackConfig,
    RoundFeedback,
    ToolReport,
    bins,
    calibrate,
    judge_attempts,
    languages,
)
from codestill.recipes.iterkd.views.combine import Feedback
from codestill.recipes.iterkd.views.tool import Weights, inspect
from codestill.run import Run
from codestill.sandbox import Sandbox, SandboxConfig
from codestill.tasks import TasksConfig, TaskSet
from codestill.teachers import LocalTeacherConfig
from codestill.teachers.session import TeacherUsage, open_session
from codestill.teaching import Teaching
from codestill.types import Attempt, Completion, Request, Task

TASK = Task(
    task_id="t/0",
    prompt='def double(x):\n    """Return twice x."""\n',
    entry_point="double",
    reference="    return 2 * x\n",
    tests=("assert double(3) == 6", "assert double('ab') == 'abab'"),  # type: ignore[arg-type]
    split="train",
)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(SandboxConfig(), 1) as box:
        yield box


def tasks(*some: Task) -> TaskSet:
    base = TasksConfig.model_validate({"source": "pocket", "split": "train", "count": 1}).load()
    return replace(base, tasks=some or (TASK,))


def attempts(sandbox: Sandbox, *texts: str) -> list[Attempt]:
    some = [Completion(task_id="t/0", sample=n, text=text) for n, text in enumerate(texts)]
    return list(execute(sandbox, tasks(), some))


BODIES = {
    "right": "    return 2 * x\n",
    "wrong": "    return x\n",
    "raises": "    return x / 2\n",
    "unnamed": "    return y\n",
    "dangerous": "    return eval('2 * x', {'x': x})\n",
    "does not load": "    return 2 * x\n1 / 0\n",
    "does not compile": "    return 2 * x\nreturn 3\n",
    "does not parse": "    return (\n",
}


@pytest.fixture(scope="module")
def reports(sandbox: Sandbox) -> dict[str, ToolReport]:
    made = attempts(sandbox, *BODIES.values())
    found = inspect(tasks(), sandbox, FeedbackConfig().tool, made)
    return dict(zip(BODIES, found, strict=True))


def test_what_the_tools_say(reports: dict[str, ToolReport]):
    right = reports["right"]
    assert set(right.checks.values()) == {1.0} and right.checks.keys() == Weights.model_fields.keys()
    assert not right.findings and not right.broken
    wrong = reports["wrong"]
    assert wrong.checks["tests"] == 0 and wrong.checks["calls"] == 1 and not wrong.broken
    assert (reports["raises"].checks["calls"], reports["raises"].broken) == (0.5, True)
    assert reports["unnamed"].checks["names"] == 0 and reports["unnamed"].checks["calls"] == 0
    assert any("F821" in finding for finding in reports["unnamed"].findings)
    assert reports["dangerous"].checks["security"] == 0 and reports["dangerous"].checks["tests"] == 1
    assert (reports["does not load"].checks["load"], reports["does not load"].checks["compile"]) == (0, 1)
    assert (reports["does not compile"].checks["compile"], reports["does not compile"].checks["parse"]) == (
        0,
        1,
    )
    assert reports["does not parse"].checks["parse"] == 0 and reports["does not parse"].broken


def test_without_the_tests_right_and_wrong_look_the_same(reports: dict[str, ToolReport]):
    weights = Weights()
    right, wrong = (reports[name] for name in ("right", "wrong"))
    assert right.score(weights, tests=False) == wrong.score(weights, tests=False) == 1.0
    assert right.score(weights, tests=True) == 1.0 > wrong.score(weights, tests=True)
    only = Weights(**dict.fromkeys(Weights.model_fields, 0.0) | {"calls": 1.0})
    assert reports["raises"].score(only, tests=True) == 0.5
    assert reports["raises"].score(Weights(**dict.fromkeys(Weights.model_fields, 0.0)), tests=True) == 0.0


def test_complexity_falls_off_above_its_limit(sandbox: Sandbox):
    branches = "".join(f"    if x == {n}:\n        return {2 * n}\n" for n in range(14))
    config = FeedbackConfig().tool
    (made,) = inspect(tasks(), sandbox, config, attempts(sandbox, branches + "    return 2 * x\n"))
    assert made.checks["complexity"] == pytest.approx(1 - 5 / 10)


def test_a_missing_linter_says_how_to_get_it(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch):
    made = attempts(sandbox, BODIES["right"])

    def missing() -> str:
        raise ConfigError("not installed", next_step="pip install 'codestill[feedback]'")

    monkeypatch.setattr(languages, "_ruff_command", missing)
    with pytest.raises(ConfigError, match=r"codestill\[feedback\]"):
        list(inspect(tasks(), sandbox, FeedbackConfig().tool, made))
    (bare,) = inspect(tasks(), sandbox, FeedbackConfig().tool.model_copy(update={"lint": False}), made)
    assert "names" not in bare.checks and bare.checks["compile"] == 1


RUBRIC = INSTRUCT.rubric


def judgement(*points: object) -> str:
    said = "\n".join(f"{name}: {point}" for name, point in zip(RUBRIC, points, strict=True))
    return f"It doubles x; basic function is what matters.\n\n{said}\n"


def test_a_judgement_is_read_checked_and_clipped():
    found = read_rubric(judgement(2, 0, 1, 1, 0), RUBRIC)
    assert found is not None and found.share == pytest.approx(4 / 6)
    assert (found.clipped, found.fractions) == (0, 0)
    found = read_rubric(judgement(3, -1, 0.5, 1, 1), RUBRIC)
    assert (
        found is not None and found.points["basic function"] == 2 and found.points["boundary handling"] == 0
    )
    assert (found.clipped, found.fractions) == (2, 1) and found.share == pytest.approx(4.5 / 6)
    assert read_rubric("**Basic Function:** 1\n", {"basic function": 2}).share == 0.5  # type: ignore[union-attr]
    assert read_rubric("basic function: good\n", {"basic function": 2}) is None
    assert read_rubric(judgement(2, 0, 1, 1, "n/a"), RUBRIC) is None


def test_the_pocket_teachers_form_is_read():
    found = read_steps("# wanted: a\n# wanted: b\n# does: a\n# score 4\n")
    assert found is not None and found.share == pytest.approx((0.5 + 0.5) / 2)
    assert read_steps("# score 9\n") is None
    assert CONTINUED.to_judge(TASK, "    return x\n") == f"{TASK.prompt}    return x\n# judge\n"
    for name, most in RUBRIC.items():
        assert f'"{name}": 0 to {most}' in INSTRUCT.to_judge(TASK, "    return x\n")
    with pytest.raises(ConfigError, match="cannot ask for judgements"):
        Prompts(version="mine", answers="fenced", solve="", refine="").to_judge(TASK, "")


def looked(
    config: FeedbackConfig, sandbox: Sandbox, directory: Path, answers: list[str], *texts: str
) -> RoundFeedback:
    judge = Scripted(lambda one: answers[int(one.task_id.rpartition("#")[2])])
    made = attempts(sandbox, *texts)
    with Run.open(directory, RunConfig()) as run:
        return judge_attempts(config, tasks(), made, teaching_by(judge, INSTRUCT, sandbox, run), {})


def test_both_views_are_mixed_and_each_is_calibrated_blind(tmp_path: Path, sandbox: Sandbox):
    answers = [judgement(2, 1, 1, 1, 1), judgement(0, 0, 0, 0, 0), "I would rather not."]
    bodies = (BODIES["right"], BODIES["wrong"], BODIES["raises"])
    viewed = looked(FeedbackConfig(model_weight=0.25), sandbox, tmp_path / "both", answers, *bodies)
    assert [one.view for one in viewed.calibrations] == ["model", "tool", "both"]
    model, tool, both = viewed.calibrations
    assert (model.scored, model.unreadable, tool.scored, both.scored) == (2, 1, 3, 3)
    assert model.auroc is not None and model.auroc.mean == 1.0
    assert tool.auroc is not None and tool.auroc.mean == 0.75  # it cannot tell right from wrong, blind
    scores = [one.score for one in viewed.feedback]
    assert scores[0] == 1.0 and scores[1] == pytest.approx(0.75 * (1 - 6 / 13.5))
    assert scores[2] is not None and scores[2] < 1.0  # the tools' word alone
    alone = looked(FeedbackConfig(views="model"), sandbox, tmp_path / "model", answers, *bodies)
    assert [one.score for one in alone.feedback] == [1.0, 0.0, None]
    assert all(one.passed is None and one.broken is None for one in alone.feedback)
    assert [one.view for one in alone.calibrations] == ["model"]
    tools = looked(FeedbackConfig(views="tool", tests=False), sandbox, tmp_path / "tool", [], *bodies)
    assert [one.view for one in tools.calibrations] == ["tool"]
    assert all(one.passed is None for one in tools.feedback)


def test_judgements_are_kept_and_averaged(tmp_path: Path, sandbox: Sandbox):
    config = FeedbackConfig.model_validate({"views": "model", "judge": {"samples": 2}})
    viewed = looked(config, sandbox, tmp_path, [judgement(2, 1, 1, 1, 1)], BODIES["right"])
    assert viewed.feedback[0].score == 1.0
    (line,) = (tmp_path / "stages" / "judgements.jsonl").read_text().splitlines()
    assert json.loads(line)["shares"] == [1.0, 1.0]


class Chooser:
    """Says yes with the probabilities of ``yes``, by attempt, where there are words to choose from."""

    def __init__(self, yes: list[float], words: list[str], gives: bool = True) -> None:
        self.yes, self.words, self.gives = yes, words, gives
        self.name, self.form, self.asked = "chooser", None, list[tuple[Request, Decoding]]()

    def complete(self, requests: Iterable[Request], decoding: Decoding) -> Iterator[Completion]:
        for request in requests:
            self.asked.append((request, decoding))
            number = int(request.task_id.rpartition("#")[2])
            given = (0.5 * self.yes[number], 0.5 * (1 - self.yes[number]))
            yield Completion(
                task_id=request.task_id,
                sample=request.sample,
                text=self.words[number],
                probabilities=given if self.gives and decoding.choices else (),
            )


def chosen(
    directory: Path, sandbox: Sandbox, judge: Chooser, form: str, tokenizer: object, samples: int = 1
) -> RoundFeedback:
    config = FeedbackConfig.model_validate({"views": "model", "judge": {"form": form, "samples": samples}})
    made = attempts(sandbox, BODIES["right"], BODIES["wrong"], BODIES["raises"])
    with Run.open(directory, RunConfig()) as run:
        teaching = teaching_by(judge, INSTRUCT, sandbox, run)
        session: Any = teaching.session
        session.tokenizer = tokenizer
        return judge_attempts(config, tasks(), made, teaching, {})


def test_a_yes_is_worth_its_probability(tmp_path: Path, sandbox: Sandbox):
    judge = Chooser([0.9, 0.6, 0.7], ["yes", "yes", "yes"])
    viewed = chosen(tmp_path, sandbox, judge, "yes-no", object(), samples=3)
    assert [one.score for one in viewed.feedback] == pytest.approx([0.9, 0.6, 0.7])
    (model,) = viewed.calibrations
    assert (model.scored, model.unreadable) == (3, 0)
    assert model.auroc is not None and model.auroc.mean == 1.0
    assert len(judge.asked) == 3  # weights say the same each time
    request, decoding = judge.asked[1]
    assert decoding.choices == ("yes", "no")
    assert request.prompt == INSTRUCT.to_verdict(TASK, BODIES["wrong"])
    assert "return x\n" in request.prompt and "yes or no" in request.prompt


def test_where_there_are_no_probabilities_the_word_counts(tmp_path: Path, sandbox: Sandbox):
    judge = Chooser([0.9, 0.6, 0.7], ["Yes.", "No, it fails for 'ab'.", "I cannot say."], gives=False)
    viewed = chosen(tmp_path, sandbox, judge, "yes-no", None, samples=2)
    assert [one.score for one in viewed.feedback] == [1.0, 0.0, None]
    assert viewed.calibrations[0].unreadable == 2
    assert len(judge.asked) == 6  # an endpoint may say different things


@pytest.mark.parametrize(("tokenizer", "form"), [(object(), "verdict"), (None, "points")])
def test_by_default_weights_choose_and_endpoints_give_points(
    tokenizer: object, form: str, tmp_path: Path, sandbox: Sandbox
):
    judge = Chooser([0.9, 0.6, 0.7], [judgement(2, 1, 1, 1, 1)] * 3)
    viewed = chosen(tmp_path, sandbox, judge, "auto", tokenizer)
    assert viewed.feedback[0].score == pytest.approx(0.9 if form == "verdict" else 1.0)
    assert all(bool(decoding.choices) == (form == "verdict") for _, decoding in judge.asked)


def test_a_set_without_the_question_asks_for_points(tmp_path: Path, sandbox: Sandbox):
    judge = Chooser([0.9], ["# wanted: a\n# does: a\n# score 4\n"])
    made = attempts(sandbox, BODIES["right"])
    for form in ("auto", "yes-no"):
        config = FeedbackConfig.model_validate({"views": "model", "judge": {"form": form}})
        with Run.open(tmp_path / form, RunConfig()) as run:
            teaching = teaching_by(judge, CONTINUED, sandbox, run)
            session: Any = teaching.session
            session.tokenizer = object()
            if form == "yes-no":
                with pytest.raises(ConfigError, match="continued-2 cannot ask for a yes or no"):
                    judge_attempts(config, tasks(), made, teaching, {})
            else:
                assert judge_attempts(config, tasks(), made, teaching, {}).feedback[0].score == 0.75
    assert len(judge.asked) == 1


def test_weights_judge_and_their_choices_are_kept(tmp_path: Path, sandbox: Sandbox):
    """A real model, through session, ledger and kept answers; once more, it is not asked again."""
    place = tiny_model(tmp_path / "model", "qwen2", positions=1024)
    made = attempts(sandbox, BODIES["right"], BODIES["wrong"])
    config = FeedbackConfig(views="model")
    scores = []
    for name in ("a", "b"):
        usage = TeacherUsage(answers=tmp_path / "answers", replay="record" if name == "a" else "only")
        with Run.open(tmp_path / name, RunConfig()) as run:
            weights = LocalTeacherConfig(model=str(place), dtype="float32")
            session = open_session(weights, usage, CPU, run)
            viewed = judge_attempts(config, tasks(), made, Teaching(session, INSTRUCT, sandbox, run), {})
            scores.append([one.score for one in viewed.feedback])
    assert scores[0] == scores[1] and len(set(scores[0])) == 2
    assert all(score is not None and 0 < score < 1 for score in scores[0])
    calls = [json.loads(line) for line in (tmp_path / "a" / "ledger.jsonl").read_text().splitlines()]
    assert [call["completion_tokens"] for call in calls if "completion_tokens" in call] == [1, 1]


def feedback(
    *scores: float | None, passed: bool | None = True, broken: bool | None = False
) -> list[Feedback]:
    return [Feedback("a", score, broken, passed) for score in scores]


@pytest.mark.parametrize(
    ("found", "bin"),
    [
        (feedback(0.9, 0.8), "easy"),
        (feedback(0.9, 0.8, passed=False), "medium"),
        (feedback(0.9, 0.8, passed=None), "easy"),
        (feedback(0.5, 0.6), "medium"),
        (feedback(0.3, 0.2), "hard"),
        (feedback(0.9, broken=True), "hard"),
        ([*feedback(0.9, broken=True), *feedback(0.9)], "easy"),
        (feedback(None, broken=None), "medium"),
        (feedback(None, 0.1, broken=None, passed=None), "hard"),
    ],
)
def test_bins(found: list[Feedback], bin: str):
    assert bins(FeedbackConfig(), found) == {"a": bin}


def test_a_view_that_knows_nothing_is_called_so():
    passed, tasks = [True, False] * 40, [f"t/{n}" for n in range(80)]
    good = calibrate("model", [float(ok) for ok in passed], passed, tasks)
    assert not good.by_chance and good.warning == "" and good.drift is None
    blind = calibrate("tool", [0.5] * 80, passed, tasks, first=good, unreadable=3)
    assert blind.by_chance and blind.drift == pytest.approx(-0.5) and blind.unreadable == 3
    assert blind.warning.startswith("the tool view is no better than chance: AUROC 0.50")
    none = calibrate("tool", [0.5, 0.7], [True, True], ["a", "b"])
    assert none.auroc is None and "could not be calibrated" in none.warning
    some = calibrate("model", [None, 1.0, 0.0], [True, True, False], ["a", "a", "b"])
    assert some.scored == 2
    assert some.auroc is not None and some.auroc.mean == 1 and some.by_chance  # two attempts show nothing
    assert "unknown worth" in some.warning


def test_a_view_is_warned_of_while_its_interval_reaches_one_half():
    """Not by its estimate alone; and two attempts at a task are no two tasks."""
    passed = [True, False] * 60
    scores = [0.6 if ok == (n % 10 < 6) else 0.4 for n, ok in enumerate(passed)]  # right in 6 of 10
    every = calibrate("model", scores, passed, [f"t/{n}" for n in range(120)])
    assert every.auroc is not None and every.auroc.mean == pytest.approx(0.6)
    assert 0.5 < every.auroc.low < 0.53 and not every.by_chance
    fewer = calibrate("model", scores[:80], passed[:80], [f"t/{n}" for n in range(80)])
    assert fewer.auroc is not None and fewer.auroc.mean == pytest.approx(0.6) and fewer.by_chance
    assert fewer.warning.startswith("the model view is of unknown worth, as its interval is wide: AUROC 0.60")
    same = calibrate("model", scores, passed, [f"t/{n % 60}" for n in range(120)])
    assert same.auroc is not None and same.auroc.mean == every.auroc.mean and same.by_chance


def test_a_round_calibrates_attempts_by_their_tasks(tmp_path: Path, sandbox: Sandbox):
    """All attempts are at one task, so that every draw is the same: an interval of no width, or Wilson's."""
    bodies = [BODIES["right"], BODIES["wrong"], BODIES["raises"]] * 4
    viewed = looked(FeedbackConfig(views="tool"), sandbox, tmp_path, [], *bodies)
    (tool,) = viewed.calibrations
    assert tool.auroc is not None and tool.auroc.mean == 0.75
    assert tool.auroc.low == tool.auroc.high == 0.75


def test_thresholds_in_order():
    with pytest.raises(ValueError, match="hard is a score below"):
        FeedbackConfig(easy=0.2, hard=0.5)


def test_configs(tmp_path: Path):
    config: Any = FeedbackConfig.model_validate({"judge": {"by": "model", "model": "pocket"}})
    assert config.judge.model.model == "pocket"


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_same_view_of_another_language(sandbox: Sandbox):
    update = {
        "language": "javascript",
        "prompt": "function double(x) {\n",
        "reference": "  return x + x;\n}\n",
    }
    task_set = tasks(TASK.model_copy(update=update))
    bodies = ("  return x + x;\n}\n", "  return x.y.z;\n}\n", "  return (;\n}\n")
    some = [Completion(task_id="t/0", sample=n, text=text) for n, text in enumerate(bodies)]
    right, raises, broken = inspect(
        task_set, sandbox, FeedbackConfig().tool, list(execute(sandbox, task_set, some))
    )
    assert right.checks == {"parse": 1, "compile": 1, "load": 1, "calls": 1, "tests": 1}
    assert raises.checks["calls"] == 0 and raises.checks["compile"] == 1 and raises.broken
    assert broken.checks["parse"] == 0 and "Unexpected token" in broken.findings[0]


def test_a_language_without_tools_has_no_static_checks(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(languages.TOOLS, "python")  # type: ignore[arg-type]
    (report,) = inspect(tasks(), sandbox, FeedbackConfig().tool, attempts(sandbox, BODIES["right"]))
    assert report.checks == {"load": 1.0, "calls": 1.0, "tests": 1.0} and not report.findings
    assert report.score(Weights(), tests=True) == 1.0
