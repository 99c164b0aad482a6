"""What docs/serve.md shows, literally, but for the port."""

import contextlib
import io
import json
import re
import subprocess
from pathlib import Path

from tests.docs.pages import ROOT, blocks
from tests.serve.conftest import Served

from codestill.serve.editors import configurations

PAGE = ROOT / "docs" / "serve.md"
SHOWN = "http://127.0.0.1:8012"


def test_its_requests_are_answered(served: Served) -> None:
    requests = [text for language, text in blocks(PAGE) if language == "sh" and "curl" in text]
    assert len(requests) == 2
    completion, gap = (
        json.loads(subprocess.check_output(["sh", "-c", text.replace(SHOWN, served.url)]))
        for text in requests
    )
    assert completion["choices"][0]["text"] and completion["usage"]["completion_tokens"] == 32
    assert gap["content"] and gap["tokens_predicted"] == 32


def test_its_program_runs(served: Served) -> None:
    (program,) = [text for language, text in blocks(PAGE) if language == "python"]
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(program.replace(SHOWN, served.url), {})
    assert said.getvalue().strip()


def test_its_configurations_are_those_that_are_printed() -> None:
    found = configurations("kd", SHOWN, infills=True, chats=False, key="")
    shown = [text.strip() for language, text in blocks(PAGE) if language in ("yaml", "vim", "json")]
    assert shown == list(found.values())


def test_its_metrics_and_limits_are_there(served: Served) -> None:
    limits = set(re.findall(r"`limits\.(\w+)`", PAGE.read_text(encoding="utf-8")))
    assert limits == set(type(served.service.config.limits).model_fields)
    assert Path(PAGE).read_text(encoding="utf-8").count("| `/") == 6
