"""The folders that are made of GGUF files: once, whole, and of the file as it is."""

import errno
import fcntl
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.models.test_gguf import _logits, cache, file, source
from tests.support.gguf_files import write_gguf
from tests.support.tiny import tiny_model
from transformers import GenerationConfig

from codestill.errors import ModelError
from codestill.files.serialize import lock
from codestill.models.gguf import convert
from codestill.models.gguf import store as gguf_store
from codestill.models.gguf.store import folder_of, store

__all__ = ["cache", "file", "source"]


def test_a_file_is_converted_once(
    file: Path,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = folder_of(file)
    assert "tiny.gguf: dequantising, once" in capsys.readouterr().err

    def fail(*_: Any) -> None:
        raise AssertionError("converted again")

    monkeypatch.setattr(convert.Conversion, "write", fail)
    copy = Path(shutil.copy(file, tmp_path / "copy.gguf"))
    assert folder_of(copy) == folder
    assert capsys.readouterr().err == ""
    monkeypatch.setitem(sys.modules, "gguf", None)  # what is in the cache needs no package
    assert folder_of(file) == folder
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    copy.write_bytes(
        write_gguf(tiny_model(tmp_path / "b", "llama", seed=1), tmp_path / "b.gguf").read_bytes()
    )
    assert folder_of(copy) != folder
    assert len([path for path in cache.iterdir() if path.name[0] not in ".k"]) == 2


CONVERT = """
import os, signal, sys, time
from codestill.models.gguf import convert
from codestill.models.load import resolve
kept = convert._dequantised
def act(tensor): {act}
convert._dequantised = lambda header, tensor, config: act(tensor) or kept(header, tensor, config)
convert._FILE_BYTES = 1000
print("ready", flush=True)
sys.stdin.readline()
print(resolve(sys.argv[1]))
"""


def _process(act: str, file: Path) -> "subprocess.Popen[str]":
    """A process that converts the file once it reads a line, and does ``act`` before every tensor."""
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    script = CONVERT.format(act=act)
    process = subprocess.Popen([sys.executable, "-c", script, str(file)], text=True, **pipes)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.slow
def test_a_kill_leaves_nothing_that_is_taken_for_whole(source: Path, file: Path, cache: Path) -> None:
    killed = _process("'blk.1.ffn_up' in tensor.name and os.kill(os.getpid(), signal.SIGKILL)", file)
    killed.communicate("\n")
    assert killed.returncode == -signal.SIGKILL
    assert [path.suffix for path in cache.iterdir() if path.is_dir() and path.name != "known"] == [".tmp"]
    torch.testing.assert_close(_logits(folder_of(file)), _logits(source), rtol=0, atol=0)
    assert not list(cache.glob(".*.tmp"))


@pytest.mark.slow
def test_two_processes_at_once(source: Path, file: Path) -> None:
    both = [_process("time.sleep(0.2)", file) for _ in range(2)]
    for process in both:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    outputs = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert len({out for out, _ in outputs}) == 1
    assert sum("dequantising" in error for _, error in outputs) == 1  # the other waits for it
    torch.testing.assert_close(_logits(outputs[0][0].strip()), _logits(source), rtol=0, atol=0)


def test_no_room(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(ModelError, match="GB left") as caught:
        folder_of(file)
    assert "XDG_CACHE_HOME" in caught.value.next_step
    (tmp_path / "occupied").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "occupied"))
    with pytest.raises(ModelError, match="cannot be converted below") as caught:
        folder_of(file)
    assert "XDG_CACHE_HOME" in caught.value.next_step


def _leftovers(cache: Path) -> list[Path]:
    return list(cache.glob(".*.tmp"))


def test_what_killed_conversions_left_goes_before_room_is_needed(
    file: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(file)
    left, other, living = (cache / f".{name}.tmp" for name in (folder.name, "other.1", "living.1"))
    shutil.move(folder, left)
    for place in (other, living):
        place.mkdir()
        (place / "part-0").write_bytes(b"x" * 1000)
        place.with_suffix(".lock").touch()
    usage = shutil.disk_usage(tmp_path)

    def free(_: Path) -> Any:
        return usage._replace(free=0 if left.exists() or other.exists() else usage.free)

    monkeypatch.setattr(shutil, "disk_usage", free)
    with living.with_suffix(".lock").open("w") as stream:
        lock(stream)
        assert folder_of(file) == folder
    assert _leftovers(cache) == [living]


def test_a_failed_conversion_leaves_nothing(file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(GenerationConfig, "save_pretrained", stopped)
    with pytest.raises(KeyboardInterrupt):
        folder_of(file)
    assert not _leftovers(cache)


@pytest.mark.parametrize("file_bytes", [256 << 20, 1])
def test_a_full_disk_is_named(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_bytes: int
) -> None:
    narrow = tiny_model(tmp_path / "narrow", "llama", hidden_size=8)
    file = write_gguf(narrow, tmp_path / "narrow.gguf", "F16")
    monkeypatch.setattr(convert, "_FILE_BYTES", file_bytes)  # the weights fail, or the tokenizer
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8000, hard))
    try:
        with pytest.raises(ModelError, match=r"cannot be converted below .*File too large") as caught:
            folder_of(file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(cache) in caught.value.message
    assert "XDG_CACHE_HOME" in caught.value.next_step
    assert not _leftovers(cache)


def test_files_that_cannot_be_locked(file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def impossible(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    write = convert.Conversion.write
    made: list[Path] = []

    def overtaken(self: convert.Conversion, directory: Path, progress: Any) -> None:
        monkeypatch.setattr(convert.Conversion, "write", write)
        made.append(folder_of(file))
        write(self, directory, progress)

    monkeypatch.setattr(fcntl, "flock", impossible)
    monkeypatch.setattr(convert.Conversion, "write", overtaken)
    assert [folder_of(file)] == made
    assert not _leftovers(cache)


def test_a_filled_cache_can_be_read_only(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_of(file)
    copy = Path(shutil.copy(file, tmp_path / "copy.gguf"))

    def read_only(*_: Any, **__: Any) -> None:  # not by permissions: root may write anywhere
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(gguf_store, "write_object", read_only)
    monkeypatch.setattr(gguf_store, "_locked", read_only)
    assert folder_of(copy) == folder


def test_a_file_that_is_replaced_while_it_is_read(
    file: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = tiny_model(tmp_path / "later", "llama", seed=1)
    other = write_gguf(later, tmp_path / "other.gguf")
    hashed, written = gguf_store._hash, convert.Conversion.write

    def replaced(*arguments: Any) -> str:
        monkeypatch.setattr(gguf_store, "_hash", hashed)
        other.replace(file)
        return hashed(*arguments)

    def counted(*arguments: Any) -> None:
        conversions.append(arguments)
        written(*arguments)

    conversions: list[Any] = []
    monkeypatch.setattr(convert.Conversion, "write", counted)
    monkeypatch.setattr(gguf_store, "_hash", replaced)
    torch.testing.assert_close(_logits(folder_of(file)), _logits(later), rtol=0, atol=0)
    assert len(conversions) == 1
    shutil.rmtree(store())

    def rewritten(*arguments: Any) -> None:
        written(*arguments)
        file.touch()

    monkeypatch.setattr(convert.Conversion, "write", rewritten)
    with pytest.raises(ModelError, match=r"tiny.gguf changes while it is read"):
        folder_of(file)
    assert not list(store().glob("[0-9a-f]*")) and not _leftovers(store())
