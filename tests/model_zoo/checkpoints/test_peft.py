"""An adapter in PEFT's layout: names and shapes that PEFT expects, and the sums that our own merging gives."""

import importlib.util
import json
import subprocess
import sys

import mindspore as ms
import numpy as np
import pytest

from mindgeex.cli.main import main
from mindgeex.model_zoo.checkpoints.adapter import AdapterInfo, save_adapter
from mindgeex.model_zoo.checkpoints.containers.safetensors_file import read_safetensors, read_safetensors_folder
from mindgeex.model_zoo.checkpoints.convert import convert
from mindgeex.model_zoo.checkpoints.native import named_parameters, save_model, weights_sha256
from mindgeex.model_zoo.families import build_model
from mindgeex.model_zoo.lora import adapter_parameters, add_lora, merge
from mindgeex.model_zoo.lora_config import TARGETS, LoraConfig
from tests.model_zoo.adapted import CONFIG, IDS, fill_additions, logits

LOGITS = """
import sys
import numpy as np, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
base = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32).eval()
ids = torch.from_numpy(np.load(sys.argv[3])).long()
with torch.no_grad():
    plain = base(ids).logits.numpy()
    model = PeftModel.from_pretrained(base, sys.argv[2]).eval()
    adapted = model(ids).logits.numpy()
    np.savez(sys.argv[4], plain=plain, adapted=adapted, merged=model.merge_and_unload()(ids).logits.numpy())
"""
EVERY = LoraConfig(rank=4, alpha=8.0, targets=TARGETS, dropout=0.1)


def make_adapter(folder, family, lora):
    """A base, an adapter that is more than zero, and the adapted model."""
    base, place = folder / "base", folder / "adapter"
    ms.set_context(mode=ms.GRAPH_MODE)
    model = build_model(CONFIG[family]).set_train(False)
    base.mkdir()
    place.mkdir()
    save_model(base, model.config, named_parameters(model))
    add_lora(model, lora)
    fill_additions(model)
    save_adapter(place, model.config, adapter_parameters(model), AdapterInfo("../base", weights_sha256(base), lora))
    return model


def exported(folder):
    tensors = {name: tensor.read() for name, tensor in read_safetensors(folder / "adapter_model.safetensors").items()}
    return json.loads((folder / "adapter_config.json").read_text()), tensors


@pytest.mark.parametrize("targets", [TARGETS, ("query", "value"), ("key", "down")])
def test_base_and_adapter_add_up_to_what_merging_gives(tmp_path, targets) -> None:
    lora = LoraConfig(rank=4, alpha=8.0, targets=targets)
    model = make_adapter(tmp_path, "gpt_neox", lora)
    assert main(["lora", "export", str(tmp_path / "adapter"), "--out", str(tmp_path / "peft")]) == 0
    merge(model)
    (tmp_path / "merged").mkdir()
    save_model(tmp_path / "merged", model.config, named_parameters(model))
    for name in ("base", "merged"):
        convert(tmp_path / name, tmp_path / f"{name}_hf", "hf")
    base, merged = (read_safetensors_folder(tmp_path / f"{name}_hf") for name in ("base", "merged"))

    config, tensors = exported(tmp_path / "peft")
    added = 0
    for name, tensor in base.items():
        weight, key = tensor.read(), f"base_model.model.{name.removesuffix('.weight')}"
        if f"{key}.lora_A.weight" in tensors:
            layer = name.split(".")[-2]
            rank = config["rank_pattern"].get(layer, config["r"])
            scale = config["alpha_pattern"].get(layer, config["lora_alpha"]) / rank
            lora_a, lora_b = tensors[f"{key}.lora_A.weight"], tensors[f"{key}.lora_B.weight"]
            assert lora_a.shape == (rank, weight.shape[1]) and lora_b.shape == (weight.shape[0], rank)
            assert layer in config["target_modules"]
            weight = weight + scale * lora_b @ lora_a
            added += 2
        assert np.abs(weight - merged[name].read()).max() <= 1e-6
    assert added == len(tensors) > 0


def test_the_files_say_what_peft_asks_for(tmp_path, capsys) -> None:
    make_adapter(tmp_path, "gpt_neox", EVERY)
    command = ["lora", "export", str(tmp_path / "adapter"), "--out"]
    assert main([*command, str(tmp_path / "named"), "--base", "someone/their-model"]) == 0
    assert main([*command, str(tmp_path / "peft")]) == 0
    assert f"its base {tmp_path / 'base'} is in another format" in capsys.readouterr().out
    config, tensors = exported(tmp_path / "peft")
    assert config["base_model_name_or_path"] == str(tmp_path / "base")
    assert exported(tmp_path / "named")[0]["base_model_name_or_path"] == "someone/their-model"
    assert (config["peft_type"], config["r"], config["lora_alpha"], config["lora_dropout"]) == ("LORA", 4, 8.0, 0.1)
    assert config["target_modules"] == ["dense", "dense_4h_to_h", "dense_h_to_4h", "embed_out", "query_key_value"]
    assert config["rank_pattern"] == {"query_key_value": 12} and config["alpha_pattern"] == {"query_key_value": 24.0}
    layers = ("attention.query_key_value", "attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h")
    places = [f"gpt_neox.layers.{block}.{layer}" for block in (0, 1) for layer in layers] + ["embed_out"]
    assert set(tensors) == {f"base_model.model.{place}.lora_{ab}.weight" for place in places for ab in "AB"}
    assert main([*command, str(tmp_path / "peft")]) == 2


def test_a_family_that_transformers_does_not_have_is_refused(tmp_path, capsys) -> None:
    make_adapter(tmp_path, "codegeex", LoraConfig())
    assert main(["lora", "export", str(tmp_path / "adapter"), "--out", str(tmp_path / "peft")]) == 2
    assert "transformers, which has none of the family codegeex, only of gpt_neox" in capsys.readouterr().err
    assert not (tmp_path / "peft").exists()


@pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="no peft: make test EXTRAS=interop")
@pytest.mark.parametrize("targets", [TARGETS, ("query", "value")])
def test_peft_loads_it_and_gives_our_logits(tmp_path, interop, targets) -> None:
    model = make_adapter(tmp_path, "gpt_neox", LoraConfig(rank=4, alpha=8.0, targets=targets))
    convert(tmp_path / "base", tmp_path / "hf", "hf")
    command = ["lora", "export", str(tmp_path / "adapter"), "--out", str(tmp_path / "peft")]
    assert main([*command, "--base", str(tmp_path / "hf")]) == 0
    np.save(tmp_path / "ids.npy", IDS)
    paths = [str(tmp_path / name) for name in ("hf", "peft", "ids.npy", "logits.npz")]
    ran = subprocess.run([sys.executable, "-c", LOGITS, *paths], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "missing" not in ran.stderr
    theirs, ours = np.load(paths[-1]), logits(model)
    assert np.abs(theirs["adapted"] - ours).max() <= 1e-4
    assert np.abs(theirs["merged"] - ours).max() <= 1e-4
    assert np.abs(theirs["plain"] - ours).max() > 1e-2
