"""Training GPT-NeoX gives the losses and gradient norms of Hugging Face's model under PyTorch's AdamW."""

import subprocess
import sys

import mindspore as ms
import numpy as np

from mindgeex.model_zoo.checkpoints.native import named_parameters
from mindgeex.train.optimizer import AdamW
from mindgeex.train.optimizer_config import OptimizerConfig
from tests.model_zoo.foreign import load_foreign
from tests.train.stepping import curve

TORCH = """
import sys
import numpy as np, torch
from transformers import GPTNeoXForCausalLM
model = GPTNeoXForCausalLM.from_pretrained(sys.argv[1]).float()
batches = torch.from_numpy(np.random.default_rng(0).integers(0, 512, (15, 4, 33)))
groups = [{"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.1},
          {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0}]
optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), eps=1e-8)
losses, norms = [], []
for rows in batches:
    logits = model(rows[:, :-1]).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
    optimizer.zero_grad()
    loss.backward()
    norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)))
    optimizer.step()
    losses.append(float(loss))
np.savez(sys.argv[2], batches=batches.int().numpy(), losses=losses, norms=norms)
"""


def test_losses_and_gradient_norms_equal_pytorchs(reference_data, interop, tmp_path):
    folder = reference_data / "fixtures" / "gpt_neox_hf_tiny"
    subprocess.run([sys.executable, "-c", TORCH, str(folder), str(tmp_path / "torch.npz")], check=True)
    expected = np.load(tmp_path / "torch.npz")
    ms.set_context(mode=ms.GRAPH_MODE)
    model = load_foreign(folder)
    optimizer = AdamW(named_parameters(model), OptimizerConfig(0.9, 0.95, 1e-8, 0.1, max_grad_norm=1.0))
    losses, norms = curve(model, optimizer, expected["batches"]).T
    assert np.ptp(expected["losses"]) > 0.01  # the updates matter
    assert np.abs(losses - expected["losses"]).max() < 1e-4
    assert np.abs(norms / expected["norms"] - 1).max() < 1e-3
