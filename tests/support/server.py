"""Real servers of a model: `transformers serve`, and llama.cpp's."""

import os
import shlex
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def served(model: Path, place: Path, *options: str) -> Iterator[str]:
    """The base URL of a server of that model; its log and its hub cache are below ``place``."""
    cache = place / "hub"
    cache.mkdir(parents=True)  # without it, the server's list of models fails
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(model), *options]
    environment = {"HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    with _running([*command, "--device", "cpu"], place / "serve.log", environment, "health") as url:
        yield url


@contextmanager
def llama_cpp(command: str, model: Path, place: Path) -> Iterator[str]:
    """The base URL of llama.cpp's server of a GGUF file, by its command."""
    own = [*shlex.split(command), "--model", str(model)]
    with _running(own, place / "llama.log", {"OMP_NUM_THREADS": "1"}, "v1/models") as url:
        yield url


@contextmanager
def _running(command: list[str], log: Path, environment: dict[str, str], ready: str) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [*command, "--host", "127.0.0.1", "--port", str(port)]
    with log.open("w") as stream:
        server = subprocess.Popen(
            command, stdout=stream, stderr=subprocess.STDOUT, env=os.environ | environment
        )
    try:
        _wait_for(f"http://127.0.0.1:{port}/{ready}", server, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(30)


def _wait_for(url: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except OSError:
            time.sleep(0.3)
    raise AssertionError(log.read_text())
