"""GPT-NeoX agrees with Hugging Face's implementation, in every variant of rotation, residual and activation."""

import json
import subprocess
import sys

import mindspore as ms
import numpy as np
import pytest

from mindgeex.common.errors import UserError
from mindgeex.model_zoo.config import ModelConfig
from mindgeex.model_zoo.families import build_model
from tests.model_zoo.foreign import load_foreign

NO_SEED = ms.Tensor(0, ms.int32)

HUGGING_FACE = """
import json, sys
import numpy as np, torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM
folder, changes = sys.argv[1], json.loads(sys.argv[2])
torch.manual_seed(1)
model = GPTNeoXForCausalLM(GPTNeoXConfig(**{**dict(
    vocab_size=96, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
    max_position_embeddings=24, initializer_range=0.2, hidden_act="gelu", rotary_pct=1.0, use_parallel_residual=True,
), **changes})).eval()
with torch.no_grad():  # biases and norms that are not their initial zeros and ones
    for parameter in model.parameters():
        parameter += 0.1 * torch.randn_like(parameter)
ids = torch.randint(0, 96, (2, 24))
model.save_pretrained(folder)
np.savez(folder + "/expected.npz", input_ids=ids.int().numpy(), logits=model(ids).logits.detach().numpy())
"""


def test_logits_equal_hugging_faces(reference_data):
    folder = reference_data / "fixtures" / "gpt_neox_hf_tiny"
    expected = np.load(folder / "expected.npz")
    logits = load_foreign(folder)(ms.Tensor(expected["input_ids"]), NO_SEED).asnumpy()
    assert np.abs(logits - expected["logits"]).max() < 1e-4


@pytest.mark.parametrize(
    "changes",
    [{"rotary_pct": 0.25}, {"use_parallel_residual": False}, {"hidden_act": "gelu_new"}, {"rotary_emb_base": 500}],
    ids=lambda changes: next(iter(changes)),
)
def test_variants_equal_hugging_faces(interop, tmp_path, changes):
    subprocess.run([sys.executable, "-c", HUGGING_FACE, str(tmp_path), json.dumps(changes)], check=True)
    expected = np.load(tmp_path / "expected.npz")
    logits = load_foreign(tmp_path)(ms.Tensor(expected["input_ids"]), NO_SEED).asnumpy()
    assert np.abs(logits - expected["logits"]).max() < 1e-4


def small(**changes):
    sizes = {"num_layers": 2, "hidden_size": 32, "num_heads": 2, "vocab_size": 48, "seq_length": 16}
    return ModelConfig(family="gpt_neox", feed_forward_size=64, eod_id=0, **{**sizes, **changes})


def test_packed_documents_do_not_see_each_other():
    model = build_model(small(dropout_rate=0.0)).set_train(False)
    first, second = [5, 9, 7, 0], [3, 4, 8, 2, 6]
    apart = [model(ms.Tensor([ids], ms.int32), NO_SEED).asnumpy()[0] for ids in (first, second)]
    packed = model(ms.Tensor([first + second], ms.int32), NO_SEED).asnumpy()[0]
    assert np.abs(packed - np.concatenate(apart)).max() < 1e-6


def test_documents_see_each_other_where_the_model_does_not_reset():
    model = build_model(small(dropout_rate=0.0, eod_reset=False, init_std=0.5)).set_train(False)
    first, second = [5, 9, 7, 0], [3, 4, 8, 2, 6]
    alone = model(ms.Tensor([second], ms.int32), NO_SEED).asnumpy()[0]
    packed = model(ms.Tensor([first + second], ms.int32), NO_SEED).asnumpy()[0]
    assert np.abs(packed[len(first) :] - alone).max() > 1e-3


def test_a_share_that_rotates_an_odd_number_of_values_is_refused_with_the_nearest():
    with pytest.raises(UserError, match=r"rotary_pct=0.2 rotates 3 of the 16 values of a head.*rotary_pct=0.125"):
        small(rotary_pct=0.2)
