"""AMR-Evol: better answers to the same instructions (arXiv:2410.00558).

The teacher's direct answer is taken apart into modules; verified functions for them are found in a library
that grows; the answer is written again with them; and a student is trained on it. ``method`` swaps the
answers for those of a baseline on the same instructions.

Stages: proposals and code-evol (with ``instructions``), direct, modules, seed/..., then in each wave
retrieved, solved, evolved, growth; responses, student, evaluation.
Our deviations: the library grows after each wave of instructions, in their order, so that calls to the
teacher can be made together and a resumed run grows the same library; a function is found for a module
from a cosine on; a module that has none may be solved by the teacher first; a teacher that writes calls
but no values tests functions by agreement; the direct answer is kept where a later step fails. The gate is
ours.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from codestill.config import RunConfig
from codestill.embeddings import AnyEmbedderConfig, TfidfEmbedderConfig
from codestill.evaluation import EvaluateConfig, evaluate
from codestill.examples import draw
from codestill.losses import CrossEntropy
from codestill.models import SamplingConfig, StudentConfig
from codestill.prompts import Prompts, PromptSetName, prompt_set
from codestill.recipes.amr_evol.agreement import AgreementConfig
from codestill.recipes.amr_evol.decompose import decompose
from codestill.recipes.amr_evol.evolve import EvolutionConfig, brought, evolve, gate, verify
from codestill.recipes.amr_evol.growth import account, write_growth
from codestill.recipes.amr_evol.instructions import InstructionsConfig, instruct, self_instruct
from codestill.recipes.amr_evol.library import Function, Library, Manifest, Part, read_functions
from codestill.recipes.amr_evol.responses import Response, answer_repair, best_of, direct, think
from codestill.run import Run
from codestill.sandbox import Sandbox
from codestill.synthesis import SynthesisConfig
from codestill.tasks import TasksConfig, TaskSet, require_trainable
from codestill.teachers import LocalTeacherConfig
from codestill.teachers.desk import AnyTeacherConfig, TeachingConfig, open_desk
from codestill.teaching import Asker
from codestill.train import TrainConfig, fit
from codestill.types import Example, Settings, Task

if TYPE_CHECKING:
    from codestill.models.student import Student


class LibraryConfig(Settings):
    """The function library."""

    embedder: AnyEmbedderConfig = TfidfEmbedderConfig()
    """How functions are compared."""
    parts: tuple[Part, ...] = ("types", "description")
    """What of a function is embedded: `name`, `signature`, `types` (without the names of parameters),
    `description`, `code`. A module that is looked for has no code."""
    start: Literal["seeded", "empty"] = "seeded"
    """With functions that the teacher invents and agrees on, or with none."""
    seeds: TasksConfig = TasksConfig(source="pocket-easy", split="train", count=100, skip=5000)
    """What it invents them from."""
    proposals: SynthesisConfig = SynthesisConfig(
        proposals=150, levels=("easier",), novelty=1.0, proposal=SamplingConfig(temperature=0.7)
    )
    """How many, and how."""
    grow: bool = True
    """Whether functions of evolved answers enter."""
    novelty: float = Field(default=0.02, ge=0, le=2)
    """A function enters whose cosine distance to every other is greater."""


class Config(RunConfig):
    """Adaptive modular response evolution. As it stands it is at home in the bundled pocket world."""

    recipe: Literal["amr_evol"] = "amr_evol"
    """Name of the recipe."""
    method: Literal["amr", "direct", "cot", "ans-repair", "best-of-n"] = "amr"
    """Whose answers the student reads: AMR-Evol's, or a baseline's to the same instructions."""
    student: StudentConfig = StudentConfig(model="pocket-base")
    """The model that learns."""
    teacher: AnyTeacherConfig = LocalTeacherConfig(model="pocket")
    """Who answers."""
    teaching: TeachingConfig = TeachingConfig()
    """What is kept of its answers, and their budget."""
    prompts: PromptSetName | Prompts = "continued"
    """How the teacher is asked; `instruct` for one that follows instructions."""
    tasks: TasksConfig = TasksConfig(source="pocket-hard", split="train", count=1000)
    """Instructions or, with `instructions`, their seeds. Their tests are run for the accounting alone."""
    count: PositiveInt | None = 200
    """At most so many instructions, drawn at random by the seed."""
    instructions: InstructionsConfig | None = None
    """Make instructions from the tasks: Self-Instruct, then Code-Evol."""
    answers: SamplingConfig = SamplingConfig()
    """How answers are drawn, in all stages but where it says otherwise."""
    evolution: EvolutionConfig = EvolutionConfig(cosine=0.98, missing="solve")
    """Decomposition, retrieval and evolution; its switches are the ablations."""
    library: LibraryConfig = LibraryConfig()
    """The function library."""
    agreement: AgreementConfig = AgreementConfig()
    """How the teacher tests functions and answers."""
    samples: NonNegativeInt = 4
    """Answers drawn besides the direct one, with method best-of-n."""
    spend: PositiveFloat | None = None
    """With method best-of-n: draw until the teacher has written so many tokens for each instruction."""
    train: TrainConfig = TrainConfig(
        max_steps=120, batch_tokens=1536, accumulation=1, learning_rate=1e-3, precision="float32"
    )
    """How the student is trained."""
    evaluate: EvaluateConfig = EvaluateConfig.model_validate(
        {
            "tasks": {"source": "pocket-hard", "split": "test", "count": 200},
            "samples_per_task": 5,
            "profile": False,
        }
    )
    """How it is evaluated."""

    @model_validator(mode="after")
    def _can_ask(self) -> "Config":
        prompts = prompt_set(self.prompts)
        if self.method != "direct" and prompts.modular is None:
            raise ValueError(f"prompts: {prompts.version} cannot ask for what method {self.method} needs")
        return self


def distill(config: Config, run: Run) -> "Student":
    """Gather instructions, answer them by the method, train, evaluate."""
    held_out = config.evaluate.tasks.load()  # what cannot be evaluated must fail before anything is paid for
    tasks = config.tasks.load()
    require_trainable(tasks)
    desk = open_desk(config.teacher, config.teaching, config.execution.device, run)
    asker = Asker(desk, prompt_set(config.prompts), tasks.stop, run)
    if config.instructions is not None:
        tasks = instruct(tasks, asker, config.instructions, [held_out])
    tasks = replace(tasks, tasks=tuple(draw(tasks.tasks, config.count, config.seed)))
    paid_before = asker.tokens
    with config.execution.sandbox(config.sandbox) as sandbox:
        responses = _answer(config, tasks, asker, sandbox, run)
        account(tasks, responses, asker, paid_before, sandbox, run)
        tokenizer = getattr(desk.teacher, "tokenizer", None)
        student = config.student.build(tokenizer, config.execution.device, seed=config.seed)
        student = fit(student, _examples(tasks, responses), CrossEntropy(), config.train, run)
        evaluate(student, "student", config.evaluate, sandbox, run)
    return student


def _answer(
    config: Config, tasks: TaskSet, asker: Asker, sandbox: Sandbox, run: Run
) -> Mapping[str, Response]:
    """The method's answers by task id."""
    if config.method == "cot":
        return think(asker, tasks.tasks, config.answers)
    given = direct(asker, tasks.tasks, config.answers)
    if config.method == "ans-repair":
        return answer_repair(asker, tasks.tasks, given, config.answers, config.agreement, sandbox)
    if config.method == "best-of-n":
        agreement, samples = config.agreement, config.samples
        return best_of(asker, tasks.tasks, given, samples, config.spend, agreement, sandbox)
    if config.method == "direct":
        return given
    return _evolve(config, tasks.tasks, given, asker, sandbox, run)


def _evolve(
    config: Config,
    tasks: tuple[Task, ...],
    given: Mapping[str, Response],
    asker: Asker,
    sandbox: Sandbox,
    run: Run,
) -> Mapping[str, Response]:
    """AMR-Evol: take apart, then wave by wave retrieve, write again, grow the library."""
    how, wrong = config.evolution, dict[str, str]()
    modules: dict[str, list[Function]] = {}
    if how.decompose:
        modules, wrong = decompose(asker, tasks, given, config.answers, how.retry, how.retries)
    else:
        modules = {task.task_id: _whole(task, given[task.task_id]) for task in tasks}
    library = None
    if how.retrieve:
        manifest = Manifest(embedder=config.library.embedder, parts=config.library.parts)
        library = Library(run.directory / run.prefix / "library", manifest)
        _seed(config, library, asker.at(run.part("seed")), sandbox)
    responses: dict[str, Response] = {
        task_id: given[task_id].model_copy(update={"why": f"not taken apart: {why}"})
        for task_id, why in wrong.items()
    }
    waves = [tasks[first : first + how.wave] for first in range(0, len(tasks), how.wave)]
    for number, wave in enumerate(waves, start=1):
        here = asker.at(run.part(f"wave-{number}"))
        some = [task for task in wave if task.task_id in modules]
        found = evolve(here, some, given, modules, library, how, config.answers)
        if how.gate != "none":
            found = gate(here, some, given, found, how, config.answers, config.agreement, sandbox)
        responses |= found
        if library is not None and config.library.grow:
            _grow(config, f"wave-{number}", brought(some, found), library, here, sandbox)
    if library is not None:
        write_growth(library, run, len(waves), how.cosine)
    return responses


def _whole(task: Task, answer: Response) -> list[Function]:
    """The direct answer as what is searched for, without decomposition; none where it does not parse."""
    try:
        functions = read_functions(task.prompt + answer.completion)
    except SyntaxError:
        return []
    return [one for one in functions if one.name == task.entry_point]


def _seed(config: Config, library: Library, asker: Asker, sandbox: Sandbox) -> None:
    """Functions that the teacher invents and solves, where its answers agree."""
    if config.library.start == "empty":
        return
    proposed = self_instruct(config.library.seeds.load(), asker, config.library.proposals)
    solved = direct(asker, proposed, config.answers)
    functions = [
        one.model_copy(update={"origin": task.task_id})
        for task in proposed
        for one in _whole(task, solved[task.task_id])
    ]
    _grow(config, "seed", functions, library, asker, sandbox)


def _grow(
    config: Config, batch: str, functions: list[Function], library: Library, asker: Asker, sandbox: Sandbox
) -> None:
    """What is new and verified enters the library, once."""
    novelty, agreement = config.library.novelty, config.agreement
    entries = verify(asker, "growth", functions, library, novelty, agreement, sandbox)
    if batch not in library.batches:
        library.add(batch, entries)


def _examples(tasks: TaskSet, responses: Mapping[str, Response]) -> list[Example]:
    return [
        Example(
            example_id=task.task_id,
            prompt=task.prompt,
            completion=responses[task.task_id].completion,
            source=responses[task.task_id].how,
        )
        for task in tasks.tasks
    ]
