"""Time of a distillation step from a cache of another tokenizer's rows, beside one of the student's own.

    python benchmarks/aligned.py [--rounds 9] [--preset pocket-0.4m] [--rows 24]
    python benchmarks/aligned.py --teacher DIR --student DIR --preset gpt2-44m --rows 4

A step reads the batch's targets, runs the student's forward pass and the loss, and goes backward, in
float32, without an optimiser. Both variants train the same student on the same tokens: ``cached`` on random
distributions over its own tokens, ``aligned`` on random ones over the teacher's tokens of the same text.
Texts are the pocket world's training tasks with their references; the teacher's tokenizer is `pocket`, the
student's a BPE that is trained on them, unless directories of others are given.

Time is CPU seconds of the process on one thread, the variants in turn, after a round that is not counted. A
ratio is the median of the rounds' ratios, with the lowest and the highest; the aim is 1.05. The share of
reading the targets is printed, too.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from codestill.examples import references
from codestill.logits import CaptureSpec, LogitCache, LogitWriter, finish
from codestill.logits.select import select_for
from codestill.losses import Distillation
from codestill.losses.batch import LossOptions
from codestill.losses.linear import linear_loss
from codestill.models import Placement, StudentConfig
from codestill.models.codec import TextCodec
from codestill.models.fingerprints import tokenizer_fingerprint
from codestill.models.heads import hidden_states_alone, linear_head
from codestill.models.load import resolve
from codestill.models.tokenizers import load_tokenizer
from codestill.tasks import TasksConfig
from codestill.teachers.aligned import AlignedLogits, TokenizerPair
from codestill.teachers.cached import CachedLogits
from codestill.train.batches import Collator, TokenExample, tokenize

TEMPERATURE = 2.0
AIM = 1.05


def trained_on(texts: Sequence[str], vocabulary: int = 768) -> PreTrainedTokenizerFast:
    """A byte-level BPE with another rule for spaces and digits than the pocket teacher's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=["<end>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<end>")


def random_cache(directory: Path, rows: Sequence[TokenExample], codec: TextCodec) -> LogitCache:
    """Some ten likely tokens per position."""
    vocabulary = max(codec.tokenizer.get_vocab().values()) + 1
    spec = CaptureSpec(
        teacher="random",
        weights="random",
        tokenizer=tokenizer_fingerprint(codec.tokenizer),
        vocabulary=vocabulary,
        temperatures=(TEMPERATURE,),
    )
    with LogitWriter.open(directory, spec) as writer:
        for row in {row.digest: row for row in rows}.values():
            count = len(row.tokens) - row.first_scored
            logits_NV = torch.randn(count, vocabulary)
            logits_NV.scatter_add_(1, torch.randint(vocabulary, (count, 10)), 8 + 2 * torch.randn(count, 10))
            writer.add(row.tokens, row.first_scored, select_for(spec, logits_NV))
    finish(directory)
    return LogitCache.open(directory)


def compare(asked: argparse.Namespace, place: Path) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    tasks = TasksConfig.model_validate({"source": "pocket", "split": "train", "count": 400}).load()
    teacher = TextCodec(load_tokenizer(resolve(asked.teacher, weights=False)))
    examples = references(tasks, teacher)[-asked.rows :]
    if asked.student is None:
        tokenizer = place / "tokenizer"
        trained_on([task.prompt + task.reference for task in tasks]).save_pretrained(str(tokenizer))
    else:
        tokenizer = Path(asked.student)
    config = StudentConfig(preset=asked.preset, tokenizer=str(tokenizer))
    student = config.build(placement=Placement(device="cpu"))
    student.model.eval()  # without dropout
    pair = TokenizerPair(student.codec, teacher)
    ours, theirs = tokenize(examples, student.codec, None), tokenize(examples, pair.reader, None)
    own = CachedLogits(random_cache(place / "own", ours, student.codec), TEMPERATURE)
    other = random_cache(place / "other", theirs, pair.reader)
    aligned = AlignedLogits.over(other, TEMPERATURE, pair, zip(ours, theirs, strict=True))
    print(f"aligned: {aligned.agreement}")

    inputs = Collator(student.pad_id)(list(enumerate(ours)))
    tokens, mask, labels = (inputs[name] for name in ("input_ids", "attention_mask", "labels"))
    head = linear_head(student.model)
    assert head is not None
    options = LossOptions(vocabulary=own.shared_vocabulary(student.tokenizer, student.vocabulary_size))

    def step(logits: CachedLogits) -> tuple[float, float]:
        """CPU seconds of the targets and of all."""
        student.model.zero_grad(set_to_none=True)
        started = time.process_time()
        targets = logits.targets(tokens, mask, labels)
        read = time.process_time() - started
        run: Callable[..., object] = student.model
        found = run(
            input_ids=tokens, attention_mask=mask, use_cache=False, **hidden_states_alone(student.model)
        )
        hidden = found.hidden_states[-1]  # pyright: ignore[reportAttributeAccessIssue]
        objective = Distillation(temperature=TEMPERATURE)
        linear_loss(objective, hidden, head, labels, targets, options).total.backward()
        return read, time.process_time() - started

    variants = {"cached": own, "aligned": aligned}
    measured = [{name: step(logits) for name, logits in variants.items()} for _ in range(asked.rounds + 1)][
        1:
    ]
    for name in variants:
        read, whole = (statistics.median(found[name][n] for found in measured) for n in (0, 1))
        print(f"{name:8} {1000 * whole:8.1f} ms a step, of which {1000 * read:6.2f} ms read targets")
    ratios = sorted(found["aligned"][1] / found["cached"][1] for found in measured)
    print(
        f"aligned / cached {statistics.median(ratios):.3f} [{ratios[0]:.3f}, {ratios[-1]:.3f}], aim {AIM}"
        f"; {tokens.shape[0]} x {tokens.shape[1]} tokens, {asked.preset}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--preset", default="pocket-0.4m")
    parser.add_argument("--rows", type=int, default=24)
    parser.add_argument("--teacher", default="pocket")
    parser.add_argument("--student")
    with tempfile.TemporaryDirectory() as directory:
        compare(parser.parse_args(), Path(directory))


if __name__ == "__main__":
    main()
