"""A served student teaches another machine: its logits over HTTP are those it has here."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.serve.conftest import Served, serving
from tests.support.tiny import CPU

from codestill.capture import CaptureRun, capture, capture_run
from codestill.errors import TeacherError
from codestill.examples import training_examples
from codestill.logits import LogitCache
from codestill.models import Decoding, SamplingConfig
from codestill.models.student import Student
from codestill.run import Run
from codestill.sandbox import Sandbox, SandboxConfig
from codestill.teachers import ApiTeacherConfig, LocalTeacherConfig
from codestill.teachers.listing import Listing
from codestill.types import Request


@pytest.fixture(scope="module")
def pocket() -> Iterator[Served]:
    with serving(Student.load("pocket", device="cpu"), name="pocket") as served:
        yield served


def test_captured_over_http_its_logits_are_those_captured_here(pocket: Served, tmp_path: Path) -> None:
    server = {"base_url": f"{pocket.url}/v1", "model": "tiny", "tokenizer": "pocket", "top": 8}
    tasks = {"source": "pocket", "split": "train", "count": 4, "depths": [2]}
    examples = {"tasks": tasks, "validation": None}
    config = CaptureRun.model_validate({"server": server, "examples": examples, "temperatures": [1.0]})
    with Run.open(tmp_path / "served", config) as run:
        capture_run(config, run)
    served = LogitCache.open(tmp_path / "served" / "logits")
    teacher = LocalTeacherConfig(model="pocket", dtype="float32").build(CPU)
    with Run.open(tmp_path / "local", config) as run, Sandbox(SandboxConfig()) as sandbox:
        rows = training_examples(config.examples, teacher, None, sandbox, run)
        local = capture(rows, teacher, [1.0], config.capture, tmp_path / "local" / "logits", run)
    assert set(served) == set(local) and len(served) == 4
    for name in served:
        ours, theirs = (cache.targets([name], 1.0) for cache in (served, local))
        assert len(ours) == len(theirs)
        for row in range(len(ours)):
            there, here = (
                dict(zip(one.ids_NK[row].tolist(), one.log_probabilities_NK[row].tolist(), strict=True))
                for one in (ours, theirs)
            )
            likely = sorted(here, key=here.__getitem__, reverse=True)[:5]
            sure = [id for id in likely if here[id] > -6]
            assert set(sure) <= there.keys()
            assert [there[id] for id in sure] == pytest.approx([here[id] for id in sure], abs=0.02)


def test_log_probabilities_come_with_its_answers(pocket: Served) -> None:
    """By ids, so that nothing has to be guessed from texts."""
    settings = {"base_url": f"{pocket.url}/v1", "model": "tiny", "endpoint": "completions", "logprobs": 5}
    settings |= {"extra_body": {"return_tokens_as_token_ids": True}}
    prompt = 'def total(values: list[int]) -> int:\n    """Return the sum of values.\n    """\n'
    asked = [Request(task_id="t", prompt=prompt)]
    decoding = Decoding(SamplingConfig(max_new_tokens=24))
    (there,) = ApiTeacherConfig.model_validate(settings).build().complete(asked, decoding)
    student = pocket.service.student
    (here,) = student.complete(asked, decoding)
    assert there.text == here.text and there.finish == here.finish == "stop" and there.listed
    listing = Listing.unpack(there.listed)
    assert listing.has_ids and len(listing) == here.tokens
    *ids, end = listing.generated
    assert end == student.codec.end
    assert student.codec.decode(student.codec.prompt(prompt), [int(id) for id in ids]) == here.text


def test_gaps_are_filled_over_http_as_here(served: Served) -> None:
    settings = {"base_url": f"{served.url}/v1", "model": "tiny", "endpoint": "completions"}
    asked = [
        Request(task_id="t", prompt="def add(a, b):\n", suffix=suffix) for suffix in ("    return c\n", "")
    ]
    decoding = Decoding(SamplingConfig(max_new_tokens=12))
    for one in asked:
        (there,) = ApiTeacherConfig.model_validate(settings).build().complete([one], decoding)
        (here,) = served.service.student.complete([one], decoding)
        assert there.text == here.text != ""
    chat = ApiTeacherConfig.model_validate(settings | {"endpoint": "chat"}).build()
    with pytest.raises(TeacherError, match="chat endpoints are not told of") as raised:
        list(chat.complete(asked[:1], decoding))
    assert "completions" in raised.value.next_step
