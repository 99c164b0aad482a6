"""Every recipe in its smallest form: settings that run in seconds."""

from typing import Any

TASKS = {"source": "pocket", "split": "train", "count": 5, "depths": [1, 2]}
COMMON: dict[str, Any] = {
    "train": {"max_steps": 3, "batch_tokens": 300, "accumulation": 1, "checkpoint_steps": 2},
    "evaluate": {
        "tasks": {"source": "pocket", "split": "test", "count": 3, "depths": [2]},
        "samples_per_task": 2,
        "max_new_tokens": 24,
        "profile": False,
    },
    "execution": {"device": "cpu"},
    "student": "pocket-0.1m",
}
FROM_TEACHER: dict[str, Any] = {
    "teacher": {"model": "pocket", "dtype": "float32"},
    "examples": {
        "tasks": TASKS,
        "validation": TASKS | {"split": "validation", "count": 2, "depths": [2]},
        "answers": "teacher",
        "unsolved": "reference",
        "max_new_tokens": 64,
    },
}

# By recipe, and after a blank by what is set otherwise.
SETTINGS: dict[str, dict[str, Any]] = {
    "sft": COMMON | FROM_TEACHER,
    "logit_kd": COMMON | FROM_TEACHER,
    "logit_kd cached": COMMON
    | FROM_TEACHER
    | {"teacher_logits": "cached", "execution": {"device": "cpu", "capture_batch_tokens": 100}},
    "persd": COMMON
    | {
        "teacher": FROM_TEACHER["teacher"],
        "arm": "persd-combined",
        "warm_up": {"tasks": TASKS, "train": COMMON["train"]},
        "tasks": TASKS | {"count": 4, "skip": 5},
        "rounds": 2,
        "attempts": {"max_new_tokens": 24, "temperature": 0.3},
        # Rows, whatever the teacher makes of an untrained student's attempts.
        "refine": {"sampling": {"max_new_tokens": 64}, "keep": "all"},
        "self_repair": {"visible": "first", "repairs": 1},
    },
    "opd": COMMON
    | {
        "teacher": FROM_TEACHER["teacher"],
        "row": "feedback",
        "warm_up": {"tasks": TASKS, "train": COMMON["train"]},
        "tasks": TASKS | {"count": 4, "skip": 5},
        "on_policy": 0.7,
        "solutions": "teacher",
        "rounds": 2,
        "replay_examples": 2,
        "attempts": {"max_new_tokens": 24},
        "refine": {"sampling": {"max_new_tokens": 64}},
    },
    "iterkd": COMMON
    | {
        "teacher": FROM_TEACHER["teacher"],
        "warm_up": {"tasks": TASKS, "train": COMMON["train"]},
        "tasks": TASKS | {"count": 4, "skip": 5},
        "rounds": 2,
        "solution": {"max_new_tokens": 64},
        "attempts": {"max_new_tokens": 24, "temperature": 0.3},
        # Faults, whatever an untrained student's attempts are.
        "faults": {"sources": ["student", "teacher", "mutation"], "per_program": 2, "broken": True},
        "feedback": {"judge": {"sampling": {"max_new_tokens": 96}}},
        "update": {"synthesis": {"proposals": 6, "novelty": 1.0}},
        "validation": TASKS | {"split": "validation", "count": 2, "depths": [2]},
        "retention_tasks": 2,
    },
    "amr_evol": COMMON
    | {
        "teacher": FROM_TEACHER["teacher"],
        "tasks": TASKS | {"depths": [2], "count": 5},
        "count": 4,
        "answers": {"max_new_tokens": 96},
        "evolution": {"wave": 2, "gate": "repair"},
        "agreement": {"solutions": 2, "sampling": {"temperature": 0.7, "max_new_tokens": 32}},
        "library": {
            "seeds": TASKS | {"depths": [2], "count": 2, "skip": 5},
            "proposals": {"proposals": 2, "proposal": {"max_new_tokens": 128}},
        },
    },
    "pocket_teacher": COMMON
    | {
        "tokenizer_lessons": 200,
        "lessons": 12,
        "finish": {"lessons": 12, "train": COMMON["train"]},
        "raw": {"model": "pocket-base-0.1m", "tasks": TASKS, "train": COMMON["train"]},
        "exam": {"count": 2, "max_new_tokens": 24},
    },
    "pocket_base": COMMON | {"programs": 12},
}
