"""Real GGUF files, ``gguf/<name>.gguf`` where CODESTILL_MODELS points."""

import os
import shutil
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import pytest
import regex
from tests.support.tiny import CPU

from codestill.config import RunConfig
from codestill.evaluation import EvaluateConfig, EvaluateModel, evaluate_model
from codestill.models.gguf.header import Header
from codestill.models.gguf.store import folder_of
from codestill.models.student import Student
from codestill.models.tokenizers import load_tokenizer
from codestill.run import Run
from codestill.tasks import TasksConfig

PLACE = Path(os.environ.get("CODESTILL_MODELS", "nowhere"), "gguf")
# What the publishers give in tokenizer.json; SmolLM2 splits digits first.
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
MODELS = {
    "smollm2-135m-instruct": ((r"\p{N}", GPT2), "Q4_1", "<|im_start|>", 2),
    "qwen2.5-coder-0.5b-instruct": ((QWEN2,), "Q4_K_M", "<|endoftext|>", 151645),
    "qwen2.5-coder-1.5b-instruct": ((QWEN2,), "Q4_K_M", "<|endoftext|>", 151645),
}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not PLACE.is_dir(), reason="CODESTILL_MODELS names no directory"),
    pytest.mark.skipif("CODESTILL_DATA" not in os.environ, reason="CODESTILL_DATA is not set"),
]


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache directory for this module, removed behind it: the folders take 6 GB."""
    place = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(place))
        yield
    shutil.rmtree(place)


@pytest.fixture(params=MODELS, scope="module")
def name(request: pytest.FixtureRequest) -> str:
    if not (PLACE / f"{request.param}.gguf").exists():
        pytest.skip(f"{request.param} is not there")
    return str(request.param)


def _encoder(header: Header, patterns: tuple[str, ...]) -> Callable[[str], list[int]]:
    """Byte-level BPE written out: split, spell bytes as characters, merge the pair of the lowest rank."""
    ids = {token: id for id, token in enumerate(header.get("tokenizer.ggml.tokens"))}
    ranks = {tuple(merge.split(" ")): rank for rank, merge in enumerate(header.get("tokenizer.ggml.merges"))}
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    letters = {byte: chr(byte) for byte in shown} | {byte: chr(256 + n) for n, byte in enumerate(hidden)}

    @lru_cache(None)
    def merged(piece: str) -> list[int]:
        parts = [letters[byte] for byte in piece.encode()]
        while len(parts) > 1:
            pairs = list(pairwise(parts))
            best = min(pairs, key=lambda pair: ranks.get(pair, len(ranks)))
            if best not in ranks:
                break
            at = pairs.index(best)
            parts[at : at + 2] = ["".join(best)]
        return [ids[part] for part in parts]

    def encode(text: str) -> list[int]:
        pieces = [text]
        for pattern in patterns:
            split = regex.compile(f"({pattern})")
            pieces = [part for piece in pieces for part in split.split(piece) if part]
        return [id for piece in pieces for id in merged(piece)]

    return encode


def test_token_ids_are_those_of_the_original(name: str) -> None:
    patterns, _, bos, eos = MODELS[name]
    file = PLACE / f"{name}.gguf"
    tokenizer = load_tokenizer(str(folder_of(file)))
    encode = _encoder(Header.read(file), patterns)
    tasks = TasksConfig.model_validate("humaneval").load().tasks
    assert len(tasks) == 164
    for task in tasks:
        text = task.prompt + task.reference
        assert tokenizer(text).input_ids == encode(text), task.task_id
        assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert (tokenizer.bos_token, tokenizer.eos_token_id) == (bos, eos)
    assert "<|im_start|>" in str(tokenizer.chat_template)
    assert not [token for token in tokenizer.get_vocab() if token.startswith("[PAD")]


def test_two_tasks(name: str, tmp_path: Path) -> None:
    config = EvaluateModel(
        model=str(PLACE / f"{name}.gguf"),
        evaluate=EvaluateConfig(
            tasks=TasksConfig(source="humaneval", limit=2),
            samples_per_task=1,
            max_new_tokens=48,
            profile=False,
        ),
        execution=RunConfig.model_fields["execution"]
        .get_default(call_default_factory=True)
        .model_copy(update={"device": CPU.device}),
    )
    with Run.open(tmp_path / "run", config) as run:
        result = evaluate_model(config, run)
    assert (result.model, result.quantization) == (f"{name}.gguf", MODELS[name][1])
    assert result.task_count == 2
    student = Student.load(PLACE / f"{name}.gguf", device="cpu", dtype="bfloat16")
    assert MODELS[name][3] in student.stop_ids
