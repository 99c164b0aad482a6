"""An export as a run: the student is evaluated, artefacts are written, measured and evaluated alike."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, NonNegativeFloat, field_validator

from codestill.browse import is_run
from codestill.config import RunConfig
from codestill.errors import ExportError, RunError
from codestill.evaluation import EvaluateConfig, evaluate
from codestill.evaluation.pairs import difference
from codestill.examples import row, subset
from codestill.export.deployed import LONGEST, Deployed, size_of
from codestill.export.fidelity import Fidelity, Logits, fidelity, logits_of
from codestill.export.targets import Target
from codestill.files.serialize import read_record, write_object
from codestill.models import ChatConfig, Completer, Dtype, StudentConfig
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
    """Artefacts, such as `gguf:q8_0`, `openvino:int8`, `onnx`, `ollama`; several with commas between them."""
    dtype: Dtype = "float32"
    """Type of the weights in memory when student and artefacts are compared."""
    prompts: PromptsSetting = "auto"
    """How the student is prompted: `continued`, `instruct`, or ``auto``, which suits it."""
    tolerance: Tolerance = Tolerance()
    """What an artefact may lose; one that loses more is refused."""
    evaluate: EvaluateConfig = EvaluateConfig(samples_per_task=0)
    """How student and artefacts are evaluated: greedily, and timed, unless you say otherwise."""

    @field_validator("to")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(str(Target.parse(name)) for name in names))


class Artefact(Record):
    """A file or directory, and what it keeps of the student."""

    target: str
    file: str
    """Its name in `artefacts`, or, of one that is refused, in `artefacts/refused`."""
    bytes: int
    program: str
    """What ran it: the program that will, or, where that is not installed, transformers, which unpacks its
    weights."""
    nats_per_token: float
    token_agreement: float
    largest_difference: float
    """Of two logits."""
    difference: Difference
    """The artefact's pass@1 minus the student's, task by task."""
    speed_up: float | None = None
    """How many times as many tokens a second as the student in the same number of threads; None where it was
    not timed."""
    refused: tuple[str, ...] = ()
    """Why it is not the same student; empty where it is."""


class Exports(Tabular, Record):
    """What ``export.json`` holds."""

    artefacts: tuple[Artefact, ...]

    def tables(self) -> Sequence[Table]:
        head = ("artefact", "MB", "nats/token", "same token", "pass@1, points", "speed", "verdict")
        rows = tuple(
            (
                artefact.file,
                f"{artefact.bytes / 1e6:,.1f}",
                f"{artefact.nats_per_token:.2g}",
                f"{artefact.token_agreement:.1%}",
                points(artefact.difference.interval),
                f"{artefact.speed_up:.1f}x" if artefact.speed_up else "",
                "; ".join(artefact.refused) or "holds",
            )
            for artefact in self.artefacts
        )
        ran = tuple((artefact.file, artefact.program) for artefact in self.artefacts)
        return (Table(head, rows, frozenset(head[1:6])), Table(("artefact", "measured in"), ran))


def export(config: ExportConfig, run: Run) -> Exports:
    """Write the artefacts, and prove them: the same prompts, greedily, against the student.

    Raises ExportError when one is outside the tolerance, after all of them are measured; it is moved to
    ``refused``. ConfigError for a form whose packages are missing, before anything is written; ModelError for
    a student that a form cannot hold, before anything is evaluated.
    """
    targets = [Target.parse(name) for name in config.to]
    for target in targets:
        target.form.require()
    config.preflight(run)
    source = student_of(config.model)
    settings = StudentConfig.shared_with(config, model=source)
    student = fitting(settings, config.prompts).build(placement=config.execution)
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


def _plain(model: str) -> str:
    """A model's name, without the ending of a file."""
    path = Path(model).expanduser()
    return path.stem if path.is_file() else path.resolve().name


def _written(target: Target, model: str, source: str, run: Run) -> Path:
    """The artefact's file: as it was written, or refused, before; else it is written now."""
    file = run.directory / ARTEFACTS / target.file(slug(_plain(model)))
    if not file.exists() and (refused := file.parent / REFUSED / file.name).exists():
        return refused
    if not file.exists():
        from codestill.models.load import resolve

        file.parent.mkdir(exist_ok=True)
        run.say(target.name, f"writing {file}")
        target.form.write(resolve(source), file, target.kind)
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
        self.before = self._evaluated(self.student, "student", timed=True)
        tasks = self.config.evaluate.tasks.load().by_id
        greedy = [
            row(self.student, tasks[one.task_id], one.completion.text, "answer", prompts=self.prompts)
            for one in self.run.read("evaluate-student-greedy", Attempt)
        ]
        self.answers = subset(greedy, ANSWERS, self.run.seed)

    def of(self, target: Target, file: Path) -> Artefact:
        """Measure an artefact, evaluate it, and move one that is refused."""
        opened, logits, program = self._opened(target, file)
        limit = min(self.student.positions or LONGEST, LONGEST)
        measured = self.run.stage(
            f"fidelity-{target.name}", Fidelity, self.answers, partial(fidelity, self.student, logits, limit)
        )
        after = self._evaluated(opened, target.name, timed=isinstance(opened, Deployed))
        tokens = max(1, sum(one.tokens for one in measured))
        found = Artefact(
            target=str(target),
            file=file.name,
            bytes=size_of(file),
            program=program,
            nats_per_token=sum(one.nats for one in measured) / tokens,
            token_agreement=sum(one.equal for one in measured) / tokens,
            largest_difference=max((one.largest for one in measured), default=0.0),
            difference=difference(target.name, [after], "student", [self.before]),
            speed_up=_speed_up(self.before, after),
        )
        reasons = refusals(found, self.config.tolerance)
        if reasons and file.parent.name != REFUSED:
            (file.parent / REFUSED).mkdir(exist_ok=True)
            file.replace(file.parent / REFUSED / file.name)
        return found.model_copy(update={"refused": reasons})

    def _opened(self, target: Target, file: Path) -> "tuple[Completer, Logits, str]":
        """The artefact as it will run, or, of a GGUF file where llama.cpp is missing, read back."""
        if program := target.form.runs_with:
            import torch

            deployed = Deployed(target, file, self.student, torch.get_num_threads())
            deployed.require_running()
            return deployed, deployed.logits, program
        weights = next(file.glob("*.gguf")) if file.is_dir() else file
        settings = StudentConfig(model=str(weights), dtype=self.config.dtype)
        read_back = settings.build(placement=self.config.execution)
        # A file keeps the template, not how it is used.
        read_back = replace(read_back, chat=self.student.chat)
        return read_back, logits_of(read_back), f"transformers {version('transformers')}, weights unpacked"

    def _evaluated(self, model: Completer, name: str, *, timed: bool) -> Evaluation:
        how = self.config.evaluate
        how = how.model_copy(update={"greedy": True, "profile": how.profile and timed})
        return evaluate(model, name, how, self.sandbox, self.run, prompts=self.prompts)


def _speed_up(before: Evaluation, after: Evaluation) -> float | None:
    if before.profile is None or after.profile is None:
        return None
    return before.profile.token_milliseconds / after.profile.token_milliseconds


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
