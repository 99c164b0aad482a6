"""From settings to a server that listens."""

import asyncio
import importlib.util
import logging
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

from codestill.browse import is_run
from codestill.errors import ConfigError
from codestill.export.exporter import student_of
from codestill.models import StudentConfig
from codestill.serve.config import ServeConfig
from codestill.serve.editors import configurations
from codestill.serve.llama import become, llama_server

_log = logging.getLogger(__name__)
Say = Callable[[str], None]


def serve(config: ServeConfig, say: Say) -> None:
    """Serve a student until a signal ends it; ``say`` is told what to know, a text at a time.

    Everything that can be refused is, before the model is loaded. Raises ConfigError for an address that
    needs a key and has none or cannot be listened at, and where packages are missing; RunError for a run
    without a student; ModelError for a student that cannot be loaded.
    """
    key, source = config.key, student_of(config.model)
    name = config.name or _name_of(config.model)
    if program := llama_server(config, source):
        say(f"{source} is a GGUF file, and {program} is installed: it serves. --engine codestill would not.")
        with _listening(config) as free:  # so that a port that is taken is told here
            port = free.getsockname()[1]
        config = config.model_copy(update={"port": port})
        _say_how(say, config, name, _address(config.host, port), infills=True, chats=True, keyed=bool(key))
        become(program, config, source, name, key)
    _require_packages()
    with _listening(config) as sock:
        _serve_here(config, source, name, key, sock, say)


def _serve_here(
    config: ServeConfig, source: str, name: str, key: str | None, sock: socket.socket, say: Say
) -> None:
    import uvicorn

    from codestill.serve.app import application
    from codestill.serve.service import Service

    settings = StudentConfig.shared_with(config, model=source)
    student = settings.build(placement=config.execution)
    service = Service(student, config, name)
    no_infill = service.no_infill
    say(
        f"{name}: {student.model.num_parameters() / 1e6:,.1f}M parameters, "
        + (f"{student.positions:,} positions, " if student.positions else "")
        + f"{student.dtype} on {student.model.device.type}, "
        + f"{config.execution.decode_batch} answers at a time."
    )
    if no_infill:
        say(f"Not for editors' completions (/infill, suffix): {no_infill}.")
    if service.chat is None:
        say("No /v1/chat/completions: the student continues text (--chat true where it was trained to chat).")
    address = _address(config.host, sock.getsockname()[1])
    _say_how(
        say, config, name, address, infills=not no_infill, chats=service.chat is not None, keyed=bool(key)
    )
    server = uvicorn.Server(
        uvicorn.Config(
            application(service, key),
            log_level="warning",
            access_log=False,
            lifespan="on",
            timeout_graceful_shutdown=max(1, round(config.limits.grace_seconds)),
        )
    )
    # uvicorn raises the signals that ended it once more when it has ended: by then all is done.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    asyncio.run(server.serve(sockets=[sock]))
    say("Stopped.")


def _require_packages() -> None:
    missing = [
        name for name in ("fastapi", "uvicorn", "prometheus_client") if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise ConfigError(
            f"a server needs packages that are not installed: {', '.join(missing)}.",
            next_step="pip install 'codestill[serve]'",
        )


def _name_of(model: str) -> str:
    """As the run, directory or file is called; a hub id stays one."""
    path = Path(model)
    return path.resolve().name if is_run(path) or path.exists() else model


def _listening(config: ServeConfig) -> socket.socket:
    """The socket, bound before anything is loaded. Raises ConfigError where it cannot be."""
    host = config.host.strip("[]")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
        if os.name == "posix":  # a server that has just ended does not keep the next from its port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except OSError as error:
        raise ConfigError(
            f"cannot listen at {host}, port {config.port}: {error.strerror or error}.",
            next_step="Give another --port (0 takes a free one), or end the program that listens there.",
        ) from error
    return sock


def _address(host: str, port: int) -> str:
    """The base URL, by a name that clients on this machine can use."""
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)
    return f"http://[{name}]:{port}" if ":" in name and "[" not in name else f"http://{name}:{port}"


def _say_how(
    say: Say, config: ServeConfig, name: str, address: str, *, infills: bool, chats: bool, keyed: bool
) -> None:
    """The address, and what to put into editors. The key itself is shown nowhere."""
    key = f"<what {config.key_variable} holds>" if keyed else ""
    for place, text in configurations(name, address, infills=infills, chats=chats, key=key).items():
        say(f"\n{place}:\n\n{text}")
    say(f"\nServing {name} at {address}/v1" + (f", with the key in {config.key_variable}." if keyed else "."))
