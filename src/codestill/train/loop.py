"""The training loop: a ``transformers.Trainer`` with our loss, batches, log and checkpoints."""

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NoReturn

import torch
from accelerate.data_loader import prepare_data_loader
from torch import Tensor
from torch.utils._triton import has_triton
from torch.utils.data import DataLoader
from transformers import Trainer
from transformers.trainer_utils import set_seed

from codestill.errors import ConfigError, LogitsError, TrainingError
from codestill.losses import Contrastive, CrossEntropy, Objective
from codestill.losses.batch import Loss, LossOptions
from codestill.losses.contrast import PER_GROUP, StepCounts
from codestill.models.adapters import attach, save_adapter
from codestill.models.heads import linear_head
from codestill.models.student import Student
from codestill.models.trainable import prepare
from codestill.run import Run
from codestill.teachers import LogitTeacher
from codestill.teachers.cached import CachedLogits
from codestill.train import TrainConfig
from codestill.train.arguments import arithmetic, training_arguments
from codestill.train.batches import (
    TEACHERS_POSITIONS,
    Collator,
    Examples,
    LengthBatches,
    TokenData,
    TokenExample,
    tokenize_within,
)
from codestill.train.checkpoints import Checkpoints, TrainingProgress
from codestill.train.contrast import contrast, scored_before
from codestill.train.finish import device_of, release, save_student
from codestill.train.forward import batch_loss
from codestill.train.gaps import require_fim_tokens, with_gaps
from codestill.train.live import shared_vocabulary, targets
from codestill.train.optimizers import build_optimizer
from codestill.train.references import short_answers
from codestill.types import Example

_MANY_PASSES = 30
"""More than anyone makes over examples of which there are enough."""
_FEW_EXAMPLES = 20
"""Fewer than anything general is learnt from."""
ROUNDED = (
    "the weights themselves are trained in bfloat16, which rounds away updates below 1/512 of a weight: "
    "student.dtype float32 keeps them, and train.precision bfloat16 beside it keeps the fast products"
)


def fit(
    student: Student,
    examples: Sequence[Example],
    objective: Objective,
    config: TrainConfig,
    run: Run,
    *,
    teacher: LogitTeacher | CachedLogits | None,
    validation: Sequence[Example],
) -> Student:
    """See :func:`codestill.train.fit`."""
    if not student.model.num_parameters():
        raise TrainingError(
            f"{student.name} was given to a training before, which has freed its weights.",
            next_step="Go on with the student that fit returned, or build another one.",
        )
    if not Checkpoints(run.checkpoints).finished:
        require_fim_tokens(student, config.fim)
        examples = with_gaps(examples, config.fim, run.seed, student.form is not None)
        student = replace(student, fills_gaps=True if config.fim else student.fills_gaps)
        contrasts = isinstance(objective, Contrastive) and objective.weight > 0
        asked = teacher if objective.needs_teacher else None
        limits = {
            "train.max_length": config.max_length,
            "the student's positions": student.positions,
            TEACHERS_POSITIONS: getattr(asked, "positions", None),  # one of one's own may not say
        }

        def fitting(name: str, given: Sequence[Example]) -> list[TokenExample]:
            tokenized, said = tokenize_within(limits, given, student.codec, contrasts, f"{name} example")
            if said and _place()[0] == 0:
                run.message("train", said)
            return tokenized

        if _place()[0] == 0:
            run.write("examples.jsonl", examples)
            if config.fim:
                gaps = sum(example.suffix is not None for example in examples)
                run.message("train", f"{gaps} of {len(examples)} examples are gaps to fill (train.fim)")
            if said := short_answers(student, examples):
                run.message("train", said)
            if student.adapter is None and student.dtype == "bfloat16":
                run.message("train", ROUNDED)
        data = TokenData(
            fitting("training", examples), fitting("validation", validation) if validation else []
        )
        _train(DistillationTrainer(student, data, objective, config, run, asked))
    release(student.model)
    # Always from disk: a continued run must go on with the same student as an uninterrupted one.
    saved = Student.load(
        Checkpoints(run.checkpoints).intact(run.student_directory),
        dtype=student.dtype,
        trust_remote_code=student.trust_remote_code,
        device=device_of(student),
    )
    kept = {name: getattr(student, name) for name in ("name", "placement", "chat", "adapter", "quantize")}
    return replace(saved, **kept)


def _train(trainer: "DistillationTrainer") -> None:
    """Train from the newest checkpoint to the last step, and save the kept checkpoint as the student."""
    student, run, checkpoints = trainer.student, trainer.run, trainer.checkpoints
    first = trainer.is_world_process_zero()
    resume = checkpoints.latest()
    step = checkpoints.step(resume) if resume else 0
    if first and resume:
        run.message("train", f"continues from step {step}")
    if first:
        run.message("train", trainer.choices)
        run.rewind(step, ("train", "validation"))
        run.account(steps=trainer.args.max_steps, examples=len(trainer.train_dataset))  # type: ignore[arg-type]
    if step < trainer.args.max_steps:  # Trainer would add a step to a training that has had its last
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    if first:
        save_student(student, checkpoints.kept(trainer.fit_config.keep), trainer.data.training[0], run)
        checkpoints.note(run.student_directory)
        checkpoints.finish()
    trainer.accelerator.wait_for_everyone()


def _place() -> tuple[int, int]:
    """This process's rank and the number of processes, from torchrun's environment. Raises ConfigError."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1 and not {"RANK", "LOCAL_RANK", "MASTER_ADDR"} <= os.environ.keys():
        raise ConfigError(
            f"WORLD_SIZE is {world}, and this process cannot find the other processes.",
            next_step="Start the processes with torchrun, or unset WORLD_SIZE.",
        )
    return int(os.environ.get("RANK", "0")), world


class DistillationTrainer(Trainer):
    """``Trainer`` whose loss is an objective over completion tokens, normalised over the whole step."""

    def __init__(
        self,
        student: Student,
        data: TokenData,
        objective: Objective,
        config: TrainConfig,
        run: Run,
        teacher: LogitTeacher | CachedLogits | None,
    ) -> None:
        set_seed(run.seed)
        prepare(student)
        if student.adapter is not None:
            config = config.for_adapter
            wrapped = attach(student.model, student.adapter, student.quantize, run.seed)
            student = replace(student, model=wrapped)
        self.student, self.objective, self.fit_config, self.run = student, objective, config, run
        self.teacher, self.vocabulary = teacher, None
        self.head = linear_head(student.model)
        wanted, on_gpu = student.placement.fused_loss, student.model.device.type == "cuda"
        self.fused = has_triton() and on_gpu if wanted is None else wanted
        if objective.needs_teacher:
            if teacher is None:
                raise LogitsError(
                    f"the objective {objective.type} needs a teacher with logits.",
                    next_step="Give a local teacher, or use the objective cross_entropy.",
                )
            self.vocabulary = shared_vocabulary(student, teacher)
        self.batches = self._batches(data.training, run.seed)
        # At weight 0 the loss is cross-entropy alone, and faulty programs are not used.
        contrasts = isinstance(objective, Contrastive)
        self.contrast = objective if contrasts and objective.weight > 0 else None
        self.plain = CrossEntropy() if contrasts else objective
        self.step_groups: Tensor | None = None
        if self.contrast is not None and self.contrast.contrast == "dpo":
            data = TokenData(*(scored_before(student, self.head, examples, run) for examples in data))
        self.data = data
        self.sums: dict[str, float] = {}
        self.step_batches: list[dict[str, Tensor]] = []
        self.checkpoints = Checkpoints(run.checkpoints)
        super().__init__(
            model=student.model,
            args=training_arguments(student, config, run, len(self.batches), bool(data.validation)),
            data_collator=Collator(student.pad_id, self.contrast is not None),
            train_dataset=Examples(data.training),
            eval_dataset=Examples(data.validation) if data.validation else None,
            callbacks=[self.checkpoints, TrainingProgress(run, self.batches)],
        )
        assert self.args.world_size == _place()[1], "every process must know of the others"
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            self.head = None  # its rows are on other machines, out of the model's own pass
        # Our loss divides by the token count of the whole step itself; Trainer must not divide again.
        self.model_accepts_loss_kwargs = True

    @property
    def choices(self) -> str:
        """What was chosen for this machine and model; ``execution`` and ``train`` settings override it."""
        device = self.student.model.device.type
        where = f"{torch.get_num_threads()} CPU thread(s)" if device == "cpu" else device
        loss = "hidden states" if self.head is not None else "whole logits"
        fused = " (fused)" if self.head is not None and self.fused else ""
        taken = self.args.max_steps * self.args.gradient_accumulation_steps
        passes, examples = taken / max(len(self.batches), 1), len(self.data.training)
        many = " (many: lower train.max_steps or train.epochs)" if passes > _MANY_PASSES else ""
        few = " (few: hardly more than these can be learnt from them)" if examples < _FEW_EXAMPLES else ""
        steps = f"{self.args.max_steps:,} steps, {passes:,.1f} passes{many} over {examples:,} examples{few}"
        precision = arithmetic(self.student, self.args.bf16)
        return f"on {where}, {precision}, loss from {loss}{fused}, {steps}{self._trained}"

    @property
    def _trained(self) -> str:
        """What an adapter leaves to train; empty without one."""
        adapter, parameters = self.student.adapter, list(self.student.model.parameters())
        if adapter is None:
            return ""
        trained = sum(p.numel() for p in parameters if p.requires_grad)
        beside = f" beside {self.student.quantize} weights" if self.student.quantize else ""
        return f"; an adapter of rank {adapter.rank} ({trained:,} parameters, float32){beside}"

    def get_train_dataloader(self) -> DataLoader[Any]:
        return self._loader(self.train_dataset, self.batches)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader[Any]:
        return self._loader(self.eval_dataset, self._batches(self.eval_dataset.examples, seed=None))  # type: ignore[union-attr]

    def _batches(self, examples: Sequence[TokenExample], seed: int | None) -> LengthBatches:
        lengths = [len(example.tokens) for example in examples]
        rank, world = _place()
        return LengthBatches(lengths, self.fit_config.batch_tokens, seed, rank=rank, world=world)

    def _loader(self, data: Any, batches: LengthBatches) -> DataLoader[Any]:
        loader = DataLoader(data, batch_sampler=batches, collate_fn=self.data_collator)
        # The batches are this rank's already: accelerate's own sharding needs batches of one size.
        return prepare_data_loader(
            loader, self.args.device, num_processes=1, process_index=0, put_on_device=True
        )

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            self.optimizer = build_optimizer(model or self.student.model, self.fit_config)
        return self.optimizer

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        loss = self._loss(model, inputs, num_items_in_batch, self.step_groups)
        self._add(loss)
        self.step_batches.append(inputs)
        if not math.isfinite(loss.total.item()):
            self._stop_on_nan(self.state.global_step + 1, [inputs], f"the loss is {loss.total.item()}")
        total = loss.total
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            total = total * self.accelerator.num_processes  # DDP averages what should be a sum
        return (total, None) if return_outputs else total

    def _loss(
        self, model: torch.nn.Module, inputs: dict[str, Tensor], normalizer: Any, groups: Any = None
    ) -> Loss:
        if self.contrast is not None:
            return contrast(self.contrast, model, self.head, inputs, StepCounts(normalizer, groups))
        hidden = self.head is not None
        teacher = None if self.teacher is None else targets(self.teacher, inputs, hidden)
        options = LossOptions(normalizer, self.vocabulary, fused=hidden and self.fused)
        return batch_loss(self.plain, model, self.head, inputs, teacher, options)

    def _clip_grad_norm(self, model: torch.nn.Module) -> Any:
        norm: Any = super()._clip_grad_norm(model)
        if norm is not None and not math.isfinite(float(norm)):
            what = f"the gradient's norm is {float(norm)}"
            self._stop_on_nan(self.state.global_step + 1, self.step_batches, what)
        self.step_batches = []
        return norm

    def _stop_on_nan(self, step: int, batches: list[dict[str, Tensor]], what: str) -> NoReturn:
        indices = [index for batch in batches for index in batch["example_index"].tolist()]
        names = [self.train_dataset.examples[index].example_id for index in indices]  # type: ignore[union-attr]
        directory = self.checkpoints.directory / f"not-finite-step-{step}"
        if self.student.adapter is None:
            self.student.save(directory)
        else:
            save_adapter(self.student.model, directory)
        torch.save({"batches": batches, "example_ids": names}, directory / "batches.pt")
        raise TrainingError(
            f"training stopped at step {step}: {what}."
            + (f"\n  examples: {', '.join(names)}" if names else ""),
            next_step=f"Weights and batches are in {directory}: look at them, or lower train.learning_rate.",
        )

    def get_batch_samples(self, epoch_iterator: Iterator, num_batches: int, device: torch.device) -> Any:
        """As Trainer's; also counts the step's groups, which the contrast is averaged over."""
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        if self.contrast is not None:
            count = torch.stack([batch["groups"].to(self.args.device) for batch in batches]).sum()
            reduced: Any = self.accelerator.reduce(count, "sum") if self.args.world_size > 1 else count
            self.step_groups = reduced
        return batches, items

    # log: each term per token, whatever its weight in the loss

    def _add(self, loss: Loss) -> None:
        for name, value in loss.parts.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value)

    def _terms(self) -> dict[str, float]:
        """The sums since the last call, per token and over all ranks, with the loss they make."""
        names = sorted(self.sums)
        local = torch.tensor(
            [self.sums[name] for name in names], dtype=torch.float64, device=self.args.device
        )
        reduced: Any = self.accelerator.reduce(local, "sum")
        sums = dict(zip(names, reduced.tolist(), strict=True))
        self.sums = {}
        tokens, groups = sums.pop("tokens", 0.0), sums.pop("groups", 0.0)
        over = {name: groups if name in PER_GROUP else tokens for name in sums}
        terms = {name: value / max(over[name], 1.0) for name, value in sums.items()}
        return {"loss": self.objective.total(terms), **terms}

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "learning_rate" not in logs:
            return
        metrics = self._terms()  # on every rank: it sums over them
        if not self.is_world_process_zero():
            return
        norm = logs.get("grad_norm")
        extras = {
            "learning_rate": logs["learning_rate"],
            "gradient_norm": None if norm is None else float(norm),
            "epoch": self.state.epoch,
        }
        self.run.log("train", metrics | extras, self.state.global_step)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Validation terms per token, logged; ``eval_loss`` chooses the best checkpoint."""
        kept, self.sums = self.sums, {}
        model = self.model
        assert isinstance(model, torch.nn.Module)
        model.eval()
        with torch.no_grad(), self.compute_loss_context_manager():
            for inputs in self.get_eval_dataloader():
                self._add(self._loss(model, inputs, None))
        model.train()
        metrics = self._terms()
        self.sums = kept
        if not math.isfinite(metrics["loss"]):
            self._stop_on_nan(self.state.global_step, [], f"the validation loss is {metrics['loss']}")
        if self.is_world_process_zero():
            self.run.log("validation", metrics | {"epoch": self.state.epoch}, self.state.global_step)
        validated = {"eval_loss": metrics["loss"]}
        # Tells the flow that this step has been validated; the end of an epoch would do it again.
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, validated)
        return validated
