"""Loss and gradient on the same samples are those of TRL's GKD trainer. Needs trl; nothing else does."""

import warnings

import pytest
import torch
from tests.support.tiny import CPU
from tests.support.worlds import examples, student

from codestill.losses import Distillation
from codestill.losses.compute import compute
from codestill.teachers import LocalTeacherConfig
from codestill.train.batches import Collator, tokenize
from codestill.train.live import live_targets

pytest.importorskip("trl")


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("beta", [0.0, 0.1, 0.5, 1.0])
def test_the_loss_is_that_of_trl(beta: float, temperature: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from trl.experimental.gkd.gkd_trainer import GKDTrainer  # pyright: ignore[reportMissingImports]

    learner = student("pocket-base")
    teacher = LocalTeacherConfig(model="pocket", dtype="float32").build(CPU)
    given = [
        one.model_copy(update={"teacher_prompt": f"{one.prompt}{one.completion}\n{one.prompt}"})
        for one in examples(3)
    ]
    inputs = Collator(learner.pad_id)(list(enumerate(tokenize(given, learner.codec, None))))
    teacher_BTV = live_targets(teacher, inputs, hidden=False)
    assert isinstance(teacher_BTV, torch.Tensor)

    def student_BTV() -> torch.Tensor:
        learner.model.zero_grad()
        return learner.model.eval()(inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits

    def gradients() -> torch.Tensor:
        return torch.cat([p.grad.flatten() for p in learner.model.parameters() if p.grad is not None])

    settings = {"divergence": "generalized_jsd", "beta": beta, "temperature": temperature, "alpha": 1.0}
    ours = compute(Distillation.model_validate(settings), student_BTV(), inputs["labels"], teacher_BTV).total
    ours = ours / temperature**2  # Hinton's factor, which GKD does without
    ours.backward()
    wanted = gradients()
    theirs = GKDTrainer.generalized_jsd_loss(
        student_BTV()[:, :-1], teacher_BTV[:, :-1], inputs["labels"][:, 1:], beta, temperature
    )
    theirs.backward()
    assert float(ours.detach()) == pytest.approx(float(theirs.detach()), rel=1e-5)
    assert float((gradients() - wanted).norm() / wanted.norm()) < 1e-5
