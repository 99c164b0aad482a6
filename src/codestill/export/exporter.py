"""An export as a run: the student is evaluated, artefacts are written, measured and evaluated alike."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, NonNegativeFloat, field_validator

from codestill.browse import is_run
from codestill.config import RunConfig
from codestill.errors import ExportError, RunError
from codestill.evaluation import EvaluateConfig, evaluate
from codestill.evaluation.pairs import difference
from codestill.examples import row, subset
from codestill.export.fidelity import Fidelity, fidelity
from codestill.export.targets import Target
from codestill.files.serialize import read_record, write_object
from codestill.models import ChatConfig, Dtype, StudentConfig
from codestill.models.load import resolve
from codestill.prompts import Prompts, PromptsSetting, fitting, prompts_for
from codestill.run import Run, slug
from codestill.sandbox import Sandbox
from codestill.tables import Table, Tabular
from codestill.tables.differences import points
from codestill.types import Attempt, Difference, Evaluation, Record, Settings

if TYPE_CHECKING:
    from codestill.models.student import Student

ANSWERS = 64
"""Answers on which probabilities are compared at most."""
ARTEFACTS, REFUSED = "artefacts", "refused"
"""Directory of the artefacts in the run's, and in that one of those that are not the same student."""


class Tolerance(Settings):
    """What an artefact may lose."""

    nats_per_token: NonNegativeFloat = 0.02
    """KL divergence of the artefact from the student, the mean over the tokens of the student's answers."""
    token_agreement: float = Field(default=0.95, ge=0, le=1)
    """Share of these tokens at which both must find the same one most probable."""


def _listed(value: Any) -> Any:
    """``gguf:f16,gguf:q8_0`` is two, also where an option is given several times."""
    words = [value] if isinstance(value, str) else value
    return tuple(name for word in words for name in str(word).split(","))


class ExportConfig(ChatConfig, RunConfig):
    """A student as a file that a small machine runs, and the proof that it is the same."""

    recipe: Literal["export"] = "export"
    """What kind of run this is."""
    model: str
    """A run, whose student is exported, or a saved model's directory, GGUF file or hub id."""
    to: Annotated[tuple[str, ...], BeforeValidator(_listed)] = Field(default=("gguf:q8_0",), min_length=1)
    """Artefacts: `gguf:q8_0`, `gguf:f16` and other kinds, several with commas between them."""
    dtype: Dtype = "float32"
    """Type of the weights in memory when student and artefacts are compared."""
    prompts: PromptsSetting = "auto"
    """How the student is prompted: `continued`, `instruct`, or ``auto``, which suits it."""
    tolerance: Tolerance = Tolerance()
    """What an artefact may lose; one that loses more is refused."""
    evaluate: EvaluateConfig = EvaluateConfig(samples_per_task=0, profile=False)
    """How student and artefacts are evaluated: greedily, unless you say otherwise."""

    @field_validator("to")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        targets = [Target.parse(name) for name in names]
        return tuple(dict.fromkeys(f"{target.form}:{target.kind}" for target in targets))


class Artefact(Record):
    """A file, and what it keeps of the student."""

    target: str
    file: str
    """Its name in `artefacts`, or, of one that is refused, in `artefacts/refused`."""
    bytes: int
    nats_per_token: float
    token_agreement: float
    largest_difference: float
    """Of two logits."""
    difference: Difference
    """The artefact's pass@1 minus the student's, task by task."""
    refused: tuple[str, ...] = ()
    """Why it is not the same student; empty where it is."""


class Exports(Tabular, Record):
    """What ``export.json`` holds."""

    artefacts: tuple[Artefact, ...]

    def tables(self) -> Sequence[Table]:
        head = ("artefact", "MB", "nats/token", "same token", "pass@1, points", "verdict")
        rows = tuple(
            (
                artefact.file,
                f"{artefact.bytes / 1e6:,.1f}",
                f"{artefact.nats_per_token:.2g}",
                f"{artefact.token_agreement:.1%}",
                points(artefact.difference.interval),
                "; ".join(artefact.refused) or "holds",
            )
            for artefact in self.artefacts
        )
        return (Table(head, rows, frozenset(head[1:5])),)


def export(config: ExportConfig, run: Run) -> Exports:
    """Write the artefacts, and prove them: the same prompts, greedily, against the student.

    Raises ExportError when one is outside the tolerance, after all of them are measured; it is moved to
    ``refused``. ModelError for a student that a form cannot hold, before anything is evaluated.
    """
    config.preflight(run)
    source = student_of(config.model)
    own = StudentConfig.model_fields.keys() & ExportConfig.model_fields.keys()
    settings: dict[str, Any] = config.model_dump(include=set(own)) | {"model": source}
    student = fitting(StudentConfig(**settings), config.prompts).build(placement=config.execution)
    targets = [Target.parse(name) for name in config.to]
    files = [_written(target, config.model, source, run) for target in targets]
    prompts = prompts_for(student, config.prompts)
    with config.execution.sandbox(config.sandbox) as sandbox:
        proof = _Proof(config, student, prompts, sandbox, run)
        found = tuple(proof.of(target, file) for target, file in zip(targets, files, strict=True))
    write_object(run.directory / "export.json", Exports(artefacts=found), indent=1)
    if bad := [artefact for artefact in found if artefact.refused]:
        raise ExportError(
            f"{bad[0].target} is not the same student: {'; '.join(bad[0].refused)}.",
            next_step="Take a kind with more bits, such as gguf:q8_0 or gguf:f16, or allow for more with "
            f"--tolerance.…; what was measured is in {run.directory / 'export.json'}.",
        )
    return Exports(artefacts=found)


def student_of(model: str) -> str:
    """The directory, GGUF file or hub id to export: of a run its student. Raises RunError for a run that has
    none yet."""
    directory = Path(model)
    if not is_run(directory):
        return model
    if not (directory / "student" / "config.json").is_file():
        raise RunError(f"{model} has no trained student.", next_step="Finish the run, or give its directory.")
    return str(directory / "student")


def _written(target: Target, model: str, source: str, run: Run) -> Path:
    """The artefact's file: as it was written, or refused, before; else it is written now."""
    file = run.directory / ARTEFACTS / target.file(slug(Path(model).resolve().stem))
    if not file.exists() and (refused := file.parent / REFUSED / file.name).exists():
        return refused
    if not file.exists():
        file.parent.mkdir(exist_ok=True)
        run.say(target.name, f"writing {file}")
        target.write(resolve(source), file)
    return file


@dataclass
class _Proof:
    """What is the same for all artefacts."""

    config: ExportConfig
    student: "Student"
    prompts: Prompts
    sandbox: Sandbox
    run: Run

    def __post_init__(self) -> None:
        self.before = self._evaluated(self.student, "student")
        tasks = self.config.evaluate.tasks.load().by_id
        greedy = [
            row(self.student, tasks[one.task_id], one.completion.text, "answer", prompts=self.prompts)
            for one in self.run.read("evaluate-student-greedy", Attempt)
        ]
        self.answers = subset(greedy, ANSWERS, self.run.seed)

    def of(self, target: Target, file: Path) -> Artefact:
        """Measure an artefact, evaluate it, and move one that is refused."""
        settings = StudentConfig(model=str(file), dtype=self.config.dtype)
        artefact = settings.build(placement=self.config.execution)
        artefact = replace(artefact, chat=self.student.chat)  # a file keeps the template, not how it is used
        measured = self.run.stage(
            f"fidelity-{target.name}", Fidelity, self.answers, partial(fidelity, self.student, artefact)
        )
        after = self._evaluated(artefact, target.name)
        tokens = max(1, sum(one.tokens for one in measured))
        found = Artefact(
            target=f"{target.form}:{target.kind}",
            file=file.name,
            bytes=file.stat().st_size,
            nats_per_token=sum(one.nats for one in measured) / tokens,
            token_agreement=sum(one.equal for one in measured) / tokens,
            largest_difference=max((one.largest for one in measured), default=0.0),
            difference=difference(target.name, [after], "student", [self.before]),
        )
        reasons = refusals(found, self.config.tolerance)
        if reasons and file.parent.name != REFUSED:
            (file.parent / REFUSED).mkdir(exist_ok=True)
            file.replace(file.parent / REFUSED / file.name)
        return found.model_copy(update={"refused": reasons})

    def _evaluated(self, model: "Student", name: str) -> Evaluation:
        how = self.config.evaluate.model_copy(update={"greedy": True})
        return evaluate(model, name, how, self.sandbox, self.run, prompts=self.prompts)


def refusals(found: Artefact, tolerance: Tolerance) -> tuple[str, ...]:
    """Why an artefact is not the same student."""
    reasons = []
    if found.nats_per_token > tolerance.nats_per_token:
        reasons.append(
            f"{found.nats_per_token:.2g} nats per token from it, more than {tolerance.nats_per_token:g}"
        )
    if found.token_agreement < tolerance.token_agreement:
        reasons.append(
            f"the same most probable token at {found.token_agreement:.1%} of places, less than "
            f"{tolerance.token_agreement:.1%}"
        )
    if found.difference.interval.high < 0:
        reasons.append(f"pass@1 {points(found.difference.interval)} points")
    return tuple(reasons)


def read_exports(directory: Path) -> Exports:
    """What a run of ``codestill export`` found. Raises RunError for a damaged file."""
    return read_record(directory / "export.json", Exports, "Run the same command again.")
