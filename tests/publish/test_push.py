"""Uploading to a hub, by its real client, against a stand-in that speaks its protocol."""

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from codestill.publish import push


class Hub(ThreadingHTTPServer):
    """Takes files as the hub does, all of them in the commit."""

    def __init__(self, status: int = 200) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.status = status
        self.files: dict[str, bytes] = {}
        self.created: list[dict[str, Any]] = []
        self.tokens: set[str | None] = set()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None: ...

    def do_GET(self) -> None:
        self._reply({"id": "me/x", "sha": "0" * 40, "siblings": []})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        hub: Any = self.server
        hub.tokens.add(self.headers.get("Authorization"))
        if hub.status != 200:
            self._reply({"error": "you may not write here"}, hub.status)
        elif self.path == "/api/repos/create":
            hub.created.append(json.loads(body))
            self._reply({"url": f"{hub.address}/me/x", "name": "me/x"})
        elif "/preupload/" in self.path:
            files = [{"path": file["path"], "uploadMode": "regular"} for file in json.loads(body)["files"]]
            self._reply({"files": [file | {"shouldIgnore": False, "oid": None} for file in files]})
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    hub.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self._reply({"success": True, "commitOid": "0" * 40, "commitUrl": f"{hub.address}/me/x/commit/0"})
        else:
            self._reply({"errors": [], "warnings": []})

    def _reply(self, value: Any, status: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def standing_in(status: int = 200) -> Iterator[Hub]:
    hub = Hub(status)
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()


def command(*words: str, endpoint: str, **environment: str) -> tuple[int, str, str]:
    """``codestill push`` in a process of its own: the client reads its settings when it is imported."""
    known = {"HF_ENDPOINT": endpoint, "HF_TOKEN": "hf_secret", "HF_HUB_OFFLINE": "0"} | environment
    script = "import sys; from codestill.cli import main; main(sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", script, "push", *words],
        env=os.environ | known,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_student_its_card_and_artefacts_arrive(trained: Path, tmp_path: Path) -> None:
    artefacts = tmp_path / "export/artefacts"
    (artefacts / "refused").mkdir(parents=True)
    (artefacts / "s.gguf").write_bytes(b"weights")
    (artefacts / "refused/s-q4.gguf").write_bytes(b"lost")
    options = ("--licence", "mit", "--private", "--artefacts", str(artefacts.parent))
    with standing_in() as hub:
        code, out, error = command(str(trained), "me/x", *options, endpoint=hub.address)
        assert code == 0, error
        assert f"{hub.address}/me/x" in out
    student = {path.name: path.read_bytes() for path in (trained / "student").iterdir()}
    assert hub.files == student | {"s.gguf": b"weights"}
    assert b"license: mit" in hub.files["README.md"] and b"name: x" in hub.files["README.md"]
    assert hub.created[0]["visibility"] == "private" and hub.tokens == {"Bearer hf_secret"}
    assert "hf_secret" not in out + error
    assert not any(b"hf_secret" in file.read_bytes() for file in trained.rglob("*") if file.is_file())


@pytest.mark.parametrize(
    ("status", "repo", "environment", "said"),
    [
        (403, "me/x", {}, "the hub refuses me/x"),
        (200, "not a name", {}, "is no name on the hub"),
        (200, "me/x", {"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set"),
        (200, "me/x", {"HF_ENDPOINT": "http://127.0.0.1:9"}, "the hub does not answer"),
    ],
)
def test_a_hub_that_refuses_is_told_plainly(
    status: int, repo: str, environment: dict[str, str], said: str, trained: Path
) -> None:
    with standing_in(status) as hub:
        endpoint = environment.pop("HF_ENDPOINT", hub.address)
        code, _, error = command(str(trained), repo, endpoint=endpoint, **environment)
    assert code == 1 and said in error and "Traceback" not in error
    assert not hub.files


def test_an_export_without_artefacts_is_told_before_anything_is_sent(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="has no artefacts"):
        push(trained, "me/x", artefacts=tmp_path)
