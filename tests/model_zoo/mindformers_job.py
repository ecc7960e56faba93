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
    ids = ms.Tensor(rows[:2, :-1])
    facts: dict[str, object] = {}
    ms.set_context(mode=ms.GRAPH_MODE)
    for name in NAMES:
        ms.set_seed(7)
        sizes = load_model_config(name)
        Path(name).mkdir()
        save_model(Path(name), sizes, named_parameters(build_model(sizes)))
        convert(Path(name), Path(f"{name}.ckpt"), "mindspore", ConvertOptions())
        native = load_model(Path(name))
        np.save(f"{name}.native.npy", native(ids, ms.Tensor([0, 0], ms.int32)).asnumpy())
        np.save(f"{name}.mindformers.npy", through_auto_classes(name, ids, facts))
        if name == NAMES[0]:
            trained_on = ms.Tensor(rows[:4, :-1])
            np.save(f"{name}.trained_on.npy", native(trained_on, ms.Tensor([0] * 4, ms.int32)).asnumpy())
    facts["text"] = predict()
    facts |= tokenizer()
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
    if name == NAMES[0]:
        prompts = [row[:9].tolist() for row in ids.asnumpy()]
        facts["greedy"] = [np.asarray(row).tolist() for row in network.generate(prompts, max_length=14)]
    return logits


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


def finetune(rows: np.ndarray) -> None:
    """Two steps of MindFormers' trainer on the same four rows, from weights of ours."""
    Path("rows").mkdir()
    _write_mindrecord(rows[:4], Path("rows", "part.mindrecord"))
    settings = [
        "load_checkpoint=codegeex_tiny.ckpt", "train_dataset.data_loader.dataset_dir=rows", "runner_config.epochs=2",
        "output_dir=trained", "lr_schedule.warmup_ratio=0.0",
    ]  # fmt: skip
    run(load("codegeex_tiny", settings))


if __name__ == "__main__":
    main()
