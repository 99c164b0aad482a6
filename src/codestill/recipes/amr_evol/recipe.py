"""The method of AMR-Evol: gather instructions, answer them, train. See the folder's docstring."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from codestill.embeddings import AnyEmbedderConfig, TfidfEmbedderConfig
from codestill.errors import TaskError
from codestill.evaluation import EvaluateConfig, evaluate
from codestill.examples import require_room, row, subset
from codestill.losses import CrossEntropy
from codestill.models import Asked, SamplingConfig
from codestill.prompts import prompt_set
from codestill.prompts.template import require_python
from codestill.recipes.amr_evol.agreement import AgreementConfig
from codestill.recipes.amr_evol.decompose import decompose
from codestill.recipes.amr_evol.evolve import EvolutionConfig, Wave, evolve, gate, new_functions, verify
from codestill.recipes.amr_evol.growth import account, write_growth
from codestill.recipes.amr_evol.instructions import InstructionsConfig, instruct
from codestill.recipes.amr_evol.library import Function, Library, LibrarySpec, Part, read_functions
from codestill.recipes.amr_evol.responses import Response, answer_repair, best_of, chain_of_thought, direct
from codestill.records import GROWS
from codestill.run import Run
from codestill.synthesis import SynthesisConfig, propose
from codestill.tasks import TasksConfig, TaskSet, require_trainable
from codestill.teaching import TaughtConfig, Teaching
from codestill.train import fit
from codestill.types import Example, Settings, Task

if TYPE_CHECKING:
    from codestill.models.student import Student


SATURATES = ("wave-*/solved", "wave-*/growth-answers", "wave-*/growth-calls", "wave-*/growth-outputs")
"""Stages to which each task adds less than the one before: what the library holds is not made again."""


class LibraryConfig(Settings):
    """The function library."""

    embedder: AnyEmbedderConfig = TfidfEmbedderConfig()
    """How functions are compared."""
    parts: tuple[Part, ...] = ("types", "description")
    """Which parts of a function are embedded: `name`, `signature`, `types` (without the names of parameters),
    `description`, `code`. A module that is searched for has no code."""
    start: Literal["seeded", "empty"] = "seeded"
    """Seeded with functions that the teacher proposes and agrees on, or empty."""
    seeds: TasksConfig = TasksConfig(source="pocket-easy", split="train", count=100, skip=5000)
    """Seed tasks of these functions."""
    proposals: SynthesisConfig = SynthesisConfig(
        proposals=150, levels=("easier",), novelty=1.0, proposal=SamplingConfig(temperature=0.7)
    )
    """How many are proposed, and how."""
    grow: bool = True
    """Whether functions of evolved answers are added."""
    novelty: float = Field(default=0.02, ge=0, le=2)
    """A function is added if its cosine distance to every other is greater than this."""


class Config(TaughtConfig):
    """Adaptive modular response evolution. The defaults run offline on bundled pocket tasks and teacher."""

    recipe: Literal["amr_evol"] = "amr_evol"
    """Name of the recipe."""
    method: Literal["amr", "direct", "cot", "ans-repair", "best-of-n"] = "amr"
    """Whose answers the student is trained on: AMR-Evol's, or a baseline's to the same instructions."""
    tasks: TasksConfig = TasksConfig(source="pocket-hard", split="train", count=1000)
    """Instructions or, with `instructions`, their seeds. Their tests are run for the accounting alone."""
    count: Annotated[PositiveInt | None, GROWS] = 200
    """At most this many instructions, sampled by the seed."""
    instructions: InstructionsConfig | None = None
    """Make instructions from the tasks: Self-Instruct, then Code-Evol."""
    answers: SamplingConfig = SamplingConfig()
    """How answers are sampled, in all stages without sampling settings of their own."""
    evolution: EvolutionConfig = EvolutionConfig(cosine=0.98, missing="solve")
    """Decomposition, retrieval and evolution; its switches are the ablations."""
    library: LibraryConfig = LibraryConfig()
    """The function library."""
    agreement: AgreementConfig = AgreementConfig()
    """How the teacher tests functions and answers."""
    samples: NonNegativeInt = 4
    """Answers sampled besides the direct one, with method best-of-n."""
    token_budget_per_instruction: PositiveFloat | None = None
    """With method best-of-n: sample until the teacher has generated this many tokens for each instruction."""
    evaluate: EvaluateConfig = EvaluateConfig.model_validate(
        {
            "tasks": {"source": "pocket-hard", "split": "test", "count": 200},
            "samples_per_task": 5,
            "profile": False,
        }
    )
    """How the student is evaluated."""

    @model_validator(mode="after")
    def _has_forms(self) -> "Config":
        if self.prompts == "auto":
            return self  # both sets have all forms
        prompts = prompt_set(self.prompts)
        if self.method != "direct" and prompts.modular is None:
            raise ValueError(f"prompts: {prompts.version} has no form for what method {self.method} needs")
        return self


def distill(config: Config, run: Run) -> "Student":
    """Gather instructions, answer them by the method, train, evaluate."""
    tasks = config.tasks.load()
    require_trainable(tasks)
    if config.method != "direct" or config.instructions is not None:
        require_python(tasks.tasks, "functions are taken apart, tested and made")
    with config.open(run) as opened:
        # First, so that one that cannot be loaded is told before anything is paid for.
        student = config.student.build(opened.session.tokenizer, config.execution, seed=config.seed)
        require_room(student, tasks, config.train, run)
        teaching = replace(opened, stop=tasks.stop)
        if config.instructions is not None:
            tasks = instruct(tasks, teaching, config.instructions, [config.evaluate.tasks.load()])
        tasks = tasks.with_tasks(subset(tasks.tasks, config.count, config.seed))
        instruction_tokens = teaching.tokens
        responses = _answer(config, tasks.tasks, teaching)
        account(tasks, responses, teaching, instruction_tokens)
        examples = answer_examples(tasks, responses, student, run)
        student = fit(student, examples, CrossEntropy(), config.train, run)
        evaluate(student, "student", config.evaluate, teaching.sandbox, run)
    return student


def _answer(config: Config, tasks: tuple[Task, ...], teaching: Teaching) -> Mapping[str, Response]:
    """The method's answers by task id."""
    if config.method == "cot":
        return chain_of_thought(teaching, tasks, config.answers)
    responses = direct(teaching, tasks, config.answers)
    if config.method == "ans-repair":
        return answer_repair(teaching, tasks, responses, config.answers, config.agreement)
    if config.method == "best-of-n":
        budget = config.token_budget_per_instruction
        return best_of(teaching, tasks, responses, config.samples, budget, config.agreement)
    if config.method == "direct":
        return responses
    return _evolve(config, tasks, responses, teaching)


def _evolve(
    config: Config, tasks: tuple[Task, ...], direct: Mapping[str, Response], teaching: Teaching
) -> Mapping[str, Response]:
    """AMR-Evol: decompose; then, wave by wave, retrieve, rewrite, grow the library."""
    run, evolution, failures = teaching.run, config.evolution, dict[str, str]()
    modules: dict[str, list[Function]] = {}
    if evolution.decompose:
        retry, retries = evolution.retry, evolution.retries
        modules, failures = decompose(teaching, tasks, direct, config.answers, retry, retries)
    else:
        modules = {task.task_id: _whole(task, direct[task.task_id]) for task in tasks}
    library = None
    if evolution.retrieve:
        spec = LibrarySpec(embedder=config.library.embedder, parts=config.library.parts)
        library = Library(run.library_directory, spec)
        _seed(config, library, teaching.within(run.part("seed")))
    responses: dict[str, Response] = {
        task_id: direct[task_id].model_copy(update={"why": f"not decomposed: {why}"})
        for task_id, why in failures.items()
    }
    waves = [tasks[first : first + evolution.wave] for first in range(0, len(tasks), evolution.wave)]
    for number, of_wave in enumerate(waves, start=1):
        here = teaching.within(run.part(f"wave-{number}"))
        wave = Wave([task for task in of_wave if task.task_id in modules], direct, modules)
        evolved = evolve(here, wave, library, evolution, config.answers)
        if evolution.gate != "none":
            evolved = gate(here, wave, evolved, evolution, config.answers, config.agreement)
        responses |= evolved
        if library is not None and config.library.grow:
            _grow(config, f"wave-{number}", new_functions(wave.tasks, evolved), library, here)
    if library is not None:
        write_growth(library, run, len(waves), evolution.cosine)
    return responses


def _whole(task: Task, answer: Response) -> list[Function]:
    """The direct answer as the query, without decomposition; none where it does not parse."""
    try:
        functions = read_functions(task.program(answer.completion))
    except SyntaxError:
        return []
    return [function for function in functions if function.name == task.entry_point]


def _seed(config: Config, library: Library, teaching: Teaching) -> None:
    """Functions that the teacher proposes and solves, where its answers agree."""
    if config.library.start == "empty":
        return
    proposed = propose(config.library.seeds.load(), teaching, config.library.proposals).tasks
    solutions = direct(teaching, proposed, config.answers)
    functions = [
        function.model_copy(update={"origin": task.task_id})
        for task in proposed
        for function in _whole(task, solutions[task.task_id])
    ]
    _grow(config, "seed", functions, library, teaching)


def _grow(
    config: Config, batch: str, functions: list[Function], library: Library, teaching: Teaching
) -> None:
    """Add what is new and verified to the library, once."""
    entries = verify(teaching, "growth", functions, library, config.library.novelty, config.agreement)
    if batch not in library.batches:
        library.add(batch, entries)


def answer_examples(
    tasks: TaskSet, responses: Mapping[str, Response], student: Asked, run: Run
) -> list[Example]:
    """The answers that are programs: none that the token limit cut, that does not parse, or that lacks the
    function. Raises TaskError when that leaves none."""
    examples = []
    for task in tasks.tasks:
        response = responses[task.task_id]
        if not response.cut and task.accepts(response.completion):
            examples.append(row(student, task, response.completion, response.how))
    run.account(answers_without_program=len(tasks) - len(examples))
    run.funnel({"instructions answered": len(tasks), "rows": len(examples)})
    if not examples:
        raise TaskError(
            f"none of {len(tasks)} answers is a program that defines its task's function.",
            next_step="Look at the stage answers: raise answers.max_new_tokens where they are cut, or choose "
            "other prompts.",
        )
    return examples
