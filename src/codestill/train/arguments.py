"""The settings of ``transformers.Trainer`` for a training."""

import math

import torch
from transformers import TrainingArguments

from codestill.matmul import has_bfloat16_kernels
from codestill.models.student import Student
from codestill.run import Run
from codestill.train import TrainConfig

BF16_MIN_PARAMETERS = 2_000_000
"""Below this size, autocast's casts cost a CPU more than its products gain (dev/lab-log.md)."""


def training_arguments(
    student: Student, config: TrainConfig, run: Run, batches: int, validates: bool
) -> TrainingArguments:
    """What ``Trainer`` is told; ``batches`` is their number per epoch and rank."""
    steps_per_epoch = -(-batches // config.accumulation)
    steps = config.max_steps or math.ceil(config.epochs * steps_per_epoch)
    warmup = round(config.warmup_fraction * steps)
    interval = config.checkpoint_steps or steps_per_epoch
    decays = config.schedule == "warmup_stable_decay"
    return TrainingArguments(
        output_dir=str(run.checkpoints),
        max_steps=steps,
        gradient_accumulation_steps=config.accumulation,
        learning_rate=config.peak_rate,
        lr_scheduler_type="constant_with_warmup" if config.schedule == "constant" else config.schedule,
        lr_scheduler_kwargs={"num_decay_steps": round(0.6 * steps)} if decays else {},
        warmup_steps=warmup,
        max_grad_norm=config.max_grad_norm,
        bf16=_bfloat16(student, config),
        torch_compile=student.placement.compile,
        use_cpu=student.model.device.type == "cpu",
        seed=run.seed,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=interval,
        eval_strategy="steps" if validates else "no",
        eval_steps=interval if validates else None,
        metric_for_best_model="eval_loss" if validates else None,
        greater_is_better=False if validates else None,
        remove_unused_columns=False,
        label_names=["labels"],
        report_to=[],
        disable_tqdm=True,
        log_level="error",
        dataloader_pin_memory=student.model.device.type == "cuda",
    )


def arithmetic(student: Student, autocast: bool) -> str:
    """In which precision a step computes, in words."""
    if student.dtype == "float32":
        return f"{'bfloat16' if autocast else 'float32'} products"
    apart = "" if student.adapter is None or autocast else " (the adapter's in float32)"
    return f"bfloat16 weights and products{apart}"


def _bfloat16(student: Student, config: TrainConfig) -> bool:
    if config.precision != "auto":
        return config.precision == "bfloat16"
    if student.model.device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return has_bfloat16_kernels() and student.model.num_parameters() > BF16_MIN_PARAMETERS
