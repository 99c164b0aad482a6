"""A student that chats and fills gaps, and real servers of it."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import torch
from tests.support.tiny import save_model, tiny_config, tiny_tokenizer

from codestill.models import ChatConfig, Placement
from codestill.models.student import Student
from codestill.serve import Limits, ServeConfig
from codestill.serve.app import application
from codestill.serve.service import Service

ENDLESS = {"prompt": "class Stack:\n", "max_tokens": 450}
"""What the student answers greedily with as many tokens as it may."""
GAP = ["<fim_prefix>", "<fim_suffix>", "<fim_middle>"]
TURNS = "{% for m in messages %}{{ m.role }}: {{ m.content }}<|endoftext|>\n{% endfor %}assistant: "


@dataclass
class Served:
    """A server in this process: real sockets, real HTTP."""

    url: str
    service: Service

    @property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=60)

    def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        return httpx.post(f"{self.url}{path}", json=body, headers=headers, timeout=60)

    def number(self, name: str, **labels: str) -> float:
        """A metric's value."""
        return self.service.metrics.registry.get_sample_value(name, labels) or 0.0

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait for something to come about."""
        deadline = time.monotonic() + 30
        while not holds():
            assert time.monotonic() < deadline
            time.sleep(0.01)


@contextmanager
def serving(
    student: Student, key: str | None = None, limits: dict[str, Any] | None = None, **settings: Any
) -> Iterator[Served]:
    """The student behind a server on a free port."""
    import uvicorn

    config = ServeConfig(model="tiny", limits=Limits(**limits or {}), **settings)
    service = Service(student, config, "tiny")
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(application(service, key), log_level="warning", lifespan="on"))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[sock])))
        thread.start()
        served = Served(f"http://127.0.0.1:{sock.getsockname()[1]}", service)
        try:
            served.until(lambda: server.started)
            yield served
        finally:
            server.should_exit = True
            thread.join(60)
        assert not [one for one in threading.enumerate() if one in (thread, service.engine.thread)]


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The student's directory. Its control tokens are so unlikely that greedy answers do not end."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": GAP})  # pyright: ignore[reportArgumentType]
    tokenizer.chat_template = TURNS
    config = tiny_config("llama", vocabulary=len(tokenizer), positions=512)
    made = save_model(tmp_path_factory.mktemp("serve") / "tiny", config, tokenizer, seed=3)
    model = Student.load(made, device="cpu").model
    with torch.no_grad():
        model.get_input_embeddings().weight[tokenizer.all_special_ids] *= 0.01  # pyright: ignore
    model.save_pretrained(made)
    return made


@pytest.fixture(scope="session")
def student(place: Path) -> Student:
    """It continues text and answers in its template."""
    loaded = Student.load(place, device="cpu").asked_as(ChatConfig(chat=True), "chat")
    loaded.placement = Placement(device="cpu", decode_batch=64)
    return loaded


@pytest.fixture(scope="session")
def continuing(place: Path) -> Student:
    """The same, asked as text that goes on."""
    return Student.load(place, device="cpu").asked_as(ChatConfig(chat=False), "chat")


@pytest.fixture(scope="module")
def served(student: Student) -> Iterator[Served]:
    with serving(student) as one:
        yield one


@pytest.fixture
def start() -> Callable[..., AbstractContextManager[Served]]:
    """Starts further servers."""
    return serving
