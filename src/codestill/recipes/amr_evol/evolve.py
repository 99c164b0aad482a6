"""Adaptive response evolution (arXiv:2410.00558, section 2.3): retrieve, rewrite the answer, grow the
library.

Everything that depends on the library is a stage record: a resumed run reads there what was retrieved and
which functions were novel, and so grows the same library.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from codestill.attempt import read
from codestill.models import SamplingConfig
from codestill.prompts import as_completion
from codestill.prompts.modular import mentions
from codestill.recipes.amr_evol.agreement import AgreementConfig, agree, run_on, teacher_tests
from codestill.recipes.amr_evol.library import Function, Library, read_functions, renamed
from codestill.recipes.amr_evol.library.functions import adapted, parse, self_contained, undefined
from codestill.recipes.amr_evol.responses import Response
from codestill.sandbox.feedback import feedback
from codestill.synthesis import untested
from codestill.teaching import Teaching
from codestill.types import Attempt, Completion, Record, Request, Settings, Task


class EvolutionConfig(Settings):
    """How answers are decomposed and rewritten; each switch is an ablation."""

    decompose: bool = True
    """Decompose the task into modules. Without, the direct answer itself is the query to the library."""
    retrieve: bool = True
    """Search the library. Without, the answer is rewritten from the decomposition alone, and the library does
    not grow."""
    retries: NonNegativeInt = 2
    """Retries of a malformed decomposition."""
    retry: SamplingConfig = SamplingConfig(temperature=0.7)
    """How retries are sampled."""
    top_k: PositiveInt = 1
    """Functions retrieved for each module."""
    cosine: float = Field(default=0.0, ge=-1, le=1)
    """Smallest cosine at which a retrieved function is shown; the nearest then implements the module, under
    the module's name and parameter names. The paper shows every one: -1."""
    missing: Literal["describe", "solve"] = "describe"
    """Show a module without a retrieved function as header and docstring, or have the teacher solve it
    first."""
    gate: Literal["none", "fallback", "repair"] = "none"
    """Execute the evolved answer on tests that the teacher generated, never the task's own. If it fails, take
    the direct answer (`fallback`); or have it repaired once, and take the direct answer only if the repair
    fails, too. The paper has no gate."""
    wave: PositiveInt = 50
    """Number of instructions answered with the same library, which grows after each wave, in their order."""


class Retrieved(Record):
    """The functions retrieved for the modules of a task."""

    task_id: str
    found: tuple[tuple[tuple[str, float], ...], ...]
    """For each module, keys and cosines of the retrieved functions, nearest first."""

    @property
    def key(self) -> str:
        return self.task_id


class Candidate(Record):
    """A function from an evolved answer, and whether the library lacks it."""

    function: Function
    novel: bool

    @property
    def key(self) -> str:
        return self.function.origin


@dataclass(frozen=True)
class Plan:
    """What a task's answer is rewritten with."""

    modules: tuple[Function, ...]
    """The task's modules, with code where there is any."""
    functions: tuple[Function, ...]
    """All functions with code, in the order of the modules."""


@dataclass(frozen=True)
class Wave:
    """Tasks that are answered with the same library, their direct answers, and the queries to the library."""

    tasks: Sequence[Task]
    direct: Mapping[str, Response]
    modules: Mapping[str, Sequence[Function]]
    """By task id, for the tasks that are evolved; all others keep their direct answer."""


def evolve(
    teaching: Teaching, wave: Wave, library: Library | None, config: EvolutionConfig, sampling: SamplingConfig
) -> dict[str, Response]:
    """Evolved answers by task id, or the direct answer and why. Stages: retrieved, solved, evolved."""
    tasks = [task for task in wave.tasks if wave.modules.get(task.task_id)]
    retrieved = _retrieve(teaching, tasks, wave.modules, library, config) if library is not None else {}
    plans = _plans(teaching, tasks, wave.modules, retrieved, config, sampling)
    requests: list[Request] = []
    responses: dict[str, Response] = {}
    for task in tasks:
        plan, direct = plans[task.task_id], wave.direct[task.task_id]
        if not plan.functions and not (plan.modules and not teaching.modular.needs_code):
            responses[task.task_id] = direct.model_copy(update={"why": "there is no function to show"})
        elif teaching.modular.needs_code and not all(module.code for module in plan.modules):
            responses[task.task_id] = direct.model_copy(update={"why": "a module has no code"})
        else:
            headers = [module.header for module in plan.modules]
            codes = [function.code for function in plan.functions]
            prompt = teaching.modular.to_evolve(task.prompt, task.program(direct.completion), headers, codes)
            requests.append(Request(task_id=task.task_id, prompt=prompt))
    by_id = {task.task_id: task for task in tasks}
    for answer in teaching.ask_for_code("evolved", requests, sampling) if requests else []:
        task = by_id[answer.task_id]
        try:
            completion = _read(answer, task, plans[task.task_id], teaching)
            response = Response(task_id=task.task_id, completion=completion, how="evolved")
        except ValueError as error:
            response = wave.direct[task.task_id].model_copy(update={"why": str(error)})
        responses[task.task_id] = response
    return {task.task_id: responses.get(task.task_id, wave.direct[task.task_id]) for task in wave.tasks}


def _read(answer: Completion, task: Task, plan: Plan, teaching: Teaching) -> str:
    """The completion, with the functions it calls. Raises ValueError with the reason if it is unusable."""
    if not answer.is_whole:
        raise ValueError("the evolved answer was truncated")
    completion = teaching.prompts.read(answer.text, task, teaching.stop)
    if not completion.strip():
        raise ValueError("the evolved answer lacks the function")
    whole = task.program(completion)
    try:
        program = self_contained(whole, [(function.name, function.code) for function in plan.functions])
        tree = parse(program)
        missing = undefined(program)
    except SyntaxError as error:
        raise ValueError("the evolved answer does not parse") from error
    if task.entry_point not in [getattr(node, "name", "") for node in tree.body]:
        raise ValueError("the evolved answer lacks the function")
    if missing:
        raise ValueError(f"the evolved answer uses an undefined name: {min(missing)}")
    if program != whole:  # functions follow it
        completion = completion.rstrip() + program.removeprefix(whole.rstrip())
    if mentions(completion):
        raise ValueError("the evolved answer mentions its prompt")
    return completion


def _retrieve(
    teaching: Teaching,
    tasks: Sequence[Task],
    modules: Mapping[str, Sequence[Function]],
    library: Library,
    config: EvolutionConfig,
) -> dict[str, list[list[tuple[Function, float]]]]:
    def search(owed: Sequence[Task]) -> Iterator[Retrieved]:
        queries = [module for task in owed for module in modules[task.task_id]]
        hits = iter(library.search(queries, config.top_k))
        for task in owed:
            of_task = [next(hits) for _ in modules[task.task_id]]
            keys = tuple(tuple((hit.function.key, hit.cosine) for hit in of_module) for of_module in of_task)
            yield Retrieved(task_id=task.task_id, found=keys)

    functions = library.by_key()
    return {
        record.task_id: [
            [(functions[key], cosine) for key, cosine in of_module] for of_module in record.found
        ]
        for record in teaching.run.stage("retrieved", Retrieved, tasks, search)
    }


def _plans(
    teaching: Teaching,
    tasks: Sequence[Task],
    modules: Mapping[str, Sequence[Function]],
    retrieved: Mapping[str, Sequence[Sequence[tuple[Function, float]]]],
    config: EvolutionConfig,
    sampling: SamplingConfig,
) -> dict[str, Plan]:
    """Each task's plan; modules that the library lacks are solved by the teacher if the config says so."""
    near: dict[str, list[list[Function]]] = {}
    unsolved: dict[str, Task] = {}
    for task in tasks:
        of_task = modules[task.task_id]
        hits = retrieved.get(task.task_id) or [()] * len(of_task)
        near[task.task_id] = [
            [function for function, cosine in of_module if cosine >= config.cosine] for of_module in hits
        ]
        for module, functions in zip(of_task, near[task.task_id], strict=True):
            if config.decompose and not functions and config.missing == "solve":
                subtask = as_task(f"{task.task_id}/{module.name}", module, teaching)
                unsolved.setdefault(subtask.prompt, subtask)
    requests = [
        Request(task_id=task.task_id, prompt=teaching.prompts.to_solve(task)) for task in unsolved.values()
    ]
    answers = teaching.ask_for_code("solved", requests, sampling) if requests else []
    solved = {
        task.prompt: task.program(teaching.prompts.read(answer.text, task, teaching.stop))
        for task, answer in zip(unsolved.values(), answers, strict=True)
    }
    return {
        task.task_id: _plan(teaching, task, modules[task.task_id], near[task.task_id], solved, config)
        for task in tasks
    }


def _plan(
    teaching: Teaching,
    task: Task,
    modules: Sequence[Function],
    near: Sequence[Sequence[Function]],
    solved: Mapping[str, str],
    config: EvolutionConfig,
) -> Plan:
    """A task's plan from the functions near each module and, by prompt, the teacher's solutions."""
    own: list[Function] = []
    shown: list[Function] = []
    for module, functions in zip(modules, near, strict=True):
        if not config.decompose:
            shown += functions
            continue
        code = ""
        if functions:
            code = adapted(functions[0], module)
        elif config.missing == "solve":
            subtask = as_task(module.name, module, teaching)
            code = _renamed(solved[subtask.prompt], subtask.entry_point, module.name)
        own.append(module.model_copy(update={"code": code}))
        shown += [own[-1]] if code else []
        shown += functions[1:]
    by_name = {function.name: function for function in shown if function.name != task.entry_point}
    return Plan(tuple(own), tuple(by_name.values()))


def _renamed(code: str, old: str, new: str) -> str:
    """The code under its module's name; empty where it does not parse."""
    try:
        parse(code)
        return renamed(code, old, new)
    except SyntaxError:
        return ""


def as_task(task_id: str, function: Function, teaching: Teaching) -> Task:
    """A module, or a function with code, as a task of its own, under the alias of the teacher's prompts."""
    name = teaching.modular.alias or function.name
    header = function.model_copy(update={"name": name}).header
    task = untested(task_id, header, name)
    if not function.code:
        return task
    program = renamed(function.code, function.name, name)
    imports = [line for line in program.split("\n") if line.startswith(("import ", "from "))]
    # Annotations may need the imports.
    prompt = "".join(f"{line}\n" for line in imports) + ("\n" if imports else "") + header
    return task.model_copy(update={"prompt": prompt, "reference": as_completion(program, task)})


def gate(
    teaching: Teaching,
    wave: Wave,
    evolved: Mapping[str, Response],
    config: EvolutionConfig,
    sampling: SamplingConfig,
    agreement: AgreementConfig,
) -> dict[str, Response]:
    """The evolved answers, each that fails the teacher's own tests replaced as ``config.gate`` says.

    Stages: gate-..., gated, gate-repairs, gated-again.
    """
    evolved_tasks = [
        task.model_copy(update={"reference": evolved[task.task_id].completion})
        for task in wave.tasks
        if evolved[task.task_id].how == "evolved"
    ]
    tested = teacher_tests(teaching, "gate", evolved_tasks, agreement)
    by_id = {task.task_id: task for task in tested}
    completions = [Completion(task_id=task.task_id, sample=0, text=task.reference) for task in tested]
    attempts = run_on(teaching, "gated", tested, completions)
    failed = [attempt for attempt in attempts if not attempt.result.passed]
    responses = dict(evolved)
    for attempt in failed:
        direct = wave.direct[attempt.task_id]
        responses[attempt.task_id] = direct.model_copy(update={"why": "it fails the teacher's tests"})
    if config.gate == "repair" and failed:
        for attempt in run_on(teaching, "gated-again", tested, _repairs(teaching, by_id, failed, sampling)):
            if attempt.result.passed and attempt.completion.is_whole:
                responses[attempt.task_id] = Response(
                    task_id=attempt.task_id, completion=attempt.completion.text, how="repaired"
                )
    return responses


def _repairs(
    teaching: Teaching, tasks: Mapping[str, Task], failed: Sequence[Attempt], sampling: SamplingConfig
) -> list[Completion]:
    """The teacher's repairs of failed attempts, with execution feedback; ``tasks`` are by id."""
    requests = [
        Request(
            task_id=attempt.task_id,
            prompt=teaching.prompts.to_refine(
                tasks[attempt.task_id], attempt.completion.text, feedback(attempt.result)
            ),
        )
        for attempt in failed
    ]
    return [
        read(answer, teaching.prompts, tasks[answer.task_id], teaching.stop)
        for answer in teaching.ask_for_code("gate-repairs", requests, sampling)
    ]


def new_functions(tasks: Sequence[Task], responses: Mapping[str, Response]) -> list[Function]:
    """The documented functions in evolved answers besides the tasks' own, unverified, in order."""
    helpers: list[Function] = []
    for task in tasks:
        response = responses[task.task_id]
        if response.how == "evolved":
            functions = read_functions(task.program(response.completion))
            helpers += [
                function.model_copy(update={"origin": f"{task.task_id}/{function.name}"})
                for function in functions
                if function.description and function.name != task.entry_point
            ]
    return helpers


def verify(
    teaching: Teaching,
    name: str,
    functions: Sequence[Function],
    library: Library,
    novelty: float,
    agreement: AgreementConfig,
) -> list[Function]:
    """The functions that the library lacks and the teacher's answers confirm, with their tests.

    A function is novel if its cosine distance to every function of the library and to every novel one before
    it exceeds ``novelty``. The teacher then generates its tests, and the function must be in the accepted
    group. ``origin`` is a function's key. Stages: ``<name>-novelty`` and those of :func:`agreement.agree`.
    """
    keyed = [_Keyed(function=function) for function in functions]

    def judge(owed: Sequence[_Keyed]) -> Iterator[Candidate]:
        # Of all functions: one that is owed may resemble one that is not.
        new = set(library.novel(functions, novelty))
        wanted = {item.key for item in owed}
        for number, function in enumerate(functions):
            if function.origin in wanted:
                yield Candidate(function=function, novel=number in new)

    novel = [
        candidate.function
        for candidate in teaching.run.stage(f"{name}-novelty", Candidate, keyed, judge)
        if candidate.novel
    ]
    tasks = [as_task(function.origin, function, teaching) for function in novel]
    agreed = agree(teaching, name, tasks, agreement) if tasks else {}
    return [
        function.model_copy(
            update={
                "tests": tuple(
                    renamed(test.code, task.entry_point, function.name)
                    for test in agreed[function.origin].tests
                )
            }
        )
        for function, task in zip(novel, tasks, strict=True)
        if function.origin in agreed and 0 in agreed[function.origin].members
    ]


class _Keyed(Record):
    function: Function

    @property
    def key(self) -> str:
        return self.function.origin
