"""What test_mindformers.py asks of MindFormers, in a process of its own: it logs, and it changes MindSpore's settings.

python mindformers_job.py FOLDER     FOLDER has tokenizer/, rows.npy; facts.json and arrays are left there.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np

FOLDER = Path(sys.argv[1])
os.chdir(FOLDER)
os.environ["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"] = "python"

import mindspore as ms  # noqa: E402

from mindgeex.common.errors import UserError  # noqa: E402
from mindgeex.data.shards import _write_mindrecord  # noqa: E402
from mindgeex.model_zoo.checkpoints.convert import ConvertOptions, convert  # noqa: E402
from mindgeex.model_zoo.checkpoints.native import load_model, named_parameters, save_model  # noqa: E402
from mindgeex.model_zoo.config import load_model_config  # noqa: E402
from mindgeex.model_zoo.families import build_model  # noqa: E402
from mindgeex.model_zoo.mindformers_plugin.run import load, run  # noqa: E402

NAMES = ("codegeex_tiny", "gpt_neox_tiny")
PROMPT = "def add(a, b):\n    return"
TEXTS = (
    PROMPT,
    "\n".join("x" + " " * blanks + "y" + " " * blanks for blanks in range(25)),
    "if x:\n\tpass  # tab\r\n\r\n    return 'it's'\n   ",
    "# 变量 = 'ÄÖ' 🎉\u3000e\u0301\n  α = β",
    "int f() { return 0x1F + 12345; } // don't , no ! yes .",
)


def main() -> None:
    rows = np.load("rows.npy")
    ids = ms.Tensor(rows[:, :-1])
    facts: dict[str, object] = {}
    ms.set_context(mode=ms.GRAPH_MODE)
    for name in NAMES:
        ms.set_seed(7)
        sizes = load_model_config(name)
        Path(name).mkdir()
        save_model(Path(name), sizes, named_parameters(build_model(sizes)))
        convert(Path(name), Path(f"{name}.ckpt"), "mindspore", ConvertOptions())
        native = load_model(Path(name))
        np.save(f"{name}.native.npy", native(ids, ms.Tensor([0] * len(rows), ms.int32)).asnumpy())
        np.save(f"{name}.mindformers.npy", through_auto_classes(name, ids, facts))
    facts["text"] = predict()
    facts |= tokenizer()
    facts["dropped"] = dropped()
    facts["refused"] = refused()
    finetune(rows)
    Path("facts.json").write_text(json.dumps(facts))


def through_auto_classes(name: str, ids: ms.Tensor, facts: dict[str, object]) -> np.ndarray:
    """Logits of what MindFormers builds from its configuration and fills from a .ckpt of ours; saves it again."""
    config = load(name, [f"model.model_config.checkpoint_name_or_path={name}.ckpt"])
    from mindformers.models import build_network

    network = build_network(config.model).set_train(False)
    facts[f"{name}.class"] = type(network).__name__
    facts[f"{name}.config"] = type(network.config).__name__
    logits = network(ids).asnumpy()
    network.save_pretrained(f"{name}.saved", save_name=name)
    facts[f"{name}.again"] = saved_again(name, network)
    return logits


def saved_again(name: str, network: ms.nn.Cell) -> list[str]:
    """What the Auto classes make of a saved folder, whose weights have to be the same, and of a bare configuration."""
    from mindformers import AutoConfig, AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(f"{name}.saved")
    for before, after in zip(network.get_parameters(), model.get_parameters(), strict=True):
        assert before.name == after.name
        assert before.asnumpy().tobytes() == after.asnumpy().tobytes(), before.name
    config = AutoConfig.from_pretrained(f"{name}.saved/{name}.yaml")
    bare = AutoModelForCausalLM.from_config(
        type(config)(num_layers=2, hidden_size=64, num_heads=4, vocab_size=8, eod_id=0)
    )
    return [type(found).__name__ for found in (model, config, bare)]


def predict() -> str:
    """MindFormers' trainer continues a prompt with weights of ours, and its tokenizer is that of the folder."""
    settings = [
        "run_mode=predict", "load_checkpoint=codegeex_tiny/model.safetensors", "load_ckpt_format=safetensors",
        "processor.tokenizer.vocab_file=tokenizer/vocab.json", f"input_data={json.dumps(PROMPT)}",
        "model.model_config.max_decode_length=24",
    ]  # fmt: skip
    return str(run(load("codegeex_tiny", settings))[0]["text_generation_text"][0])


def tokenizer() -> dict[str, object]:
    """Ids and text of what is hard to keep, from the tokenizer that MindFormers builds."""
    from mindformers.models import build_tokenizer

    config = load("gpt_neox_tiny", ["processor.tokenizer.vocab_file=tokenizer/vocab.json"])
    built = build_tokenizer(config.processor.tokenizer)
    found = {}
    for text in TEXTS:
        ids = built(text)["input_ids"]
        found[text] = [ids, built.decode(ids)]
    return {"tokenizer": found, "eos_id": built.eos_token_id}


def refused() -> list[str]:
    """What is said of wrong settings, in the order of the test's patterns."""
    from mindformers.models import build_network, build_tokenizer

    said = []
    for setting in (
        "num_layer=3",
        "use_past=True",
        "sizes_from=gpt_neox_tiny",
        "num_heads=5",
        "compute_dtype=bfloat16",
    ):
        try:
            build_network(load("codegeex_tiny", [f"model.model_config.{setting}"]).model)
        except UserError as error:
            said.append(str(error))
    for setting in ("vocab_file=nowhere/vocab.json", "tokenizer_file=nowhere.json"):
        try:
            build_tokenizer(load("codegeex_tiny", [f"processor.tokenizer.{setting}"]).processor.tokenizer)
        except UserError as error:
            said.append(str(error))
    for settings in (["run_mode=eval"], ["modle.model_config.num_layers=3"]):
        try:
            run(load("codegeex_tiny", settings))
        except UserError as error:
            said.append(str(error))
    return said


def dropped() -> list[float]:
    """The losses of three calls of a small model on the same rows, half of whose values are dropped."""
    from mindgeex.model_zoo.mindformers_plugin.register import CodeGeeXConfig, CodeGeeXForCausalLM

    sizes = {"num_layers": 2, "hidden_size": 32, "num_heads": 2, "feed_forward_size": 64, "vocab_size": 64}
    config = CodeGeeXConfig(**sizes, seq_length=16, eod_id=0, dropout_rate=0.5, init_std=0.1)
    assert CodeGeeXConfig(sizes_from="codegeex_10m", num_layers=2).sizes == load_model_config("codegeex_10m")
    assert CodeGeeXConfig(compute_dtype="float16").sizes == load_model_config("codegeex_13b")
    model = CodeGeeXForCausalLM(config).set_train()
    rows = ms.Tensor(np.arange(34).reshape(2, 17) % 64, ms.int32)
    return [float(model(rows).asnumpy().reshape(())) for _ in range(3)]


def finetune(rows: np.ndarray) -> None:
    """Two steps of MindFormers' trainer on the same four rows, from weights of ours."""
    Path("rows").mkdir()
    _write_mindrecord(rows, Path("rows", "part.mindrecord"))
    settings = [
        "load_checkpoint=codegeex_tiny.ckpt", "train_dataset.data_loader.dataset_dir=rows", "runner_config.epochs=2",
        "output_dir=trained", "lr_schedule.warmup_ratio=0.0",
    ]  # fmt: skip
    run(load("codegeex_tiny", settings))


if __name__ == "__main__":
    main()
