"""Tokens per second of a server's CPU time: ours beside `transformers serve` and llama.cpp's, in one run.

Each server in turn gets the same model, the same prompts (heads of the standard library's functions) and the
same clients, which each ask one request after another, greedily:

    python benchmarks/serve.py MODEL --clients 1 16 --transformers /path/to/transformers

CPU time is that of the server's process and its children, by psutil, from the first request to the last
answer; the model is loaded and has answered once before. Tokens are those that the answers' texts have in the
model's tokenizer, for not every server counts alike. ``--transformers`` is given several times to compare
its options: `--transformers "transformers --continuous-batching"` adds them to `serve`.
"""

import argparse
import inspect
import os
import shlex
import socket
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import openai
import psutil
from transformers import AutoTokenizer


@dataclass
class Timed:
    """What a server did for some clients."""

    name: str
    clients: int
    texts: list[str]
    tokens: int
    cpu: float
    wall: float
    median: float
    """Seconds from a request to its answer."""

    @property
    def per_cpu_second(self) -> float:
        return self.tokens / self.cpu


def prompts(count: int) -> list[str]:
    """Heads of functions, with their docstrings."""
    found = []
    for module in (textwrap, shlex, statistics, tempfile, inspect):
        for name, function in sorted(inspect.getmembers(module, inspect.isfunction)):
            if function.__module__ == module.__name__ and (function.__doc__ or "").strip():
                lines = inspect.getdoc(function) or ""
                head = f"def {name}{inspect.signature(function)}:\n"
                found.append(head + textwrap.indent(f'"""{lines[:160]}\n"""\n', "    "))
    return [found[number % len(found)] for number in range(count)]


@contextmanager
def running(command: Sequence[str], port: int, log: Path) -> Iterator[psutil.Process]:
    """The server's process, once it is ready."""
    environment = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    environment["HF_HUB_CACHE"] = str(log.parent)
    with log.open("w") as stream:
        server = subprocess.Popen(command, stdout=stream, stderr=stream, env=os.environ | environment)
    try:
        for _ in range(600):
            if server.poll() is not None:
                sys.exit(f"{shlex.join(command)} ended:\n{log.read_text()[-2000:]}")
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
                break
            except OSError:
                time.sleep(0.5)
        yield psutil.Process(server.pid)
    finally:
        server.terminate()
        server.wait(60)


def cpu_seconds(process: psutil.Process) -> float:
    """Of a process and its children."""
    every = [process, *process.children(recursive=True)]
    return sum(one.cpu_times().user + one.cpu_times().system for one in every)


def measured(
    name: str, model: str, process: psutil.Process, port: int, asked: list[str], clients: int, tokens: int
) -> Timed:
    """All prompts, by so many clients at once."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    client = openai.OpenAI(
        base_url=f"http://127.0.0.1:{port}/v1", api_key="none", timeout=3600, max_retries=0
    )
    listed = [one.id for one in client.models.list()]
    served = next((one for one in listed if one == model or Path(model).name in one), model)

    def ask(prompt: str) -> tuple[str, float]:
        start = time.perf_counter()
        answer = client.completions.create(model=served, prompt=prompt, max_tokens=tokens, temperature=0)
        return answer.choices[0].text, time.perf_counter() - start

    ask(asked[0])
    before, start = cpu_seconds(process), time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        answers = list(pool.map(ask, asked))
    cpu, wall = cpu_seconds(process) - before, time.perf_counter() - start
    texts = [text for text, _ in answers]
    count = sum(len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"])
    return Timed(name, clients, texts, count, cpu, wall, statistics.median(second for _, second in answers))


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", help="directory of a model")
    parser.add_argument("--clients", type=int, nargs="+", default=[16])
    parser.add_argument("--requests", type=int, default=48)
    parser.add_argument("--new-tokens", type=int, default=64)
    usual = str(Path(sys.executable).with_name("codestill"))
    parser.add_argument("--codestill", default=usual, help="command (default: this environment's)")
    parser.add_argument("--transformers", action="append", default=[], help="command, with options of serve")
    parser.add_argument("--llama-server", help="command; needs --gguf")
    parser.add_argument("--gguf", help="the same model as a GGUF file")
    given = parser.parse_args()

    asked, found = prompts(given.requests), []
    where = ["--host", "127.0.0.1", "--port"]
    own = [*shlex.split(given.codestill), "serve", given.model, "--threads", "1", "--engine", "codestill"]
    commands = {"codestill": [*own, *where]}
    for words in map(shlex.split, given.transformers):
        options = ["--device", "cpu", "--dtype", "float32", *words[1:]]
        name = " ".join(["transformers serve", *words[1:]])
        commands[name] = [words[0], "serve", given.model, *options, *where]
    if given.llama_server:
        slots = ["--threads", "1", "--parallel", str(max(given.clients)), "--ctx-size", str(16384)]
        commands["llama-server"] = [given.llama_server, "--model", given.gguf, *slots, *where]
    print(f"{Path(given.model).name}: {len(asked)} requests of {given.new_tokens} tokens at most, one thread")
    print(
        f"{'server':<44}{'clients':>8}{'CPU s':>8}{'wall s':>8}{'tokens':>8}{'per CPU s':>11}{'median s':>10}"
    )
    with tempfile.TemporaryDirectory() as directory:
        for name, command in commands.items():
            port = free_port()
            with running([*command, str(port)], port, Path(directory) / "log") as process:
                for clients in given.clients:
                    one = measured(name, given.model, process, port, asked, clients, given.new_tokens)
                    found.append(one)
                    print(
                        f"{one.name:<44}{one.clients:>8}{one.cpu:>8.1f}{one.wall:>8.1f}{one.tokens:>8}"
                        f"{one.per_cpu_second:>11.1f}{one.median:>10.2f}",
                        flush=True,
                    )
    for other in found:
        ours = next(one for one in found if one.clients == other.clients)
        if other is not ours:
            same = sum(a == b for a, b in zip(ours.texts, other.texts, strict=True))
            print(
                f"codestill / {other.name}, {other.clients} clients: "
                f"{ours.per_cpu_second / other.per_cpu_second:.1f} times the tokens per CPU second; "
                f"{same} of {len(asked)} texts equal"
            )


if __name__ == "__main__":
    main()
