"""Real processes: killed at any moment and continued, and several at once."""

import multiprocessing
import signal
import time
from multiprocessing.context import ForkProcess
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
from tests.logits.made import SPEC, contents, fill, sequences

from codestill.errors import LogitsError
from codestill.logits import LogitCache, LogitWriter, digest, finish
from codestill.logits.files import write_whole

COUNT = 16

FORK = multiprocessing.get_context("fork")


def work(directory: Path, part: int, parts: int, stop: str, standing: Event) -> None:
    """Fill a part; stand still after so many sequences, or between a shard's bytes and its name."""
    rename, renames = Path.replace, []

    def stand() -> None:
        standing.set()
        time.sleep(60)

    def replace(path: Path, to: Path) -> Path:
        if to.suffix == ".logits":
            renames.append(to)
        if stop == "rename" and len(renames) == 2:
            stand()
        return rename(path, to)

    Path.replace = replace  # type: ignore[method-assign]
    with LogitWriter.open(directory, SPEC, part, shard_tokens=20) as writer:
        for number, (tokens, prompt, rows) in enumerate(sequences(COUNT)[part::parts]):
            if digest(tokens, prompt) not in writer.stored:
                writer.add(tokens, prompt, rows)
            if stop.isdigit() and number == int(stop):
                stand()


def child(directory: Path, part: int = 0, parts: int = 1, stop: str = "never") -> tuple[ForkProcess, Event]:
    standing = FORK.Event()
    process = FORK.Process(target=work, args=(directory, part, parts, stop, standing))
    process.start()
    return process, standing


@pytest.mark.parametrize("stop", ["0", "9", "rename"])
def test_killed_and_continued_gives_the_same_bytes(tmp_path: Path, stop: str):
    fill(tmp_path / "whole", sequences(COUNT))
    finish(tmp_path / "whole")
    killed, standing = child(tmp_path / "killed", stop=stop)
    assert standing.wait(60)
    killed.kill()
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    stored = LogitWriter.open(tmp_path / "killed", SPEC).stored
    assert bool(stored) == (stop != "0")
    assert len(stored) < COUNT
    again, _ = child(tmp_path / "killed")
    again.join(60)
    assert again.exitcode == 0
    finish(tmp_path / "killed")
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_two_writers_at_once(tmp_path: Path):
    items = sequences(COUNT)
    running = [child(tmp_path / "at-once", part, 2) for part in (0, 1)]
    for process, _ in running:
        process.join(60)
        assert process.exitcode == 0
    finish(tmp_path / "at-once", expected_digests=[digest(tokens, prompt) for tokens, prompt, _ in items])
    for part in (1, 0):
        fill(tmp_path / "in-turn", items[part::2], part=part)
    finish(tmp_path / "in-turn")
    assert contents(tmp_path / "at-once") == contents(tmp_path / "in-turn")
    assert len(LogitCache.open(tmp_path / "at-once")) == COUNT


def test_two_writers_of_one_part_do_not_overwrite_each_other(tmp_path: Path):
    write_whole(tmp_path / "part-000-00000.logits", b"mine")
    with pytest.raises(LogitsError, match="another process writes the same part"):
        write_whole(tmp_path / "part-000-00000.logits", b"yours")
    assert (tmp_path / "part-000-00000.logits").read_bytes() == b"mine"


def test_a_part_has_one_writer_at_a_time(tmp_path: Path):
    process, standing = child(tmp_path, stop="3")
    assert standing.wait(60)
    with pytest.raises(LogitsError, match="another process writes part 0") as caught:
        LogitWriter.open(tmp_path, SPEC)
    assert "part number of its own" in caught.value.next_step
    with LogitWriter.open(tmp_path, SPEC, part=1):
        pass
    process.kill()
    process.join()
    with LogitWriter.open(tmp_path, SPEC):  # a killed writer holds nothing
        pass
    with LogitWriter.open(tmp_path, SPEC) as first, pytest.raises(LogitsError, match="writes part 0"):
        LogitWriter.open(tmp_path, first.spec)


def test_what_a_killed_writer_left_is_swept(tmp_path: Path):
    fill(tmp_path, sequences(2))
    left_over = tmp_path / ".part-001-00000.logits.123-456.tmp"
    left_over.write_bytes(b"half a shard")
    with LogitWriter.open(tmp_path, SPEC):
        assert not left_over.exists()


def test_leaving_by_an_exception_keeps_whole_shards_only(tmp_path: Path):
    with pytest.raises(KeyboardInterrupt), LogitWriter.open(tmp_path, SPEC, shard_tokens=20) as writer:
        for tokens, prompt, rows in sequences(COUNT):
            writer.add(tokens, prompt, rows)
        raise KeyboardInterrupt
    fill(tmp_path, sequences(COUNT))
    fill(tmp_path / "whole", sequences(COUNT))
    shards = {name: data for name, data in contents(tmp_path / "whole").items() if name.endswith(".logits")}
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.logits")} == shards
