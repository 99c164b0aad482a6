"""Real weights, greedy completions of HumanEval's prompts: the part of ``sampler.py`` with ``--model``.

Compared are tokens per second of CPU time and of wall time: a loop of ``generate`` (over the first of the
prompts in an even selection, for it is slow), ``generate`` on batches padded on the left, longest prompts
first, with the best of ``--batches`` counting, and ours. A completion ends with the model's end or after
``--new-tokens``, for every method; no stop rule looks at the text. Where ``CODESTILL_DATA`` is not set, the
prompts are heads of the standard library's functions.

With ``--server`` the same prompts go to a server of the same weights, ``--concurrency`` at a time. Its CPU
time is read from its process (``--server-pid``, on Linux); without that, wall times are compared: run both
with the same threads.
"""

import argparse
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from codestill.models import Decoding, Placement, SamplingConfig
from codestill.models.student import Student
from codestill.tasks import TasksConfig
from codestill.teachers import ApiTeacherConfig
from codestill.types import Request


@dataclass
class Timed:
    """What a method did."""

    name: str
    texts: dict[int, str] = field(default_factory=dict)
    """Completion of each prompt, by the prompt's number."""
    tokens: int = 0
    cpu: float = 0.0
    wall: float = 0.0

    def measure(
        self, produce: Iterator[tuple[int, str, int]], clock: Callable[[], float] = time.process_time
    ) -> "Timed":
        """Run it: (number of the prompt, text, tokens with the end). ``clock``: CPU seconds so far."""
        cpu, wall = clock(), time.perf_counter()
        for number, text, tokens in produce:
            self.texts[number] = text
            self.tokens += tokens
        self.cpu, self.wall = clock() - cpu, time.perf_counter() - wall
        return self

    @property
    def per_cpu_second(self) -> float:
        return self.tokens / self.cpu

    @property
    def per_second(self) -> float:
        return self.tokens / self.wall


def compare_real(arguments: argparse.Namespace, spare: list[str]) -> None:
    """Measure each method and print their ratios; ``spare``: prompts to use without HumanEval."""
    prompts = spare
    if os.environ.get("CODESTILL_DATA"):
        prompts = [task.prompt for task in TasksConfig.model_validate("humaneval").load().tasks]
    student = Student.load(arguments.model, dtype=arguments.dtype)
    new = arguments.new_tokens
    lengths = [len(ids) for ids in student.tokenizer(prompts)["input_ids"]]  # pyright: ignore
    print(
        f"{student.name} in {arguments.dtype}, {len(prompts)} prompts of {sum(lengths):,} tokens (longest "
        f"{max(lengths)}), at most {new} new ones each, {torch.get_num_threads()} thread(s), "
        f"{student.model.device.type}, torch {torch.__version__}"
    )
    head = ("method", "prompts", "CPU s", "wall s", "tokens", "per CPU s", "per s")
    print(f"{head[0]:<34}" + "".join(f"{name:>10}" for name in head[1:]))
    list(generated(student, prompts[:1], [0], 1, 2))  # warm-up
    spread = list(range(0, len(prompts), max(1, len(prompts) // arguments.loop)))[: arguments.loop]

    loop = _show(Timed("generate, one prompt per call").measure(generated(student, prompts, spread, 1, new)))
    by_length = sorted(range(len(prompts)), key=lambda number: -lengths[number])
    batched = [
        _show(
            Timed(f"generate, batches of {size}").measure(generated(student, prompts, by_length, size, new))
        )
        for size in arguments.batches
    ]
    own = _show(Timed("codestill").measure(ours(student, prompts, new)))

    print(f"codestill / loop of generate, per CPU second: {own.per_cpu_second / loop.per_cpu_second:.1f}")
    if batched:
        best = max(batched, key=lambda one: one.per_cpu_second)
        ratio = own.per_cpu_second / best.per_cpu_second
        print(f"codestill / {best.name}, per CPU second: {ratio:.2f}")
    for other in (loop, *batched):
        print(_agreement(own, other))
    if arguments.server:
        served = Timed(f"server, {arguments.concurrency} at a time")
        produce = answered(arguments.server, arguments.concurrency, student, prompts, new)
        if pid := arguments.server_pid:
            _show(served.measure(produce, lambda: cpu_seconds(pid)))
            print(f"codestill / server, per CPU second: {own.per_cpu_second / served.per_cpu_second:.2f}")
        else:
            _show(served.measure(produce))
            print(f"codestill / server, per second: {own.per_second / served.per_second:.2f}")
        print(_agreement(own, served))


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, all threads together; of Linux."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _show(timed: Timed) -> Timed:
    print(
        f"{timed.name:<34}{len(timed.texts):>10}{timed.cpu:>10.1f}{timed.wall:>10.1f}{timed.tokens:>10}"
        f"{timed.per_cpu_second:>10.1f}{timed.per_second:>10.1f}",
        flush=True,
    )
    return timed


def _agreement(own: Timed, other: Timed) -> str:
    same = sum(own.texts[number] == text for number, text in other.texts.items())
    # Of texts that differ, how far they agree.
    pairs = [(own.texts[number], text) for number, text in other.texts.items()]
    shared = sum(_alike(*pair) for pair in pairs) / max(1, sum(len(theirs) for _, theirs in pairs))
    return f"texts equal to those of {other.name}: {same} of {len(other.texts)}, {shared:.1%} of characters"


def _alike(a: str, b: str) -> int:
    """Characters before the first that differs."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def generated(
    student: Student, prompts: list[str], order: list[int], size: int, new: int
) -> Iterator[tuple[int, str, int]]:
    """``generate`` on ``size`` prompts at a time, in this order, padded on the left."""
    tokenizer, ends = student.tokenizer, student.stop_ids
    tokenizer.padding_side = "left"
    greedy: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    greedy |= {"repetition_penalty": 1.0, "max_new_tokens": new, "pad_token_id": student.pad_id}
    for start in range(0, len(order), size):
        numbers = order[start : start + size]
        batch = tokenizer([prompts[number] for number in numbers], return_tensors="pt", padding=True)
        batch = batch.to(student.model.device)
        with torch.inference_mode():
            answers = student.model.generate(**batch, **greedy, eos_token_id=sorted(ends))  # pyright: ignore
        for number, answer in zip(numbers, answers[:, batch["input_ids"].shape[1] :].tolist(), strict=True):
            length = next((i + 1 for i, token in enumerate(answer) if token in ends), len(answer))
            kept = answer[: length - (answer[length - 1] in ends)]
            yield number, str(tokenizer.decode(kept)), length


def _requests(prompts: list[str]) -> list[Request]:
    return [Request(task_id=str(number), prompt=text, sample=0) for number, text in enumerate(prompts)]


def ours(student: Student, prompts: list[str], new: int) -> Iterator[tuple[int, str, int]]:
    """Ours, with the settings that a run has by default."""
    student.placement = Placement()
    decoding = Decoding(SamplingConfig(max_new_tokens=new))
    for done in student.complete(_requests(prompts), decoding):
        yield int(done.task_id), done.text, done.tokens


def answered(
    url: str, concurrency: int, student: Student, prompts: list[str], new: int
) -> Iterator[tuple[int, str, int]]:
    """A server's answers; tokens as this tokenizer counts them, with the end."""
    config = ApiTeacherConfig(
        model=student.name,
        base_url=url,
        endpoint="completions",
        concurrency=concurrency,
        timeout_seconds=3600,
    )
    count: Callable[[str], int] = lambda text: len(student.tokenizer(text)["input_ids"])  # noqa: E731  # pyright: ignore
    decoding = Decoding(SamplingConfig(max_new_tokens=new))
    for done in config.build().complete(_requests(prompts), decoding):
        yield int(done.task_id), done.text, done.tokens or count(done.text) + (done.finish == "stop")
