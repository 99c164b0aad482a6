"""A program that gives logits, one text at a time, answers as the batched sampler does."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from tests.models.test_sample import LINES, requests
from transformers import DynamicCache

from codestill.models import Decoding, SamplingConfig
from codestill.models.alone import complete_alone
from codestill.models.student import Student
from codestill.models.tokenizers import id_count
from codestill.types import Completion, Request


class OwnReader:
    """The student itself, with a cache of its own."""

    def __init__(self, student: Student) -> None:
        self.student, self.model = student, student.model.eval()
        self.begun = 0
        self.begin()

    def begin(self) -> None:
        self.cache: Any = DynamicCache(config=self.model.config)
        self.begun += 1

    def read(self, ids: Sequence[int], keep: int = 1) -> Any:
        with torch.inference_mode():
            found = self.model(input_ids=torch.tensor([list(ids)]), past_key_values=self.cache)
        return found.logits[0, -keep:].numpy()


def alone(
    reader: OwnReader, wanted: Sequence[Request], how: Decoding, **changes: Any
) -> dict[str, Completion]:
    student = reader.student
    usual = {"ids": id_count(student.tokenizer), "stop_ids": student.stop_ids, "limit": student.positions}
    found = complete_alone(reader, student.codec, wanted, how, **(usual | changes))
    return {one.key: one for one in found}


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_same_tokens_as_in_a_batch(llama: Student, temperature: float) -> None:
    sampling = SamplingConfig(temperature=temperature, top_p=0.9, max_new_tokens=24)
    how = Decoding(sampling, stopped=lambda text: len(text) > 30, seed=3)
    reader, wanted = OwnReader(llama), requests(samples=2)
    together = {one.key: one for one in llama.complete(wanted, how)}
    assert alone(reader, wanted, how) == together
    assert reader.begun == 1 + len(wanted)
    assert {one.finish for one in together.values()} == {"stop", "length"} or temperature == 0


def test_a_prompt_without_room_is_not_cut(llama: Student) -> None:
    how = Decoding(SamplingConfig(max_new_tokens=5))
    wanted = [Request(task_id="long", prompt=LINES[0] * 3), Request(task_id="short", prompt="a")]
    limit = len(llama.codec.prompt("a")) + 3
    found = alone(OwnReader(llama), wanted, how, stop_ids=(), limit=limit)
    assert found[wanted[0].key].finish == "prompt_too_long" and not found[wanted[0].key].text
    assert (found[wanted[1].key].finish, found[wanted[1].key].tokens) == ("length", 3)


class Heard:
    """Who is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def message(self, text: str, /) -> None: ...
    def read(self, prompts: int, total: int) -> None: ...
    def decoded(self, tokens: int, limit: int, rows: int) -> None:
        self.told.append((tokens, limit, rows))

    def ended(self) -> None:
        self.told.append("ended")


def test_progress_is_told(llama: Student) -> None:
    heard = Heard()
    how = Decoding(SamplingConfig(max_new_tokens=2), watcher=heard)
    wanted = [Request(task_id=name, prompt=name) for name in ("a", "b")]
    alone(OwnReader(llama), wanted, how, stop_ids=())
    assert heard.told == [(1, 4, 2), (2, 4, 2), (3, 4, 1), (4, 4, 1), "ended"]
