"""The command in a process of its own: started, killed, ended, and what it prints."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.serve.conftest import ENDLESS
from tests.serve.test_completions import PROMPT, own

from codestill.cli import main
from codestill.files.strict_yaml import load_yaml
from codestill.models.student import Student
from codestill.serve.config import ServeConfig
from codestill.serve.editors import configurations
from codestill.serve.llama import command


@contextmanager
def process(place: Path, log: Path, *options: str) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """``codestill serve`` of the student: its address, read off what it prints, and the process."""
    words = [str(Path(sys.executable).with_name("codestill")), "serve", str(place), "--port", "0", *options]
    with log.open("w") as stream:
        server = subprocess.Popen(words, stdout=stream, stderr=subprocess.STDOUT)
    try:
        address = None
        for _ in range(1200):
            address = re.search(r"^Serving \S+ at (\S+)/v1", log.read_text(), re.MULTILINE)
            if address is not None and _answers(address[1]):
                break
            assert server.poll() is None, log.read_text()
            time.sleep(0.1)
        assert address is not None
        yield address[1], server
    finally:
        server.kill()
        server.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.HTTPError:
        return False


def test_nothing_that_was_answered_is_lost_by_a_kill_and_the_end_is_clean(
    place: Path, continuing: Student, tmp_path: Path
) -> None:
    """Killed amid answers and started anew, the server gives the same bytes to the same seeds; told to end,
    it finishes what runs, and takes nothing more."""
    asked = [{"prompt": PROMPT, "max_tokens": 40, "temperature": 1.0, "seed": n} for n in range(8)]

    def ask(url: str, one: dict[str, Any]) -> str | None:
        try:
            answer = httpx.post(f"{url}/v1/completions", json=one, timeout=60)
            return answer.json()["choices"][0]["text"]
        except httpx.HTTPError:
            return None

    with process(place, tmp_path / "first") as (url, server), ThreadPoolExecutor(8) as pool:
        before = list(pool.map(lambda one: ask(url, one), asked[:4]))
        lost = [pool.submit(ask, url, ENDLESS) for _ in range(4)]
        time.sleep(0.05)
        server.kill()
        assert {one.result() for one in lost} == {None}
    expected = [own(continuing, PROMPT, 1, n, max_new_tokens=40, temperature=1.0)[0] for n in range(8)]
    assert before == expected[:4]
    with process(place, tmp_path / "second") as (url, server), ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda one: ask(url, one), asked)) == expected
        running = pool.submit(ask, url, ENDLESS)
        while "codestill_batch_rows 1.0" not in httpx.get(f"{url}/metrics").text:
            assert not running.done()
        server.send_signal(signal.SIGTERM)
        (whole,) = own(continuing, str(ENDLESS["prompt"]), max_new_tokens=450)
        assert running.result() == whole
        assert server.wait(30) == 0
        assert ask(url, asked[0]) is None
    said = (tmp_path / "second").read_text()
    assert said.rstrip().endswith("Stopped.") and "Traceback" not in said
    for name in ("Continue", "llama.vim", "llama.vscode", f"{url}/infill"):
        assert name in said


def test_what_is_printed_is_what_editors_read() -> None:
    found = configurations("tiny", "http://127.0.0.1:8012", infills=True, chats=True, key="k")
    continue_, vim, vscode = found.values()
    config: Any = load_yaml(continue_)
    assert [one["roles"] for one in config["models"]] == [["autocomplete"], ["chat", "edit"]]
    assert {one["apiBase"] for one in config["models"]} == {"http://127.0.0.1:8012/v1/"}
    assert json.loads(vscode)["llama-vscode.endpoint"] == "http://127.0.0.1:8012"
    assert "'endpoint_fim': 'http://127.0.0.1:8012/infill'" in vim and "'api_key': 'k'" in vim
    alone = configurations("tiny", "http://h", infills=False, chats=True, key="")
    assert list(alone) == ["Continue (~/.continue/config.yaml)"] and "autocomplete" not in str(alone)
    assert configurations("tiny", "http://h", infills=False, chats=False, key="") == {}


def failed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["serve", *words])
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_what_cannot_be_served_is_refused_before_a_model_is_loaded(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Student, "load", lambda *_, **__: 1 / 0)
    monkeypatch.delenv("CODESTILL_KEY", raising=False)
    assert "needs a key" in failed(capsys, str(place), "--host", "0.0.0.0")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert f"cannot listen at 127.0.0.1, port {port}" in failed(capsys, str(place), "--port", port)
    assert "llama.cpp runs GGUF files" in failed(capsys, str(place), "--engine", "llama.cpp")
    assert "run-dir" in failed(capsys, str(place), "--run-dir", "x")


STANDS_IN = """#!/bin/sh
echo "$LLAMA_API_KEY" "$@" > "$OUT"
"""


def test_a_gguf_file_is_llama_cpps_where_it_is_installed(tmp_path: Path) -> None:
    """What it would be started with, by a program of its name: the real one is not part of the tests."""
    (tmp_path / "student.gguf").write_bytes(b"GGUF")
    program = tmp_path / "llama-server"
    program.write_text(STANDS_IN)
    program.chmod(0o755)
    out = tmp_path / "out"
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "OUT": str(out)}
    codestill = str(Path(sys.executable).with_name("codestill"))
    words = [codestill, "serve", str(tmp_path / "student.gguf"), "--port", "0", "--context", "1000"]
    done = subprocess.run(
        words, env=environment | {"CODESTILL_KEY": "k"}, capture_output=True, text=True, check=True
    )
    said = out.read_text().split()
    assert said[0] == "k" and "k" not in said[1:]
    options = dict(zip(said[1:-1:2], said[2:-1:2], strict=True))
    assert options["--model"] == str(tmp_path / "student.gguf") and options["--ctx-size"] == "4000"
    assert options["--host"] == "127.0.0.1" and int(options["--port"]) > 0
    assert "is installed: it serves" in done.stdout and f":{options['--port']}/v1" in done.stdout
    config = ServeConfig(model="m", threads=2)
    assert "--threads 2" in " ".join(command("llama-server", config, "m.gguf", "m"))
