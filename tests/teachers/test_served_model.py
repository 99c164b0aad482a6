"""A real server: `transformers serve` with a pocket model answers as the same weights do here."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from codestill.models import Decoding, SamplingConfig
from codestill.models.student import Student
from codestill.teachers import ApiTeacherConfig
from codestill.types import Request

pytest.importorskip("fastapi", reason="transformers serve needs fastapi and uvicorn")
pytest.importorskip("uvicorn", reason="transformers serve needs fastapi and uvicorn")

TASKS = {
    "total": 'def total(values: list[int]) -> int:\n    """Return the sum of values.\n    """\n',
    "shout": 'def shout(s: str) -> str:\n    """Return s in upper case.\n    """\n',
    "digits": 'def digits(n: int) -> list[int]:\n    """Return the digits of n.\n    """\n',
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("served") / "pocket"
    student = Student.load("pocket", device="cpu")
    student.tokenizer.chat_template = "{{ messages[-1]['content'] }}"
    return student.save(place)


@pytest.fixture(scope="module")
def address(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    cache = tmp_path_factory.mktemp("hub")
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(model)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    environment = os.environ | {"HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    log = cache.with_name("serve.log")
    with log.open("w") as stream:
        server = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, env=environment)
    try:
        wait_for(f"http://127.0.0.1:{port}/health", server, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(30)


def wait_for(url: str, server: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except OSError:
            time.sleep(0.3)
    raise AssertionError(log.read_text())


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
def test_a_served_model_answers_as_its_weights_do(endpoint: str, model: Path, address: str) -> None:
    named = {"model": str(model), "also_named": (f"{model}@main",)}
    config = ApiTeacherConfig.model_validate({"base_url": address, "endpoint": endpoint, **named})
    asked = [Request(task_id=name, prompt=prompt) for name, prompt in TASKS.items()]
    sampling = SamplingConfig(max_new_tokens=40)
    served = {one.key: one.text for one in config.build().complete(asked, Decoding(sampling))}
    here = {
        one.key: one.text for one in Student.load(model, device="cpu").complete(asked, Decoding(sampling))
    }
    assert {key: text.strip() for key, text in served.items()} == {
        key: text.strip() for key, text in here.items()
    }
