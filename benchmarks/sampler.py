"""codestill's sampler against Hugging Face ``generate``: same model, prompts and sampling, in one run.

    OMP_NUM_THREADS=1 python benchmarks/sampler.py --model DIR [--dtype bfloat16] [--server URL]
    OMP_NUM_THREADS=1 python benchmarks/sampler.py [--preset pocket-0.9m] [--prompts 128] [--samples 10]

With ``--model``, real weights complete HumanEval's prompts greedily (see ``sampler_real.py``). Without it,
the model has random weights and a tokenizer trained on the standard library, so nothing is fetched. One id in
64 counts as an end, for every method, so completions have lively lengths (about 50 tokens, 128 at most).
Compared are completions per second of CPU time: a loop of ``generate`` with one completion per call,
``generate`` with ``num_return_sequences`` per prompt, and ours.
"""

import argparse
import os
import sysconfig
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, get_args

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from codestill.models import PRESETS, Decoding, SamplingConfig, StudentConfig
from codestill.models.presets import PresetName
from codestill.models.sample import complete
from codestill.models.student import Student
from codestill.types import Request
from sampler_real import compare_real

NEW_TOKENS = 128
ENDS = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", help="a directory with real weights")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--new-tokens", type=int, default=NEW_TOKENS)
    parser.add_argument("--loop", type=int, default=12, help="prompts of the loop of generate")
    parser.add_argument("--batches", type=int, nargs="*", default=[16, 64])
    parser.add_argument(
        "--server", help="an OpenAI-compatible server of the same weights, as http://host:8080/v1"
    )
    parser.add_argument("--server-pid", type=int, help="its process, whose CPU time is read")
    parser.add_argument("--concurrency", type=int, default=8, help="calls to the server at a time")
    parser.add_argument("--preset", choices=get_args(PresetName), default="pocket-0.9m")
    parser.add_argument("--prompts", type=int, default=128)
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--top-p", type=float, default=1.0)
    arguments = parser.parse_args()
    if arguments.model:
        return compare_real(arguments, list(islice(function_heads(), arguments.prompts)))

    vocabulary = PRESETS[arguments.preset].vocabulary
    tokenizer = train_tokenizer(vocabulary)
    student = StudentConfig(preset=arguments.preset).build(tokenizer)
    ends = list(range(0, vocabulary, ENDS))
    texts = list(islice(function_heads(), arguments.prompts))
    shared: dict[str, Any] = {
        "do_sample": True,
        "temperature": 1.0,
        "top_p": arguments.top_p,
        "top_k": 0,
        "max_new_tokens": NEW_TOKENS,
        "eos_token_id": ends,
        "pad_token_id": student.codec.end,
    }

    def generate(text: str, samples: int) -> list[int]:
        prompt = tokenizer(text, return_tensors="pt").to(student.model.device)
        with torch.inference_mode():
            answers = student.model.generate(**prompt, **shared, num_return_sequences=samples)  # pyright: ignore
        return [length(answer[prompt["input_ids"].shape[1] :].tolist(), ends) for answer in answers]

    def looped() -> list[int]:
        return [n for text in texts for _ in range(arguments.samples) for n in generate(text, 1)]

    def per_prompt() -> list[int]:
        return [n for text in texts for n in generate(text, arguments.samples)]

    def ours() -> list[int]:
        return [done.tokens for done in draw(student, texts, arguments.samples, arguments.top_p, ends)]

    print(
        f"{arguments.preset}, {arguments.prompts} prompts x {arguments.samples} samples, "
        f"{torch.get_num_threads()} thread(s), {student.model.device.type}, torch {torch.__version__}"
    )
    print(f"{'method':<42}{'CPU s':>8}{'wall s':>8}{'tokens':>8}{'tokens/CPU s':>14}{'ratio':>8}")
    methods: dict[str, Callable[[], list[int]]] = {
        "generate, one completion per call": looped,
        "generate(num_return_sequences), per prompt": per_prompt,
        "codestill": ours,
    }
    generate(texts[0], 1)  # warm-up
    for _ in range(arguments.repeats):
        base = 0.0
        for name, method in methods.items():
            cpu, wall = time.process_time(), time.perf_counter()
            tokens = sum(method())
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            base = base or tokens / cpu
            print(
                f"{name:<42}{cpu:8.2f}{wall:8.2f}{tokens:8d}{tokens / cpu:14.0f}{tokens / cpu / base:8.1f}",
                flush=True,
            )
    return None


def draw(student: Student, texts: list[str], samples: int, top_p: float, ends: list[int]) -> Iterator[Any]:
    requests = [
        Request(task_id=str(i), prompt=text, sample=sample)
        for i, text in enumerate(texts)
        for sample in range(samples)
    ]
    sampling = SamplingConfig(temperature=1.0, top_p=top_p, max_new_tokens=NEW_TOKENS)
    return complete(student.model, student.tokenizer, requests, Decoding(sampling), stop_ids=ends)


def length(ids: list[int], ends: list[int]) -> int:
    """Tokens up to the first end, that one included; what follows is padding."""
    return next((i + 1 for i, token in enumerate(ids) if token in ends), len(ids))


def sources() -> Iterator[str]:
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        yield path.read_text(encoding="utf-8")


def function_heads() -> Iterator[str]:
    """Heads of functions, with the first 80 to 400 characters of their text."""
    for number, text in enumerate(sources()):
        start = text.find("\ndef ")
        if start >= 0:
            yield text[start + 1 : start + 81 + 80 * (number % 5)]


def train_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sources(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|endoftext|>", pad_token="<|endoftext|>"
    )


if __name__ == "__main__":
    main()
