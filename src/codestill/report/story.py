"""The story of a section in sentences: what was done, and with what."""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from codestill.browse import RunFiles
from codestill.files.serialize import is_object
from codestill.report.change import begins_untrained, command_before, start_of
from codestill.report.collect import Section
from codestill.report.numbers import counted, listed
from codestill.report.parts import part_name, part_order

RUN = "run"


def story(section: Section, title: str) -> list[str]:
    """Sentences on the runs of a section, for somebody who has not seen their configuration. ``title`` is the
    page's, which is not repeated."""
    trained = runs_of(section, trained=True)
    sentences: list[str] = []
    if section.is_comparison and section.title != title:
        sentences.append(f"{section.title}.")
    if trained:
        sentences.append(_what(trained))
        sentences.append(_with_what(trained))
        sentences.append(_training(trained))
    others = [run.config for run in runs_of(section) if run not in trained]
    known = [config.get("model") or config.get("samples") for config in others]
    names = [*dict.fromkeys(str(name) for name in known if name)]
    if names:
        how = "were evaluated as they stand" if len(names) > 1 else "was evaluated as it stands"
        sentences.append(f"{listed(names)} {how}.")
    return [sentence for sentence in sentences if sentence]


def runs_of(section: Section, trained: bool = False) -> list[RunFiles]:
    """The section's runs, each once; only those that ``trained`` a student."""
    runs = {source.run.path: source.run for arm in section.arms for source in arm.sources}
    return [run for run in runs.values() if not trained or is_object(run.config.get("student"))]


def before(section: Section, measured: bool) -> tuple[str, str]:
    """What is missing of the score before training, and the command that measures it; empty where nothing
    is."""
    trained = runs_of(section, trained=True)
    if measured or not trained:
        return "", ""
    if all(begins_untrained(run.config) for run in trained):
        return "The student began with random weights: there is no score before training.", ""
    starts = {start_of(run.config) for run in trained}
    command = command_before(trained[0].config)
    if len(starts) > 1 or command is None:
        return "The score before training was not measured.", ""
    return (
        "The score before training was not measured. This measures it; then give runs/before to the report:",
        command,
    )


def _what(runs: Sequence[RunFiles]) -> str:
    titles = Counter(_title(run) for run in runs)
    if len(titles) > 1:
        return f"{listed([f'{title}: {counted(count, RUN)}' for title, count in titles.items()])}."
    (title, count), *_ = titles.items()
    return f"{title}, in {counted(count, RUN)}." if count > 1 else f"{title}."


def _title(run: RunFiles) -> str:
    named = str(run.config.get("recipe", "")) or "a recipe"
    title = run.about.title if run.about else ""
    return f"{title} ({named})" if title and named.lower() != title.lower() else title or named


def _with_what(runs: Sequence[RunFiles]) -> str:
    students = dict.fromkeys(_student(run.config["student"]) for run in runs)
    taught = [run for run in runs if run.about is not None and run.about.needs_teacher]
    teachers = dict.fromkeys(filter(None, (_model(run.config.get("teacher")) for run in taught)))
    sentence = f"{_subject('student', students)} {listed([*students])}"
    if teachers:
        sentence += f"; {_subject('teacher', teachers).lower()} {listed([*teachers])}"
    tasks = dict.fromkeys(filter(None, (_tasks(run.config) for run in runs)))
    if tasks:
        sentence += f", on tasks of {listed([*tasks])}"
    return f"{sentence}."


def _subject(noun: str, names: Collection[str]) -> str:
    return f"The {noun} is" if len(names) == 1 else f"The {noun}s are"


def _student(student: dict[str, Any]) -> str:
    if student.get("preset"):
        return f"{student['preset']}, which begins with random weights"
    model = _model(student) or "unknown"
    if student.get("from_scratch"):
        return f"{model}, which begins with random weights"
    return f"{model}, of which an adapter is trained" if student.get("adapter") else model


def _model(settings: object) -> str:
    return str(settings.get("model") or "") if is_object(settings) else ""


def _tasks(config: dict[str, Any]) -> str:
    """``pocket:train``, of the first settings of training tasks that the config has."""
    examples = config.get("examples")
    tasks = config.get("tasks") or (examples.get("tasks") if is_object(examples) else None)
    if not is_object(tasks):
        return ""
    split = f":{tasks['split']}" if tasks.get("split") else ""
    return f"{tasks.get('path') or tasks.get('source')}{split}"


def _training(runs: Sequence[RunFiles]) -> str:
    """Steps and rows of every training, of one run; else what all runs had alike."""
    each = {tuple(_trainings(run)) for run in runs}
    seeds = sorted({int(run.config.get("seed", 0)) for run in runs})
    with_seeds = f"seed{'s' * (len(seeds) > 1)} {listed([str(seed) for seed in seeds])}"
    if len(each) != 1 or not (trainings := each.pop()):
        return f"The trainings have {with_seeds}." if len(runs) > 1 else ""
    whole = "Each student was" if len(runs) > 1 else "The student was"
    return f"{whole} trained for {', then '.join(trainings)} ({with_seeds})."


def _trainings(run: RunFiles) -> list[str]:
    """``60 steps on 88 rows``, in the order of the trainings."""
    parts = {name.rpartition("/")[0] for name in run.accounting if name.rpartition("/")[2] == "steps"}
    found = []
    for part in sorted(parts, key=part_order):
        prefix = f"{part}/" if part else ""
        steps, rows = run.accounting[f"{prefix}steps"], run.accounting.get(f"{prefix}examples")
        on = f" on {rows:,} rows" if isinstance(rows, int) else ""
        where = f" ({part_name(part)})" if part else ""
        found.append(f"{steps:,} steps{on}{where}")
    return found
