"""A student's model card: what it is, how well it was shown to work, what it was made of, and how to
repeat it.

The metadata are those of the Hugging Face hub, with the scores as a ``model-index``; a score on part of a
task set is shown, but is no entry of the index.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from codestill.browse import RunFiles
from codestill.errors import RunError
from codestill.files.serialize import is_object, write_atomic
from codestill.files.usage import read_usage
from codestill.models.licence import CARD, UNKNOWN, licence_of
from codestill.models.saved import read_saved_form
from codestill.pace import duration
from codestill.pages import render
from codestill.report import claims, rounds, spend
from codestill.report.change import start_of
from codestill.report.collect import Section, read_report
from codestill.report.page import markdown_templates, section_pages
from codestill.report.story import runs_of, story
from codestill.tasks.families import FAMILIES
from codestill.types import Evaluation


class Source(NamedTuple):
    """Something that the student was made of."""

    role: str
    name: str
    licence: str


def write_card(directory: Path, licence: str = "", name: str = "") -> Path:
    """Write the card of a run's student beside its weights. Raises RunError for a run without one."""
    place = directory / "student"
    if not (place / "config.json").is_file():
        raise RunError(
            f"{directory} has no trained student.", next_step="Finish the run, or give its directory."
        )
    write_atomic(place / CARD, model_card(directory, licence, name))
    return place / CARD


def model_card(directory: Path, licence: str = "", name: str = "") -> str:
    """Markdown with the metadata of model hubs, of a run's student as its files tell. ``licence`` is the one
    that it is published under, by the hub's name; ``name`` what it is called there."""
    report = read_report([directory])
    runs = [run for section in report.sections for run in runs_of(section)]
    run = runs[0] if runs else next(iter(report.runs.values()))
    sources = sources_of(run.config)
    sections = report.sections
    usage = read_usage(directory)
    took = [*spend.spent(runs)]
    if usage is not None:
        took += [("time", duration(usage.seconds)), ("memory", f"{usage.memory_bytes / 1e9:.1f} GB")]
    removed = directory / "decontamination.txt"
    return render(
        markdown_templates(),
        "card.md.j2",
        metadata=metadata(run, licence, name or run.name),
        name=name or run.name,
        story=story(sections[0], "") if sections else [],
        form=any(one.chat for one in run.evaluations.values()),
        sections=section_pages(report),
        sources=sources,
        unknown=any(source.licence == UNKNOWN for source in sources),
        decontamination=removed.read_text(encoding="utf-8").rstrip() if removed.is_file() else "",
        spent=took,
        limits=limits(sections, directory / "student" / "config.json"),
        recipe=run.config.get("recipe", ""),
        config=yaml.safe_dump(without_places(run.config), sort_keys=False, allow_unicode=True).rstrip(),
    )


def metadata(run: RunFiles, licence: str, name: str) -> str:
    """YAML of the hub's fields, the scores on whole task sets as its ``model-index``."""
    from huggingface_hub import ModelCardData

    start = start_of(run.config)
    families = [FAMILIES[source] for source in tasks_of(run.config) if source in FAMILIES]
    return (
        ModelCardData(
            model_name=name,
            license=licence or None,
            library_name="transformers",
            pipeline_tag="text-generation",
            tags=["code", "distillation", "codestill"],
            base_model=start if start and is_hub_id(start) else None,
            datasets=[hub for family in families if (hub := hub_of(family))] or None,
            eval_results=[result for one in run.evaluations.values() for result in _results(one)] or None,
        ).to_yaml()
        + "\n"
    )


def _results(one: Evaluation) -> list[Any]:
    """Entries of the index: none of part of a set, nor where a gate fails, nor of a round."""
    from huggingface_hub import EvalResult

    if one.subset or one.gates.failure():
        return []
    family = FAMILIES.get(one.tasks.partition(":")[0])
    scores = {f"pass@{k}": score for k, score in one.pass_at.items() if k in (1, 10)}
    if one.greedy is not None and not scores:
        scores = {"pass@1": one.greedy}
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type=(family and hub_of(family)) or one.tasks,
            dataset_name=one.tasks,
            metric_type=metric,
            metric_value=round(100 * score.mean, 1),
            metric_args={
                "interval_95": [round(100 * score.low, 1), round(100 * score.high, 1)],
                "samples_per_task": max(one.samples_per_task, 1),
                "temperature": one.temperature if one.samples_per_task else 0.0,
            },
        )
        for metric, score in scores.items()
    ]


def hub_of(family: Any) -> str:
    """Where a family's tasks are on the hub; empty where they are not."""
    benchmark = getattr(family, "benchmark", None)
    return benchmark.hub_id if benchmark is not None else ""


def sources_of(config: dict[str, Any]) -> list[Source]:
    """Models and task sets of a run, with their licences."""
    found = []
    if start := start_of(config):
        found.append(Source("began as", _shown(start), licence_of(start)))
    teacher = config.get("teacher")
    if is_object(teacher) and teacher.get("model"):
        name = str(teacher["model"])
        served = teacher.get("type") == "api"
        found.append(Source("teacher", _shown(name), UNKNOWN if served else licence_of(name)))
    for source in tasks_of(config):
        family = FAMILIES.get(source)
        found.append(Source("tasks", _shown(source), (family and family.licence) or UNKNOWN))
    return found


def tasks_of(config: dict[str, Any]) -> list[str]:
    """Families, or files, of the tasks that a run trained on and was evaluated on."""
    found: list[str] = []
    for group in (config, config.get("examples"), config.get("evaluate")):
        tasks = group.get("tasks") if is_object(group) else None
        if is_object(tasks):
            found.append(str(tasks.get("path") or tasks.get("source")))
    return list(dict.fromkeys(found))


def is_hub_id(name: str) -> bool:
    """``owner/name``, and nothing of this machine's."""
    return name.count("/") == 1 and not name.startswith(("/", ".", "~")) and not Path(name).exists()


def limits(sections: Sequence[Section], config: Path) -> list[str]:
    """What to know before it is used."""
    texts = [
        text for section in sections for text in [*rounds.view_warnings(section), *claims.warnings(section)]
    ]
    shape = json.loads(config.read_bytes())
    positions = shape.get("max_position_embeddings") or shape.get("n_positions")
    said = read_saved_form(config.parent)
    if said is None or not said.fills_gaps:
        texts.append("It was not trained here to fill a gap in the middle of a file, which editors ask for.")
    if positions:
        texts.append(f"It reads at most {positions:,} tokens, prompt and answer together.")
    return [
        *texts,
        "A score counts programs that passed the unit tests of those tasks: it shows no more than they test.",
        "It writes programs: run them where they can do no harm.",
    ]


def without_places(value: Any) -> Any:
    """A config without what only this machine has: of an absolute path its last part stays."""
    if is_object(value):
        return {key: without_places(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_places(inner) for inner in value]
    return _shown(value) if isinstance(value, str) else value


def _shown(name: str) -> str:
    return Path(name).name if name.startswith(("/", "~")) else name
