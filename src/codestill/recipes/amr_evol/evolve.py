"""Adaptive response evolution (arXiv:2410.00558, section 2.3): retrieve, write the answer again, grow the
library.

Whatever depends on the library is a record of a stage: a resumed run reads what was retrieved, and which
functions were new, from there, and so grows the same library.
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
from codestill.types import Completion, Record, Request, Settings, Task


class EvolutionConfig(Settings):
    """How answers are taken apart and written again; each switch is an ablation."""

    decompose: bool = True
    """Take the task apart. Without, the direct answer itself is what the library is searched for."""
    retrieve: bool = True
    """Search the library. Without, the answer is written again from the decomposition alone, and the library
    does not grow."""
    retries: NonNegativeInt = 2
    """Retries of a malformed decomposition."""
    retry: SamplingConfig = SamplingConfig(temperature=0.7)
    """How retries are sampled."""
    top_k: PositiveInt = 1
    """Functions retrieved for each module."""
    cosine: float = Field(default=0.0, ge=-1, le=1)
    """A function that is retrieved for a module is shown from this cosine on; the nearest then stands for the
    module, and takes its name and its parameters' names. The paper shows every one: -1."""
    missing: Literal["describe", "solve"] = "describe"
    """A module without a retrieved function is shown without code; or the teacher solves it first."""
    gate: Literal["none", "fallback", "repair"] = "none"
    """Execute the evolved answer on tests that the teacher generated (never the task's own). If it fails,
    take the direct answer; or have it repaired once, and take the direct answer if that fails, too. The paper
    has none."""
    wave: PositiveInt = 50
    """Instructions answered with the same library, which grows after each wave, in their order."""


class Retrieved(Record):
    """What was found for the modules of a task."""

    task_id: str
    found: tuple[tuple[tuple[str, float], ...], ...]
    """For each module, keys and cosines of the functions, nearest first."""

    @property
    def key(self) -> str:
        return self.task_id


class Candidate(Record):
    """A function that an answer new_functions, and whether the library lacks it."""

    function: Function
    novel: bool

    @property
    def key(self) -> str:
        return self.function.origin


@dataclass(frozen=True)
class Plan:
    """What a task's answer is written again with."""

    modules: tuple[Function, ...]
    """With code where there is some."""
    functions: tuple[Function, ...]
    """All that has code, in the order of the modules."""


@dataclass(frozen=True)
class Wave:
    """Tasks that are answered with the same library, their direct answers, and what the library is searched
    for."""

    tasks: Sequence[Task]
    direct: Mapping[str, Response]
    modules: Mapping[str, Sequence[Function]]
    """Of the tasks that are evolved; all others keep their direct answer."""


def evolve(
    teaching: Teaching, wave: Wave, library: Library | None, config: EvolutionConfig, sampling: SamplingConfig
) -> dict[str, Response]:
    """Evolved answers by task id, or the direct one and why. Stages: retrieved, solved, evolved."""
    tasks = [task for task in wave.tasks if wave.modules.get(task.task_id)]
    found = _retrieve(teaching, tasks, wave.modules, library, config) if library is not None else {}
    plans = _plans(teaching, tasks, wave.modules, found, config, sampling)
    requests: list[Request] = []
    responses: dict[str, Response] = {}
    for task in tasks:
        plan, direct = plans[task.task_id], wave.direct[task.task_id]
        if not plan.functions and not (plan.modules and not teaching.modular.needs_code):
            responses[task.task_id] = direct.model_copy(update={"why": "nothing is known of it"})
        elif teaching.modular.needs_code and not all(module.code for module in plan.modules):
            responses[task.task_id] = direct.model_copy(update={"why": "a module has no code"})
        else:
            headers = [module.header for module in plan.modules]
            codes = [function.code for function in plan.functions]
            prompt = teaching.modular.to_evolve(task.prompt, task.prompt + direct.completion, headers, codes)
            requests.append(Request(task_id=task.task_id, prompt=prompt))
    known = {task.task_id: task for task in tasks}
    for answer in teaching.ask_for_code("evolved", requests, sampling) if requests else []:
        task = known[answer.task_id]
        try:
            completion = _read(answer, task, plans[task.task_id], teaching)
            response = Response(task_id=task.task_id, completion=completion, how="evolved")
        except ValueError as error:
            response = wave.direct[task.task_id].model_copy(update={"why": str(error)})
        responses[task.task_id] = response
    return {task.task_id: responses.get(task.task_id, wave.direct[task.task_id]) for task in wave.tasks}


def _read(answer: Completion, task: Task, plan: Plan, teaching: Teaching) -> str:
    """The completion, with what it calls. Raises ValueError, saying why, where it cannot be used."""
    if answer.finish == "length":
        raise ValueError("the evolved answer was cut")
    program = task.prompt + teaching.prompts.read(answer.text, task, teaching.stop)
    try:
        program = self_contained(program, [(one.name, one.code) for one in plan.functions])
        tree = parse(program)
        lacking = undefined(program)
    except SyntaxError as error:
        raise ValueError("the evolved answer does not parse") from error
    if task.entry_point not in [getattr(node, "name", "") for node in tree.body]:
        raise ValueError("the evolved answer lacks the function")
    if lacking:
        raise ValueError(f"the evolved answer uses what nothing defines: {min(lacking)}")
    completion = program.removeprefix(task.prompt)
    if mentions(completion):
        raise ValueError("the evolved answer speaks of what it was shown")
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
            keys = tuple(tuple((hit.function.key, hit.cosine) for hit in some) for some in of_task)
            yield Retrieved(task_id=task.task_id, found=keys)

    known = library.by_key()
    return {
        one.task_id: [[(known[key], cosine) for key, cosine in some] for some in one.found]
        for one in teaching.run.stage("retrieved", Retrieved, tasks, search)
    }


def _plans(
    teaching: Teaching,
    tasks: Sequence[Task],
    modules: Mapping[str, Sequence[Function]],
    found: Mapping[str, Sequence[Sequence[tuple[Function, float]]]],
    config: EvolutionConfig,
    sampling: SamplingConfig,
) -> dict[str, Plan]:
    """What is shown for each task; the code of modules that the library lacks is asked for."""
    shown: dict[str, list[list[Function]]] = {}
    lacking: dict[str, Task] = {}
    for task in tasks:
        of_task = modules[task.task_id]
        hits = found.get(task.task_id) or [()] * len(of_task)
        near = [[one for one, cosine in some if cosine >= config.cosine] for some in hits]
        shown[task.task_id] = near
        for module, some in zip(of_task, near, strict=True):
            if config.decompose and not some and config.missing == "solve":
                asked = as_task(f"{task.task_id}/{module.name}", module, teaching)
                lacking.setdefault(asked.prompt, asked)
    requests = [
        Request(task_id=one.task_id, prompt=teaching.prompts.to_solve(one)) for one in lacking.values()
    ]
    answers = teaching.ask_for_code("solved", requests, sampling) if requests else []
    solved = {
        task.prompt: task.prompt + teaching.prompts.read(one.text, task, teaching.stop)
        for task, one in zip(lacking.values(), answers, strict=True)
    }
    plans = {}
    for task in tasks:
        own: list[Function] = []
        functions: list[Function] = []
        for module, some in zip(modules[task.task_id], shown[task.task_id], strict=True):
            if not config.decompose:
                functions += some
                continue
            code = ""
            if some:
                code = adapted(some[0], module)
            elif config.missing == "solve":
                asked = as_task(module.name, module, teaching)
                code = _renamed(solved[asked.prompt], asked.entry_point, module.name)
            own.append(module.model_copy(update={"code": code}))
            functions += [own[-1]] if code else []
            functions += some[1:]
        named = {one.name: one for one in functions if one.name != task.entry_point}
        plans[task.task_id] = Plan(tuple(own), tuple(named.values()))
    return plans


def _renamed(code: str, old: str, new: str) -> str:
    """The code under its module's name; nothing where it does not parse."""
    try:
        parse(code)
        return renamed(code, old, new)
    except SyntaxError:
        return ""


def as_task(task_id: str, function: Function, teaching: Teaching) -> Task:
    """A module, or a function that has code, as a task of its own, under the name that the teacher knows."""
    name = teaching.modular.alias or function.name
    header = function.model_copy(update={"name": name}).header
    task = untested(task_id, header, name)
    if not function.code:
        return task
    program = renamed(function.code, function.name, name)
    imports = [one for one in program.split("\n") if one.startswith(("import ", "from "))]
    # Annotations may need what is imported.
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
    """Evolved answers that pass the teacher's own tests, or for which it has none; else as ``config.gate``
    says. Stages: gate-..., gated, gate-repairs, gated-again."""
    own = [
        task.model_copy(update={"reference": evolved[task.task_id].completion})
        for task in wave.tasks
        if evolved[task.task_id].how == "evolved"
    ]
    tested = teacher_tests(teaching, "gate", own, agreement)
    known = {task.task_id: task for task in tested}
    completions = [Completion(task_id=task.task_id, sample=0, text=task.reference) for task in tested]
    attempts = run_on(teaching, "gated", tested, completions)
    failed = [attempt for attempt in attempts if not attempt.result.passed]
    responses = dict(evolved)
    for attempt in failed:
        direct = wave.direct[attempt.task_id]
        responses[attempt.task_id] = direct.model_copy(update={"why": "it fails the teacher's tests"})
    if config.gate == "repair" and failed:
        requests = [
            Request(
                task_id=attempt.task_id,
                prompt=teaching.prompts.to_refine(
                    known[attempt.task_id], attempt.completion.text, feedback(attempt.result)
                ),
            )
            for attempt in failed
        ]
        repairs = [
            read(answer, teaching.prompts, known[answer.task_id], teaching.stop)
            for answer in teaching.ask_for_code("gate-repairs", requests, sampling)
        ]
        for attempt in run_on(teaching, "gated-again", tested, repairs):
            if attempt.result.passed:
                responses[attempt.task_id] = Response(
                    task_id=attempt.task_id, completion=attempt.completion.text, how="repaired"
                )
    return responses


def new_functions(tasks: Sequence[Task], responses: Mapping[str, Response]) -> list[Function]:
    """The functions that evolved answers hold besides the tasks' own, described and unverified, in order."""
    found: list[Function] = []
    for task in tasks:
        response = responses[task.task_id]
        if response.how == "evolved":
            functions = read_functions(task.prompt + response.completion)
            found += [
                one.model_copy(update={"origin": f"{task.task_id}/{one.name}"})
                for one in functions
                if one.description and one.name != task.entry_point
            ]
    return found


def verify(
    teaching: Teaching,
    name: str,
    functions: Sequence[Function],
    library: Library,
    novelty: float,
    agreement: AgreementConfig,
) -> list[Function]:
    """Those of the functions that the library lacks and on which the teacher agrees, with their tests.

    A function is new if its cosine distance to every function of the library and to every new one before it
    exceeds ``novelty``; then the teacher writes its tests, and it must be of the group that is believed.
    ``origin`` is a function's key. Stages: ``<name>-novelty`` and those of :func:`agreement.agree`.
    """
    keyed = [_Keyed(function=one) for one in functions]

    def judge(owed: Sequence[_Keyed]) -> Iterator[Candidate]:
        new = set(library.novel(functions, novelty))  # of all: one that is owed may be like one that is not
        wanted = {one.key for one in owed}
        for number, function in enumerate(functions):
            if function.origin in wanted:
                yield Candidate(function=function, novel=number in new)

    novel = [
        one.function for one in teaching.run.stage(f"{name}-novelty", Candidate, keyed, judge) if one.novel
    ]
    tasks = [as_task(one.origin, one, teaching) for one in novel]
    agreed = agree(teaching, name, tasks, agreement) if tasks else {}
    return [
        one.model_copy(
            update={
                "tests": tuple(
                    renamed(test.code, task.entry_point, one.name) for test in agreed[one.origin].tests
                )
            }
        )
        for one, task in zip(novel, tasks, strict=True)
        if one.origin in agreed and 0 in agreed[one.origin].members
    ]


class _Keyed(Record):
    function: Function

    @property
    def key(self) -> str:
        return self.function.origin
