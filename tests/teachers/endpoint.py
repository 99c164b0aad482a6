"""A real HTTP server that speaks as OpenAI-compatible endpoints do, and misbehaves as they do."""

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Behaviour = Callable[["Handler", dict[str, Any], int], None]
"""(handler, what is asked, how often this prompt was asked before) -> answers, or does not."""


@dataclass
class Server:
    """What it was asked."""

    port: int
    behave: Behaviour
    listing: int = 404
    """The status with which it answers the question for its models."""
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: set[str | None] = field(default_factory=set)
    busiest: int = 0
    at_work: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def times(self, prompt: str) -> int:
        return sum(said(one) == prompt for one in self.asked)


def said(asked: dict[str, Any]) -> str:
    if "input" in asked:  # embeddings
        return "\n".join(asked["input"])
    return asked["prompt"] if "prompt" in asked else asked["messages"][-1]["content"]


class Handler(BaseHTTPRequestHandler):
    server_: Server

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        own = self.server_
        with own.lock:
            before = own.times(said(asked))
            own.asked.append(asked)
            own.keys.add(self.headers["Authorization"])
            own.at_work += 1
            own.busiest = max(own.busiest, own.at_work)
        try:
            own.behave(self, asked, before)
        except (BrokenPipeError, ConnectionResetError):
            pass  # whoever asked has gone
        finally:
            with own.lock:
                own.at_work -= 1

    def do_GET(self) -> None:
        self.send(self.server_.listing, b'{"error": {"message": "no list"}}')

    def send(self, status: int, body: bytes, *headers: tuple[str, str], length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def answer(asked: dict[str, Any], **changes: Any) -> bytes:
    """A right answer: the prompt in capitals."""
    text = said(asked).upper()
    choice = {"index": 0, "finish_reason": "stop"}
    choice |= {"text": text} if "prompt" in asked else {"message": {"role": "assistant", "content": text}}
    body = {
        "id": "1",
        "object": "text_completion" if "prompt" in asked else "chat.completion",
        "created": 0,
        "model": asked["model"],
        "choices": [choice],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }
    return json.dumps(body | changes).encode()


def behaves(handler: Handler, asked: dict[str, Any], before: int) -> None:
    handler.send(200, answer(asked))


def at_first(fault: Behaviour, times: int = 1) -> Behaviour:
    """A fault at the first calls for each prompt, and then a right answer."""
    return lambda handler, asked, before: (fault if before < times else behaves)(handler, asked, before)


def refuses(status: int, *headers: tuple[str, str]) -> Behaviour:
    body = json.dumps({"error": {"message": f"status {status}"}}).encode()
    return lambda handler, asked, before: handler.send(status, body, *headers)


def cuts_the_connection(handler: Handler, asked: dict[str, Any], before: int) -> None:
    reset = struct.pack("ii", 1, 0)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
    handler.connection.close()


def cuts_the_answer(handler: Handler, asked: dict[str, Any], before: int) -> None:
    handler.send(200, answer(asked)[:40], length=len(answer(asked)))
    handler.close_connection = True


def sends_half_json(handler: Handler, asked: dict[str, Any], before: int) -> None:
    handler.send(200, answer(asked)[:40])


def says(body: bytes) -> Behaviour:
    """The same body, with status 200, whatever is asked."""
    return lambda handler, asked, before: handler.send(200, body)


def has_no_choice(handler: Handler, asked: dict[str, Any], before: int) -> None:
    handler.send(200, answer(asked, choices=[]))


def drips(handler: Handler, asked: dict[str, Any], before: int) -> None:
    """A byte at a time: never silent for long, never done."""
    body = answer(asked)
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    for place in range(len(body)):
        handler.wfile.write(body[place : place + 1])
        handler.wfile.flush()
        time.sleep(0.1)


def is_another_model(handler: Handler, asked: dict[str, Any], before: int) -> None:
    handler.send(200, answer(asked, model="gpt-2"))


@contextmanager
def serving(behave: Behaviour = behaves, port: int = 0) -> Iterator[Server]:
    made = Server(port, behave)
    handler = type("Bound", (Handler,), {"server_": made})
    ThreadingHTTPServer.allow_reuse_address = True
    with ThreadingHTTPServer(("127.0.0.1", port), handler) as http:
        http.daemon_threads = True
        made.port = http.server_port
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield made
        finally:
            http.shutdown()
