"""Examine a pocket teacher, skill by skill."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from codestill.attempt import Workbench, requests
from codestill.evaluation.metrics import auroc, interval, paired_difference
from codestill.files.serialize import read_record, write_object
from codestill.models import Completer, Decoding, SamplingConfig
from codestill.pocket import generate
from codestill.pocket.compositions import split_of
from codestill.pocket.generate import Sketch
from codestill.pocket.render import body
from codestill.pocket.skills import (
    LEVELS,
    MAX_SCORE,
    Judgement,
    Level,
    ask_prompt,
    compose_prompt,
    decompose_prompt,
    fits,
    inputs_prompt,
    judge_prompt,
    read_asked,
    read_judgement,
    read_parts,
    read_sketch,
    refine_prompt,
    sub_functions,
)
from codestill.prompts import prompts_for
from codestill.recipes.pocket.exam.records import Exam, ExamConfig, JudgeCalibration, Measure, Score
from codestill.run import Run
from codestill.sandbox import Program, Sandbox
from codestill.sandbox.feedback import feedback
from codestill.synthesis import read_calls
from codestill.tasks import TaskSet
from codestill.tasks.stops import STOP_RULES
from codestill.types import Attempt, Completion, Request, Task, Test


def examine(
    teacher: Completer,
    student: Completer,
    taught: Collection[str],
    config: ExamConfig,
    sandbox: Sandbox,
    run: Run,
) -> Exam:
    """Examine ``teacher``; writes ``exam-<split>.json``. Resumable: no answer is generated twice.

    ``student`` generates the attempts that are repaired and judged; ``taught`` are the prompts of the tasks
    in the teacher's lessons. Raises SandboxError when programs could not be executed.
    """
    done = finished(config, run)
    if done is not None:
        return done
    room = _Room(teacher, student, taught, config, sandbox, run)
    scores = [*room.solve(), *room.refine(), *room.decompose(), *room.inputs(), *room.ask()]
    judged, calibration = room.judge()
    exam = Exam(
        model=teacher.name,
        student=student.name,
        split=config.split,
        sandbox=sandbox.description,
        scores=(*scores, *judged),
        calibration=calibration,
    )
    write_object(_path(config, run), exam, indent=1)
    return exam


def finished(config: ExamConfig, run: Run) -> Exam | None:
    """The exam that the run already holds, if any."""
    path = _path(config, run)
    return read_exam(path) if path.exists() else None


def read_exam(path: Path) -> Exam:
    """The exam in a file. Raises RunError when it is damaged, or not one."""
    step = "Delete the file and run the same command again: the answers are kept."
    return read_record(path, Exam, step)


def _path(config: ExamConfig, run: Run) -> Path:
    return run.file(f"exam-{config.split}.json")


@dataclass(frozen=True)
class _Room:
    """One teacher's exam: its settings, its tasks, and a method per skill."""

    teacher: Completer
    student: Completer
    taught: Collection[str]
    config: ExamConfig
    sandbox: Sandbox
    run: Run

    @cached_property
    def tasks(self) -> list[Task]:
        return generate(self.config.split, self.config.count, self.config.seed, depths=(2, 3))

    @cached_property
    def deep(self) -> list[Task]:
        return generate(self.config.split, self.config.count, self.config.seed + 1000, depths=(4,))

    @cached_property
    def sketches(self) -> dict[str, Sketch]:
        return {task.task_id: _sketch(task) for task in (*self.tasks, *self.deep)}

    @cached_property
    def attempts(self) -> dict[str, list[Attempt]]:
        """The student's attempts by task: one greedy, one at temperature 0.8."""
        greedy = self.attempt("student-greedy", self.student, self.tasks)
        sampled = self.attempt("student-sampled", self.student, self.tasks, temperature=0.8)
        return {first.task_id: [first, second] for first, second in zip(greedy, sampled, strict=True)}

    def attempt(
        self,
        stage: str,
        model: Completer,
        tasks: Sequence[Task],
        temperature: float = 0.0,
        asked: Sequence[Request] = (),
    ) -> list[Attempt]:
        """The model's answers to the tasks' prompts, or to what is ``asked`` about them, executed."""
        chosen = TaskSet("exam", tuple(tasks), self.config.split, "zero-shot", STOP_RULES["definitions"])
        sampling = SamplingConfig(max_new_tokens=self.config.max_new_tokens, temperature=temperature)
        bench, name = Workbench(self.sandbox, self.run), self.stage(stage)
        produce = partial(bench.try_out, model, chosen, sampling, watcher=self.run.watch(name))
        return self.run.stage(name, Attempt, asked or requests(chosen, 1, prompts_for(model)), produce)

    def answers(self, stage: str, asked: Sequence[Request], temperature: float = 0.0) -> list[Completion]:
        """What the teacher says to prompts that do not ask for a program."""
        sampling = SamplingConfig(max_new_tokens=self.config.max_new_tokens, temperature=temperature)
        complete = partial(self.teacher.complete, decoding=Decoding(sampling, seed=self.run.seed))
        return self.run.stage(self.stage(stage), Completion, asked, complete)

    def stage(self, name: str) -> str:
        return f"exam-{self.config.split}-{name}"

    def score(self, measure: Measure, outcomes: Mapping[str, float]) -> Score:
        """The mean of an outcome for each task id, also by depth."""
        depths = sorted({len(self.sketches[task_id].composition) for task_id in outcomes})
        groups = {
            str(depth): [
                value for key, value in outcomes.items() if len(self.sketches[key].composition) == depth
            ]
            for depth in depths
        }
        return Score(
            measure=measure,
            value=interval(list(outcomes.values())),
            count=len(outcomes),
            by_depth={depth: interval(values) for depth, values in groups.items()},
        )

    # skills

    def solve(self) -> Iterator[Score]:
        """Solve, and compose: the same tasks with helper functions before them."""
        yield self.score("solve", _passed(self.attempt("solve", self.teacher, self.tasks)))
        alone = _passed(self.attempt("solve-deep", self.teacher, self.deep))
        helped = _passed(
            self.attempt("compose", self.teacher, [self.with_helpers(task) for task in self.deep])
        )
        yield self.score("solve depth 4", alone)
        yield self.score("compose depth 4", helped)
        gained = paired_difference([list(helped.values())], [list(alone.values())])
        yield Score(measure="compose - solve depth 4", value=gained, count=len(alone))

    def with_helpers(self, task: Task) -> Task:
        helpers = [function.code for function in sub_functions(self.sketches[task.task_id])]
        return task.model_copy(update={"prompt": compose_prompt(task.prompt, helpers)})

    def refine(self) -> Iterator[Score]:
        failed = {task_id: both[0] for task_id, both in self.attempts.items() if not both[0].result.passed}
        tasks = [task for task in self.tasks if task.task_id in failed]
        asked = [
            Request(
                task_id=task.task_id,
                prompt=refine_prompt(
                    task.prompt,
                    failed[task.task_id].completion.text,
                    feedback(failed[task.task_id].result),
                ),
            )
            for task in tasks
        ]
        if not asked:  # a student that solves every task
            return
        yield self.score("refine", _passed(self.attempt("refine", self.teacher, tasks, asked=asked)))

    def decompose(self) -> Iterator[Score]:
        asked = [
            Request(task_id=task.task_id, prompt=decompose_prompt(task.prompt))
            for task in (*self.tasks, *self.deep)
        ]
        valid, correct = {}, {}
        for answer in self.answers("decompose", asked):
            sketch = self.sketches[answer.task_id]
            composition = fits(sketch.source, sketch.gives, read_parts(answer.text))
            valid[answer.task_id] = float(composition is not None and len(composition) > 1)
            correct[answer.task_id] = float(composition == sketch.composition)
        yield self.score("decompose valid", valid)
        yield self.score("decompose right", correct)

    def inputs(self) -> Iterator[Score]:
        asked = [
            Request(task_id=task.task_id, prompt=inputs_prompt(task.prompt, task.reference))
            for task in self.tasks
        ]
        calls = {
            answer.task_id: read_calls(self.sketches[answer.task_id].function, answer.text)
            for answer in self.answers("inputs", asked, self.config.temperature)
        }
        tasks = [task for task in self.tasks if len(calls[task.task_id]) >= 3]
        results = self.sandbox.run(self.trying(task, calls[task.task_id]) for task in tasks)
        passed = {
            task.task_id: [test.verdict == "pass" for test in result.tests]
            for task, result in zip(tasks, results, strict=True)
        }
        tried = {task.task_id: [*passed.get(task.task_id, []), False, False] for task in self.tasks}
        yield self.score("inputs valid", {key: float(tests[0]) for key, tests in tried.items()})
        yield self.score("inputs telling", {key: float(all(tests[:2])) for key, tests in tried.items()})

    def trying(self, task: Task, calls: Sequence[str]) -> Program:
        """Tests that the reference accepts the calls, and that each mutant differs on at least one."""
        sketch = self.sketches[task.task_id]
        header = f"({sketch.parameter}):\n"
        versions = [task.prompt + task.reference]
        versions += [f"def mutant_{n}{header}{text}" for n, text in enumerate(_mutants(sketch))]
        arguments = [call[len(sketch.function) + 1 : -1] for call in calls]
        names = ", ".join(f"mutant_{n}" for n in range(len(versions) - 1))
        versions.append(f"ARGUMENTS = [{', '.join(f'({text},)' for text in arguments)}]\n")
        versions.append(f"def taken():\n    return [{sketch.function}(*a) for a in ARGUMENTS] != []\n")
        versions.append(f"def told():\n    return all([_told(m) for m in [{names}]])\n")
        versions.append(_TOLD.format(function=sketch.function))
        tests = (Test(code="assert taken() is True"), Test(code="assert told() is True"))
        return Program(solution="\n".join(versions), entry_point="taken", tests=tests)

    def ask(self) -> Iterator[Score]:
        levels: dict[str, Level] = {
            task.task_id: LEVELS[number % len(LEVELS)] for number, task in enumerate(self.tasks)
        }
        asked = [
            Request(task_id=task.task_id, prompt=ask_prompt(task.prompt, levels[task.task_id]))
            for task in self.tasks
        ]
        new, level = {}, {}
        for answer in self.answers("ask", asked, self.config.ask_temperature):
            prompt = read_asked(answer.text)
            seed, proposed = self.sketches[answer.task_id], read_sketch(prompt)
            well_formed = proposed is not None and split_of(proposed.composition) is not None
            new[answer.task_id] = float(well_formed and prompt not in self.taught)
            longer = len(proposed.composition) - len(seed.composition) if proposed is not None else None
            requested = LEVELS.index(levels[answer.task_id]) - 1
            level[answer.task_id] = float(well_formed and longer == requested)
        yield self.score("ask", new)
        yield self.score("ask level", level)

    def judge(self) -> tuple[list[Score], tuple[JudgeCalibration, ...]]:
        programs = [attempt for both in self.attempts.values() for attempt in both]
        prompts = {task.task_id: task.prompt for task in self.tasks}
        asked = [
            Request(
                task_id=program.task_id,
                sample=number % 2,
                prompt=judge_prompt(prompts[program.task_id], program.completion.text),
            )
            for number, program in enumerate(programs)
        ]
        judgements = [read_judgement(answer.text) for answer in self.answers("judge", asked)]
        points = [0 if judgement is None else judgement.score for judgement in judgements]
        ranked = self.ranked(asked, [_rating(judgement) for judgement in judgements])
        passed = [program.result.passed for program in programs]
        shares = [
            sum(test.verdict == "pass" for test in program.result.tests) / max(1, len(program.result.tests))
            for program in programs
        ]
        calibration = tuple(
            JudgeCalibration(
                score=score, programs=len(rows), passed=_mean(passed, rows), tests=_mean(shares, rows)
            )
            for score in range(MAX_SCORE + 1)
            if (rows := [number for number, value in enumerate(points) if value == score])
        )
        readable = interval([float(judgement is not None) for judgement in judgements])
        scores = [Score(measure="judge read", value=readable, count=len(programs))]
        if len(set(passed)) > 1:
            area = auroc(ranked, passed, [program.task_id for program in programs])
            scores.insert(0, Score(measure="judge AUROC", value=area, count=len(programs)))
        return scores, calibration

    def ranked(self, asked: Sequence[Request], first: Sequence[float]) -> list[float]:
        """The mean of several ratings for each program: the first, greedy one, and further sampled ones."""
        more = self.config.judgements - 1
        # The sample number counts a task's programs, and within each its verdicts.
        further = [
            request.model_copy(update={"sample": request.sample * more + turn})
            for request in asked
            for turn in range(more)
        ]
        answers = self.answers("judge-more", further, self.config.temperature)
        ratings = [_rating(read_judgement(answer.text)) for answer in answers]
        return [
            (rating + sum(ratings[place * more : (place + 1) * more])) / (more + 1)
            for place, rating in enumerate(first)
        ]


_TOLD = """
def _told(mutant):
    for a in ARGUMENTS:
        try:
            if mutant(*a) != {function}(*a):
                return True
        except Exception:
            return True
    return False
"""


def _rating(judgement: Judgement | None) -> float:
    return 0.0 if judgement is None else judgement.rating


def _mean(values: Sequence[float], rows: Sequence[int]) -> float:
    return sum(values[row] for row in rows) / len(rows)


def _passed(attempts: Iterable[Attempt]) -> dict[str, float]:
    return {attempt.task_id: float(attempt.result.passed) for attempt in attempts}


def _sketch(task: Task) -> Sketch:
    sketch = read_sketch(task.prompt)
    assert sketch is not None, task.prompt  # the grammar's own prompts have exactly one reading
    return sketch


def _mutants(sketch: Sketch) -> Iterator[str]:
    """Bodies without one of the operations, where the types still fit: deletion mutants."""
    for place in sketch.removable:
        yield body(*sketch.without(place), sketch.parameter)
