"""The run directory: what it refuses, and what survives a kill."""

import itertools
import json
import os
import random
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from codestill.config import ExecutionConfig, RunConfig
from codestill.errors import ConfigError, ConfigMismatch, Failure, RunError, StageMismatch
from codestill.files.run_files import read_about, read_accounting, read_funnels
from codestill.files.serialize import read_jsonl, seed_for
from codestill.run import Run, slug
from codestill.types import Completion, Event, Request


class Inner(BaseModel):
    rate: float = 1.0
    names: tuple[str, ...] = ("a",)


class Config(RunConfig):
    inner: Inner = Inner()
    title: str = "título: 1e5"


ITEMS = [Request(task_id=f"t{number}", prompt="p") for number in range(6)]


def answer(item: Request) -> Completion:
    return Completion(task_id=item.task_id, sample=item.sample, text=str(seed_for(0, item.key)))


def answers(owed: Iterable[Request]) -> Iterator[Completion]:
    yield from map(answer, owed)


def never(owed: Sequence[Request]) -> Iterable[Completion]:
    raise AssertionError(f"asked again for {[item.key for item in owed]}")


def stage_file(directory: Path, name: str = "attempts") -> Path:
    return directory / "stages" / f"{name}.jsonl"


# the directory


def test_what_a_run_was_made_with_is_saved(tmp_path: Path) -> None:
    config = Config(seed=7, inner=Inner(rate=5e-5))
    with Run.open(tmp_path / "run", config) as run:
        assert run.seed == 7
    saved = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert Config.model_validate(saved) == config
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["python"] == ".".join(map(str, sys.version_info[:3]))
    assert environment["torch"] != "absent"


def test_another_config_is_refused_naming_every_field_that_differs(tmp_path: Path) -> None:
    Run.open(tmp_path, Config()).close()
    other = Config(seed=1, inner=Inner(rate=2, names=("a", "b")))
    with pytest.raises(ConfigMismatch) as caught:
        Run.open(tmp_path, other)
    lines = caught.value.message.splitlines()[1:]
    assert lines == [
        "  inner.names: saved ['a'], now ['a', 'b']",
        "  inner.rate: saved 1.0, now 2.0",
        "  seed: saved 0, now 1",
    ]
    assert caught.value.exit_code == 2
    Run.open(tmp_path, Config()).close()  # a refusal holds no lock


def test_execution_may_change_between_resumes(tmp_path: Path) -> None:
    with Run.open(tmp_path, Config()) as run:
        made = run.stage("attempts", Completion, ITEMS, answers)
    with Run.open(tmp_path, Config(execution=ExecutionConfig(workers=1, threads=1, device="cpu"))) as run:
        assert run.stage("attempts", Completion, ITEMS, never) == made


def test_a_directory_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(RunError, match=r"not a run directory: it has no config\.yaml"):
        Run.open(tmp_path, Config())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("place", ["file", "file/below", "x" * 300])
def test_a_place_for_no_directory_is_named(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=str(tmp_path)):
        Run.open(tmp_path / place, Config())


@pytest.mark.parametrize("text", ["a: [", "- 1\n", ""])
def test_a_damaged_config_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(RunError, match=r"config\.yaml"):
        Run.open(tmp_path, Config())


def test_a_config_in_which_a_byte_has_changed_is_refused(tmp_path: Path) -> None:
    Run.open(tmp_path, Config()).close()
    saved = tmp_path / "config.yaml"
    saved.write_text(saved.read_text().replace("seed: 0", "seed: 1"))
    with pytest.raises(RunError, match=r"config\.yaml does not fit its checksum"):
        Run.open(tmp_path, Config())


def test_a_start_that_was_killed_is_started_again(tmp_path: Path) -> None:
    for name in (".lock", "environment.json", "about.json", ".config.yaml.123.tmp"):
        (tmp_path / name).write_text("")
        Run.open(tmp_path, Config()).close()
        for made in ("config.yaml", "sessions.jsonl"):
            (tmp_path / made).unlink()


def test_what_killed_writers_left_is_swept_when_a_run_is_opened(tmp_path: Path) -> None:
    Run.open(tmp_path, Config()).close()
    left_over = tmp_path / "stages" / "round-1" / ".attempts.json.123-456.tmp"
    left_over.parent.mkdir(parents=True)
    left_over.write_text("half")
    Run.open(tmp_path, Config()).close()
    assert not left_over.exists()


def test_a_run_of_an_earlier_version_is_refused(tmp_path: Path) -> None:
    Run.open(tmp_path, Config()).close()
    saved = tmp_path / "config.yaml"
    saved.write_text(saved.read_text().partition("# checksum")[0])
    with pytest.raises(RunError, match="it is damaged, or an earlier version wrote it") as caught:
        Run.open(tmp_path, Config())
    assert "another run directory" in caught.value.next_step


def test_text_that_utf8_cannot_hold_stops_no_stage(tmp_path: Path) -> None:
    items = [*ITEMS[:2], Request(task_id="half", prompt="p\ud83d")]

    def half(owed: Sequence[Request]) -> Iterator[Completion]:
        yield from (answer(item).model_copy(update={"text": f"{item.prompt} \udfff"}) for item in owed)

    config = Config(title="a name of bytes \udcff")
    with Run.open(tmp_path, config) as run:
        made = run.stage("attempts", Completion, items, half)
        run.message("attempts", "half \ud800")
    with Run.open(tmp_path, config) as run:
        assert run.stage("attempts", Completion, items, never) == made
    assert [event.message for event in read_jsonl(run.metrics_path, Event)] == ["half \ud800"]


def test_a_number_that_is_not_finite_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be stored"):
        Run.open(tmp_path / "run", Config(inner=Inner(rate=float("inf"))))
    assert not (tmp_path / "run").exists()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with Run.open(tmp_path, Config()), pytest.raises(RunError, match="Another process is using"):
        Run.open(tmp_path, Config())

    def hold_and_die() -> None:
        held = Run.open(tmp_path, Config())
        os.kill(os.getpid(), signal.SIGKILL)
        held.close()

    assert in_child(hold_and_die) == -signal.SIGKILL
    Run.open(tmp_path, Config()).close()


def test_slugs_are_file_names() -> None:
    assert slug("mbpp:test/zero-shot") == "mbpp-test-zero-shot"
    assert slug("../a b") == "..-a-b" and "/" not in slug("/etc/passwd")


# stages


def test_records_come_in_the_items_order_whatever_order_they_were_made_in(tmp_path: Path) -> None:
    with Run.open(tmp_path, Config()) as run:
        made = run.stage("attempts", Completion, ITEMS, lambda owed: answers(reversed(owed)))
    assert [one.task_id for one in made] == [item.task_id for item in ITEMS]
    assert list(read_jsonl(stage_file(tmp_path), Completion, whole=True)) == made


def test_a_finished_stage_makes_nothing_again(tmp_path: Path) -> None:
    with Run.open(tmp_path, Config()) as run:
        made = run.stage("attempts", Completion, ITEMS, answers)
        before = stage_file(tmp_path).stat()
        assert run.stage("attempts", Completion, ITEMS, never) == made
        assert stage_file(tmp_path).stat() == before


def test_a_stage_without_items_is_finished(tmp_path: Path) -> None:
    with Run.open(tmp_path, Config()) as run:
        assert run.stage("attempts", Completion, [], never) == []


def test_other_items_are_refused(tmp_path: Path) -> None:
    with Run.open(tmp_path, Config()) as run:
        run.stage("attempts", Completion, ITEMS, answers)
        for items in (ITEMS[:-1], [*ITEMS[:-1], ITEMS[-1].model_copy(update={"prompt": "other"})]):
            with pytest.raises(StageMismatch, match=r"attempts\.jsonl was made from other items") as caught:
                run.stage("attempts", Completion, items, never)
            assert "Delete attempts.jsonl and attempts.json" in caught.value.next_step


def test_records_without_their_marker_are_not_trusted(tmp_path: Path) -> None:
    with Run.open(tmp_path, Config()) as run:
        run.stage("attempts", Completion, ITEMS, answers)
        stage_file(tmp_path).with_suffix(".json").unlink()
        with pytest.raises(StageMismatch, match=r"attempts\.jsonl has no attempts\.json"):
            run.stage("attempts", Completion, ITEMS, never)


def test_a_stage_whose_file_was_deleted_is_made_again(tmp_path: Path) -> None:
    with Run.open(tmp_path, Config()) as run:
        made = run.stage("attempts", Completion, ITEMS, answers)
        stage_file(tmp_path).unlink()
        assert run.stage("attempts", Completion, ITEMS, answers) == made


def test_a_damaged_record_is_named_by_file_and_line(tmp_path: Path) -> None:
    with Run.open(tmp_path, Config()) as run:
        run.stage("attempts", Completion, ITEMS, answers)
        path = stage_file(tmp_path)
        path.write_text(path.read_text().replace('"sample":0', '"sample":"x"', 1))
        with pytest.raises(RunError, match=r"attempts\.jsonl:1 does not fit its checksum") as caught:
            run.stage("attempts", Completion, ITEMS, never)
        assert "Delete attempts.jsonl and attempts.json" in caught.value.next_step


def test_a_torn_last_line_is_owed_again(tmp_path: Path) -> None:
    with Run.open(tmp_path, Config()) as run:
        with pytest.raises(Failure):
            run.stage("attempts", Completion, ITEMS, lambda owed: answers(owed[:3]))
        path = stage_file(tmp_path)
        path.write_bytes(path.read_bytes()[:-4])
        with pytest.raises(Failure):  # what follows a torn line is not torn with it
            run.stage("attempts", Completion, ITEMS, lambda owed: answers(owed[:1]))
        asked: list[str] = []

        def produce(owed: Sequence[Request]) -> Iterator[Completion]:
            asked.extend(item.task_id for item in owed)
            yield from answers(owed)

        made = run.stage("attempts", Completion, ITEMS, produce)
    assert asked == ["t3", "t4", "t5"]
    assert made == [answer(item) for item in ITEMS]


def test_missing_records_fail_the_stage_and_a_rerun_makes_them(tmp_path: Path) -> None:
    with Run.open(tmp_path, Config()) as run:
        with pytest.raises(Failure, match="stage attempts: of 6 records 2 are missing") as caught:
            run.stage("attempts", Completion, ITEMS, lambda owed: answers(owed[2:]))
        assert caught.value.exit_code == 1 and "Run the same command again" in caught.value.next_step
        made = run.stage("attempts", Completion, ITEMS, lambda owed: answers(owed[:2]))
    assert made == [answer(item) for item in ITEMS]


def test_a_record_for_no_item_is_a_mistake_of_the_recipe(tmp_path: Path) -> None:
    stray = Completion(task_id="elsewhere", sample=0, text="")
    with Run.open(tmp_path, Config()) as run, pytest.raises(ValueError, match="'elsewhere#0'"):
        run.stage("attempts", Completion, ITEMS, lambda _: [stray])
    with Run.open(tmp_path, Config()) as run, pytest.raises(ValueError, match="items share a key"):
        run.stage("twins", Completion, [ITEMS[0], ITEMS[0]], answers)


def test_a_record_made_twice_is_kept_once(tmp_path: Path) -> None:
    def twice(owed: Sequence[Request]) -> Iterator[Completion]:
        for one in answers(owed):
            yield one
            yield one.model_copy(update={"text": "another"})

    with Run.open(tmp_path, Config()) as run:
        assert run.stage("attempts", Completion, ITEMS, twice) == [answer(item) for item in ITEMS]


def test_rounds_have_stages_and_names_of_their_own(tmp_path: Path) -> None:
    with Run.open(tmp_path, Config(seed=3)) as run:
        for number, view in enumerate(run.rounds(2), start=1):
            items = ITEMS[: number + 1]
            assert len(view.stage("attempts", Completion, items, answers)) == number + 1
            view.log("train", {"loss": 1.0}, step=number)
            view.account(answers=number)
            assert view.seed == 3
            assert view.student_directory == tmp_path / f"round-{number}" / "student"
            assert view.result_path("a/b") == tmp_path / "results" / f"round-{number}" / "a-b.json"
    assert stage_file(tmp_path, "round-1/attempts").exists()
    assert stage_file(tmp_path, "round-2/attempts").exists()
    logged = list(read_jsonl(tmp_path / "metrics.jsonl", Event))
    assert [event.stage for event in logged] == ["round-1/train", "round-2/train"]
    assert read_accounting(tmp_path) == {"round-1/answers": 1, "round-2/answers": 2}


# kills


def in_child(work: Callable[[], None]) -> int:
    """Exit code of ``work`` in a forked process; minus the signal that killed it."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def pipeline(directory: Path, diary: Path) -> None:
    """Two rounds of two stages; every production is noted in ``diary``."""

    def noting(stage: str) -> Callable[[Sequence[Any]], Iterator[Completion]]:
        def produce(owed: Sequence[Any]) -> Iterator[Completion]:
            for item in reversed(owed):
                with diary.open("a") as stream:
                    stream.write(f"{stage}/{item.key}\n")
                yield Completion(task_id=item.task_id, sample=0, text=f"{stage} é {item.key}")

        return produce

    with Run.open(directory, Config()) as run:
        for view in run.rounds(2):
            prefix = view.prefix
            attempts = view.stage("attempts", Completion, ITEMS, noting(f"{prefix}attempts"))
            view.stage("refinements", Completion, attempts[::2], noting(f"{prefix}refinements"))
            view.account(attempts=len(attempts))


def die_after(lines: int) -> Callable[..., Any]:
    """A trace function that kills this process at a line of run.py or serialize.py."""
    left = lines

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        if not frame.f_code.co_filename.endswith(("codestill/run.py", "codestill/files/serialize.py")):
            return None
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    return trace


def on_disk(directory: Path) -> set[str]:
    """``round/stage/key`` of every whole record."""
    found = set()
    for path in directory.glob("stages/*/*.jsonl"):
        stage = path.relative_to(directory / "stages").with_suffix("")
        found |= {f"{stage}/{one.key}" for one in read_jsonl(path, Completion)}
    return found


def contents(directory: Path) -> dict[str, bytes]:
    """All but the times that its processes took."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and not path.name.startswith(".") and path.name != "sessions.jsonl"
    }


def test_killed_at_any_line_it_ends_with_the_same_bytes_and_repeats_nothing(tmp_path: Path) -> None:
    whole, diary = tmp_path / "whole", tmp_path / "diary"
    pipeline(whole, diary)
    expected = contents(whole)
    productions = sorted(diary.read_text().split("\n")[:-1])
    rng = random.Random(0)
    kills = 0
    for number in range(12):
        directory, diary = tmp_path / str(number), tmp_path / f"diary-{number}"
        diary.touch()
        for attempt in itertools.count(1):
            kept, noted = on_disk(directory), len(diary.read_text())

            lines = rng.randint(1, 800 * attempt)  # about 1500 make a whole run

            def work(lines: int = lines, directory: Path = directory, diary: Path = diary) -> None:
                sys.settrace(die_after(lines))
                pipeline(directory, diary)

            code = in_child(work)
            asked_again = set(diary.read_text()[noted:].split("\n")) & kept
            assert not asked_again
            if code == 0:
                break
            assert code == -signal.SIGKILL
            kills += 1
        assert contents(directory) == expected
        assert set(diary.read_text().split("\n")[:-1]) == set(productions)
    assert kills > 12


# log


def test_observers_hear_everything_and_one_that_fails_is_left_out_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    heard: list[Event] = []

    def broken(event: Event) -> None:
        raise RuntimeError("no network")

    with Run.open(tmp_path, Config(), [broken, heard.append]) as run:
        for view in run.rounds(2):
            view.stage("attempts", Completion, ITEMS[:2], answers)
            view.log("train", {"loss": 0.5}, step=1)
            view.message("train", "half way")
    assert capsys.readouterr().err.count("no network") == 1
    kinds = [event.kind for event in heard if event.stage.startswith("round-1/")]
    assert kinds == ["progress", "progress", "progress", "metrics", "message"]  # none of two, one, two
    assert len(heard) == 10 and heard[2].done == heard[2].total == 2
    stored = list(read_jsonl(tmp_path / "metrics.jsonl", Event))
    assert stored == [event for event in heard if event.kind != "progress"]


def test_a_resumed_training_forgets_what_it_will_log_again(tmp_path: Path) -> None:
    with Run.open(tmp_path, Config()) as run:
        run.rewind(0, ["train"])  # nothing logged yet
        run.log("evaluate", {"a": 1})
        (view,) = run.rounds(1)
        for step in (1, 2, 3):
            run.log("train", {"loss": step}, step=step)
            view.log("train", {"loss": step}, step=step)
        run.rewind(1, ["train", "validation"])
    left = [(event.stage, event.step) for event in read_jsonl(tmp_path / "metrics.jsonl", Event)]
    assert left == [
        ("evaluate", None),
        ("train", 1),
        ("round-1/train", 1),
        ("round-1/train", 2),
        ("round-1/train", 3),
    ]


def test_a_torn_metric_does_not_spoil_the_next(tmp_path: Path) -> None:
    with Run.open(tmp_path, Config()) as run:
        run.log("train", {"loss": 1}, step=1)
    with run.metrics_path.open("a") as stream:
        stream.write('{"stage":"tr')
    with Run.open(tmp_path, Config()) as run:
        run.log("train", {"loss": 2}, step=2)
    assert [event.step for event in read_jsonl(run.metrics_path, Event)] == [1, 2]


def test_a_funnel_keeps_the_order_of_its_steps(tmp_path: Path) -> None:
    with Run.open(tmp_path, Config()) as run:
        run.part("round-1").funnel({"tasks": 9, "solved": 4})
        run.funnel({"tasks": 5, "attempted": 3})
        run.part("round-1").funnel({"rows": 8})
        before = (tmp_path / "funnel.json").read_bytes()
        run.part("round-1").funnel({"tasks": 9, "solved": 4})  # a resumed run counts again
    assert (tmp_path / "funnel.json").read_bytes() == before
    found = read_funnels(tmp_path)
    assert {part: list(steps.items()) for part, steps in found.items()} == {
        "": [("tasks", 5), ("attempted", 3)],
        "round-1": [("tasks", 9), ("solved", 4), ("rows", 8)],
    }


def test_a_run_says_what_its_config_is_and_what_its_defaults_are(tmp_path: Path) -> None:
    class Group(BaseModel):
        size: int = 2

    class Named(BaseModel):
        """A method. It has settings."""

        model: str
        group: Group = Group()
        factor: float = float("inf")
        needs_teacher: bool = True

    Run.open(tmp_path, Named(model="m", group=Group(size=3), factor=1.0)).close()
    about = read_about(tmp_path)
    assert about is not None
    assert (about.title, about.needs_teacher) == ("A method", True)
    assert about.defaults == {"group": {"size": 2}, "factor": None, "needs_teacher": True}


def test_accounting_adds_names_and_repeats_change_nothing(tmp_path: Path) -> None:
    with Run.open(tmp_path, Config()) as run:
        run.account(tasks=3, teacher="local")
        run.account(steps=10)
        before = (tmp_path / "accounting.json").read_bytes()
        run.account(tasks=3, steps=10)
    assert (tmp_path / "accounting.json").read_bytes() == before
    assert read_accounting(tmp_path) == {"tasks": 3, "teacher": "local", "steps": 10}
