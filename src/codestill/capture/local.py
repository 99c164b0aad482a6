"""Rows of a cache from a teacher whose weights are on this machine."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from codestill.capture.error import UNIGRAM, measure_error, unigram_logits
from codestill.files.serialize import seed_for
from codestill.logits import CapturedRows, CaptureSpec, MeasuredError
from codestill.logits.rows import join
from codestill.logits.select import select_for
from codestill.losses.batch import Positions, teacher_slices
from codestill.losses.chunks import rows_at_once
from codestill.models.fingerprints import tokenizer_fingerprint, weights_fingerprint
from codestill.teachers.frozen import LocalTeacher
from codestill.train.batches import Collator, TokenExample

MEASURED_ELEMENTS = 2**22
"""Logits of the sample on which a cache's error is measured."""


@dataclass(frozen=True)
class LocalSource:
    """The whole softmax, a chunk of positions at a time."""

    teacher: LocalTeacher

    @property
    def identity(self) -> dict[str, object]:
        """The teacher's fields of a cache's spec."""
        return {
            "teacher": self.teacher.name,
            "revision": self.teacher.revision,
            "weights": weights_fingerprint(self.teacher.model),
            "tokenizer": tokenizer_fingerprint(self.teacher.tokenizer),
            "vocabulary": max(self.teacher.tokenizer.get_vocab().values()) + 1,
            "dtype": self.teacher.dtype,
        }

    @property
    def batch_tokens(self) -> int:
        """Padded tokens per batch, as the teacher's placement says."""
        return self.teacher.placement.capture_batch_tokens

    @property
    def positions(self) -> int | None:
        """The model's."""
        return self.teacher.positions

    @property
    def metered(self) -> bool:
        """No: computing costs nothing but time."""
        return False

    def rows(self, batch: Sequence[TokenExample], spec: CaptureSpec) -> Iterator[tuple[str, CapturedRows]]:
        """The digest of each sequence, and what is kept of its scored positions."""
        names = [sequence.digest for sequence in batch]
        generator = None
        if spec.tail_samples:
            seed = seed_for(spec.seed, "/".join(names))
            generator = torch.Generator(self.teacher.model.device).manual_seed(seed)
        whole = join([select_for(spec, logits_NV, generator) for logits_NV in self._logits(batch)])
        lengths = [len(sequence.tokens) - sequence.first_scored for sequence in batch]
        yield from zip(names, whole.split(lengths), strict=True)

    def error(self, sequences: Sequence[TokenExample], spec: CaptureSpec) -> tuple[MeasuredError, ...]:
        """Against the whole vocabulary, on evenly spaced sequences, for a student that predicts the tokens'
        frequencies."""
        wanted = max(32, MEASURED_ELEMENTS // spec.vocabulary)
        scored = [sequence.tokens[sequence.first_scored :] for sequence in sequences]
        sample = sequences[:: max(1, sum(map(len, scored)) // wanted)]
        logits_NV = torch.cat([part.float() for part in self._logits(sample)])[:wanted].cpu()
        generator = torch.Generator().manual_seed(spec.seed) if spec.tail_samples else None
        rows = select_for(spec, logits_NV, generator)
        tokens = [token for completion in scored for token in completion]
        student_NV = unigram_logits(tokens, spec.vocabulary, len(logits_NV))
        return measure_error(logits_NV, rows, student_NV, spec, UNIGRAM)

    def _logits(self, batch: Sequence[TokenExample]) -> Iterator[Tensor]:
        """Logits [n, V] at the batch's scored positions, in order, a chunk at a time."""
        width, device = self.teacher.vocabulary_size, self.teacher.model.device
        inputs = Collator(self.teacher.pad_id)([(0, sequence.as_taught) for sequence in batch])
        tokens_BT, mask_BT, labels_BT = (
            inputs[name].to(device) for name in ("input_ids", "attention_mask", "labels")
        )
        positions = Positions.of(labels_BT, width)
        linear = self.teacher.linear(tokens_BT, mask_BT)
        teacher = self.teacher.logits(tokens_BT, mask_BT) if linear is None else linear
        logits_of = teacher_slices(teacher, positions, width)
        states = teacher if isinstance(teacher, Tensor) else teacher.hidden_BTD
        for start, end in positions.chunks(rows_at_once(states, width)):
            logits_NV = logits_of(start, end)
            assert isinstance(logits_NV, Tensor)
            yield logits_NV
