"""The sampler's benchmark of real weights: every method completes the same prompts, and is compared."""

import argparse
import re
from pathlib import Path
from typing import Any

import pytest
from benchmarks.sampler_real import compare_real, ours
from tests.support.tiny import tiny_model
from tests.teachers import endpoint

from codestill.models.student import Student

PROMPTS = ["def add(first, second):\n", "class Stack:\n", "counts = {}\nfor word in", "return"]


def test_every_method_has_the_same_completions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CODESTILL_DATA", raising=False)
    place = tiny_model(tmp_path / "model", "llama")
    texts = {PROMPTS[n]: (text, tokens) for n, text, tokens in ours(Student.load(place), PROMPTS, 12)}

    def behave(handler: endpoint.Handler, asked: dict[str, Any], before: int) -> None:
        assert asked["max_tokens"] == 12 and asked["temperature"] == 0
        text, tokens = texts[asked["prompt"]]
        choice = {"index": 0, "finish_reason": "stop", "text": text if asked["prompt"] != "return" else "no"}
        usage = {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": tokens + 1}
        handler.send(200, endpoint.answer(asked, choices=[choice], usage=usage))

    with endpoint.serving(behave) as server:
        asked = argparse.Namespace(
            model=str(place),
            dtype="float32",
            new_tokens=12,
            loop=2,
            batches=[2],
            server=server.url,
            server_pid=None,
            concurrency=2,
        )
        compare_real(asked, PROMPTS)
    out = capsys.readouterr().out
    tokens = sum(count for _, count in texts.values())
    for method in ("generate, batches of 2", "codestill", "server, 2 at a time"):
        assert re.search(rf"^{method} +4 .* {tokens} ", out, re.MULTILINE), out
    assert "equal to those of generate, one prompt per call: 2 of 2, 100.0%" in out
    assert "equal to those of generate, batches of 2: 4 of 4, 100.0%" in out
    assert "equal to those of server, 2 at a time: 3 of 4" in out
    assert out.count("codestill / ") == 3
