"""Which models' logits are one matrix times their hidden states, and nothing else."""

from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    Gemma2Config,
    GPT2Config,
    GPTJConfig,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Starcoder2Config,
)

from codestill.models.heads import linear_head

SMALL: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
}


def fresh(config: PreTrainedConfig) -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).train()


@pytest.mark.parametrize(
    "config",
    [
        GPT2Config(
            vocab_size=40, n_embd=16, n_layer=1, n_head=2, n_positions=8, bos_token_id=0, eos_token_id=0
        ),
        LlamaConfig(**SMALL),
        LlamaConfig(**SMALL, tie_word_embeddings=True),
        Starcoder2Config(**SMALL),
        Qwen2Config(**SMALL),
    ],
    ids=lambda config: config.model_type,
)
def test_hidden_states_times_the_head_are_the_logits(config: PreTrainedConfig):
    model = fresh(config)
    head = linear_head(model)
    assert head is not None and model.training
    tokens = torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        found = model.eval()(input_ids=tokens, output_hidden_states=True, logits_to_keep=1)
        logits = model(input_ids=tokens).logits
        body = model.base_model(input_ids=tokens).last_hidden_state
    assert found.logits.shape == (1, 1, 40)
    torch.testing.assert_close(found.hidden_states[-1] @ head.T, logits)
    torch.testing.assert_close(body @ head.T, logits)


@pytest.mark.parametrize(
    "config",
    [
        Gemma2Config(**SMALL, final_logit_softcapping=30.0),  # nearly linear while logits are small
        CohereConfig(**SMALL, logit_scale=0.0625),
        GPTJConfig(
            vocab_size=40, n_embd=16, n_layer=1, n_head=2, rotary_dim=4, bos_token_id=0, eos_token_id=0
        ),
    ],
    ids=lambda config: config.model_type,
)
def test_a_cap_a_scale_and_a_bias_are_noticed(config: PreTrainedConfig):
    assert linear_head(fresh(config)) is None
