"""MindFormers builds, loads, runs and trains both families from the configurations that ship with the plugin."""

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from mindgeex.common.config import as_tree
from mindgeex.common.errors import UserError
from mindgeex.data.tokenizers import load_tokenizer, train_tokenizer
from mindgeex.model_zoo.checkpoints.convert import ConvertOptions, convert
from mindgeex.model_zoo.checkpoints.native import read_tensors
from mindgeex.model_zoo.config import load_model_config
from mindgeex.model_zoo.mindformers_plugin.run import config_path

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "model_zoo" / "mindformers_plugin"
ROOMS = ("common", "data", "model_zoo", "train", "eval", "hccl_configs", "cli")
NAMES = ("codegeex_tiny", "gpt_neox_tiny")
PROMPT = "def add(a, b):\n    return"
CLASSES = {"codegeex_tiny": "CodeGeeX", "gpt_neox_tiny": "GPTNeoX"}

needs_mindformers = pytest.mark.skipif(
    importlib.util.find_spec("mindformers") is None, reason="no mindformers: pip install '.[mindformers]'"
)


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A folder with what mindformers_job.py left: one process for all tests, since each takes 20 s to start."""
    folder = tmp_path_factory.mktemp("mindformers")
    texts = [
        path.read_text(encoding="utf-8") for room in ("common", "data") for path in sorted((ROOT / room).glob("*.py"))
    ]
    # As many tokens as the models have: fresh weights find any id the likeliest.
    tokenizer = train_tokenizer(texts, load_model_config(NAMES[0]).vocab_size, folder / "tokenizer")
    ids = np.concatenate([np.array([*tokenizer.encode(text), 0], np.int32) for text in (PROMPT, *texts)])
    np.save(folder / "rows.npy", ids[: 4 * 257].reshape(4, 257))
    command = [sys.executable, str(Path(__file__).with_name("mindformers_job.py")), str(folder)]
    ran = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "GLOG_v": "3"})
    assert ran.returncode == 0, (ran.stdout + ran.stderr)[-4000:]
    (folder / "output.txt").write_text(ran.stdout + ran.stderr, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def facts(job):
    return json.loads((job / "facts.json").read_text(encoding="utf-8"))


def log_softmax(logits):
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


@needs_mindformers
@pytest.mark.parametrize("name", NAMES)
def test_logits_of_what_mindformers_builds_are_those_of_the_native_network(job, facts, name):
    native, through = (np.load(job / f"{name}.{who}.npy") for who in ("native", "mindformers"))
    assert native.shape == (4, 256, 3072)
    assert native.std() > 0.01
    np.testing.assert_array_equal(through, native)
    assert facts[f"{name}.class"] == f"{CLASSES[name]}ForCausalLM"
    assert facts[f"{name}.config"] == f"{CLASSES[name]}Config"


@needs_mindformers
@pytest.mark.parametrize("name", NAMES)
def test_what_mindformers_saves_is_a_checkpoint_of_ours_bit_for_bit(job, facts, name, tmp_path):
    options = ConvertOptions(model=name)
    convert(job / f"{name}.saved" / f"{name}.ckpt", tmp_path / "back", "mindgeex", options)
    before, after = (read_tensors(folder / "model.safetensors") for folder in (job / name, tmp_path / "back"))
    assert list(after) == list(load_model_config(name).shapes)
    assert before.keys() == after.keys()
    assert all(before[key].tobytes() == after[key].tobytes() for key in before)
    saved = yaml.safe_load((job / f"{name}.saved" / f"{name}.yaml").read_text())["model"]
    assert saved["arch"]["type"] == f"{CLASSES[name]}ForCausalLM"
    assert saved["model_config"]["num_heads"] == 4
    prefix = CLASSES[name]
    assert facts[f"{name}.again"] == [f"{prefix}ForCausalLM", f"{prefix}Config", f"{prefix}ForCausalLM"]


@needs_mindformers
def test_mindformers_trainer_continues_a_prompt_with_the_likeliest_token_of_the_native_network(job, facts):
    ours = load_tokenizer(job / "tokenizer")
    prompt = ours.encode(PROMPT)
    assert np.load(job / "rows.npy")[0, : len(prompt)].tolist() == prompt
    likeliest = np.load(job / "codegeex_tiny.native.npy")[0, len(prompt) - 1].argmax()
    assert facts["text"].startswith(ours.decode([*prompt, int(likeliest)]))
    assert len(facts["text"]) > len(PROMPT)


@needs_mindformers
def test_mindformers_tokenizer_gives_the_ids_of_ours_and_the_text_back(job, facts):
    ours = load_tokenizer(job / "tokenizer")
    for text, (ids, decoded) in facts["tokenizer"].items():
        assert ids == ours.encode(text), text
        assert decoded == text
    assert facts["eos_id"] == ours.eod_id
    assert len(facts["tokenizer"]) >= 5


@needs_mindformers
def test_the_first_loss_of_mindformers_trainer_is_that_of_our_weights_and_the_second_is_lower(job):
    output = (job / "output.txt").read_text(encoding="utf-8")
    losses = [float(loss) for loss in re.findall(r"loss:\[([0-9.]+)/", output)]
    assert len(losses) == 2
    rows, native = np.load(job / "rows.npy"), np.load(job / "codegeex_tiny.native.npy")
    nats = -np.take_along_axis(log_softmax(native), rows[:, 1:, None], 2)[..., 0]
    counts = rows[:, :-1] != 0
    assert not counts.all()
    assert losses[0] == pytest.approx((nats * counts).sum() / counts.sum(), rel=1e-5)
    assert losses[1] < losses[0] - 0.05


REFUSED = (
    "unknown key 'num_layer'; did you mean 'num_layers'",
    "use_past is true: this model has no paged cache; set it to false",
    "sizes_from is gpt_neox_tiny, which is no model of the family codegeex",
    "hidden_size=128 is not divisible by num_heads=5",
    "bfloat16 has no kernels on a CPU",
    "nowhere/vocab.json: no such file",
    "tokenizer_file is nowhere.json: no such file",
    "run_mode is 'eval'",
    "codegeex_tiny has no section modle",
)


@needs_mindformers
def test_a_wrong_setting_is_refused_in_words(facts):
    assert len(facts["refused"]) == len(REFUSED)
    for said, words in zip(facts["refused"], REFUSED, strict=True):
        assert words in said


def test_a_misspelt_configuration_is_refused_with_the_right_name():
    with pytest.raises(UserError, match="no MindFormers configuration 'codegex_13b'; did you mean 'codegeex_13b'"):
        config_path("codegex_13b")
    assert config_path("codefuse_13b") == PLUGIN / "configs" / "codefuse_13b.yaml"


@needs_mindformers
def test_every_training_step_drops_other_values(facts):
    assert len(set(facts["dropped"])) == 3
    assert all(3 < loss < 6 for loss in facts["dropped"])


@needs_mindformers
def test_a_checkpoint_of_mindformers_training_is_converted_with_its_moments(job, tmp_path):
    trained = next((job / "trained" / "checkpoint" / "rank_0").glob("*.ckpt"))
    convert(trained, tmp_path / "ours", "mindgeex", ConvertOptions(model="codegeex_tiny", moments=True))
    before = read_tensors(job / "codegeex_tiny" / "model.safetensors")
    after = read_tensors(tmp_path / "ours" / "model.safetensors")
    moments = read_tensors(tmp_path / "ours" / "optimizer.safetensors")
    assert {f"adam_{kind}.{name}" for kind in "mv" for name in before} == moments.keys()
    moved = np.abs(after["blocks.0.attention.query.weight"] - before["blocks.0.attention.query.weight"]).max()
    assert 1e-4 < moved < 1e-2  # two steps of Adam at 1e-3 and less


@pytest.mark.parametrize("path", sorted((PLUGIN / "configs").glob("*_*.yaml")), ids=lambda path: path.stem)
def test_a_configuration_says_the_sizes_of_the_model_it_is_named_after(path):
    model = yaml.safe_load(path.read_text(encoding="utf-8"))["model"]
    config = load_model_config(path.stem)
    given = model["model_config"]
    defaults = as_tree(load_model_config("codegeex_13b" if config.family == "codegeex" else "codefuse_13b"))
    assert {key: given.get(key, default) for key, default in defaults.items()} == as_tree(config)
    assert {"num_layers", "hidden_size", "num_heads", "vocab_size", "seq_length", "feed_forward_size"} <= given.keys()
    prefix = {"codegeex": "CodeGeeX", "gpt_neox": "GPTNeoX"}[config.family]
    assert (model["arch"]["type"], given["type"]) == (f"{prefix}ForCausalLM", f"{prefix}Config")


def test_only_the_plugin_imports_mindformers():
    def imports(path):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)

    words = re.compile(r"\bmindformers(_plugin)?\b")
    paths = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    naming = [path for path in paths if "mindformers" in path.read_text(encoding="utf-8")]
    found = {path.parent for path in naming if any(words.search(name) for name in imports(path))}
    assert found == {PLUGIN}
