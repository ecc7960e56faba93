"""Fine-tuning from end to end: a middle is filled in, a Chinese question answered, and both kinds of runs learn."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from mindgeex.cli.main import main
from mindgeex.data.fim import FimRules, cut, encode_document
from mindgeex.data.instructions.encoding import EncodingConfig, encode_task
from mindgeex.data.tokenizers import train_tokenizer
from mindgeex.model_zoo.checkpoints.native import load_model, named_parameters, save_model
from mindgeex.model_zoo.config import ModelConfig
from mindgeex.model_zoo.families import build_model
from mindgeex.model_zoo.lora import adapter_parameters

RULES = FimRules(rate=1.0, spm_rate=0.0)
TAG = "# language: Python"
FUNCTIONS = [
    "def add(a, b):\n    return a + b\n",
    "def greatest(items):\n    return max(items)\n",
    "def 求和(数列):\n    return sum(数列)  # 总和\n",
]
QUESTIONS = {
    "写一个函数，返回输入的平方。": "def 平方(x):\n    return x * x\n",
    "列表怎么反转？": "用 items[::-1]。",
    "怎样读文件？": "open(path).read()",
}
SIZES = {
    "num_layers": 2, "hidden_size": 64, "num_heads": 4, "feed_forward_size": 128, "seq_length": 80, "vocab_size": 448,
    "dropout_rate": 0.0, "init_std": 0.05,
}  # fmt: skip


def write(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def cuts(text: str) -> Iterator[tuple[tuple[str, ...], tuple[str, str, str]]]:
    """Keys, and prefix, middle and suffix that they cut a text into."""
    for number in range(6):
        key = (text, str(number))
        yield key, cut(text, key)


@pytest.fixture(scope="module")
def memorised(tmp_path_factory) -> Path:
    """A checkpoint that has learnt all cuts of three functions, and three Chinese questions, by heart."""
    import mindspore as ms
    from mindspore import nn

    from mindgeex.train.loss import TokenLoss, WeightedLoss

    folder = tmp_path_factory.mktemp("memorised")
    texts = [*FUNCTIONS, *QUESTIONS, *QUESTIONS.values()]
    tokenizer = train_tokenizer(texts * 4, 440, folder / "tokenizer", special=RULES.tokens)
    chat = [{"instruction": question, "output": answer} for question, answer in QUESTIONS.items()]
    config = EncodingConfig(packing=False, heldout_share=0)
    task = encode_task(write(folder / "chat.jsonl", chat), "codefuse", tokenizer, 81, config)
    rows, learnt = task.train.read(range(len(task.train)), 81, tokenizer.eod_id)
    told = [encode_document(text, TAG, tokenizer, RULES, key) for text in FUNCTIONS for key, _ in cuts(text)]
    fim = np.full((len(told), 81), tokenizer.eod_id, np.int32)
    for row, ids in zip(fim, told, strict=True):
        row[: len(ids)] = ids
    rows = np.concatenate([rows, fim])
    weights = np.concatenate([learnt, fim[:, :-1] != tokenizer.eod_id]).astype(np.float32)

    ms.set_context(mode=ms.GRAPH_MODE)
    ms.set_seed(1)
    model = build_model(ModelConfig("codegeex", **SIZES, eod_id=tokenizer.eod_id))
    named = named_parameters(model)
    parameters = ms.ParameterTuple(model.trainable_params())
    optimizer = nn.Adam(parameters, learning_rate=3e-3)
    gradient = ms.value_and_grad(WeightedLoss(TokenLoss(model)), None, parameters)

    @ms.jit
    def step(*arguments):
        loss, gradients = gradient(*arguments)
        return ms.ops.depend(loss, optimizer(gradients))

    scale = ms.Tensor(1 / weights.sum(), ms.float32)
    arguments = (ms.Tensor(rows), ms.Tensor(weights), ms.Tensor(np.zeros(len(rows), np.int32)), scale)
    for _ in range(250):
        loss = float(step(*arguments))
    assert loss < 0.6  # where the texts begin, and where they are cut, cannot be known
    checkpoint = folder / "checkpoint"
    checkpoint.mkdir()
    save_model(checkpoint, model.config, named)
    (folder / "tokenizer").rename(checkpoint / "tokenizer")
    return checkpoint


def generated(capsys, checkpoint: Path, *options: str) -> str:
    code = main(["generate", "--checkpoint", str(checkpoint), "--temperature", "0", "--json", *options])
    captured = capsys.readouterr()
    assert (code, captured.err) == (0, "")
    return json.loads(captured.out)


@pytest.mark.slow
def test_a_middle_is_filled_in_between_a_prompt_and_a_suffix_chinese_too(memorised, capsys) -> None:
    for text in FUNCTIONS:
        candidates = [parts for _, parts in cuts(text) if len(parts[0]) > 3 and len(parts[1]) > 3]
        prefix, middle, suffix = candidates[0]
        made = generated(capsys, memorised, "--prompt", f"{TAG}\n{prefix}", "--suffix", suffix)
        assert (made["text"], made["ended_by"]) == (middle, "eod")
        assert made["suffix"] == suffix
    assert main(["generate", "--checkpoint", str(memorised), "--prompt", "a", "--suffix", "b",
                 "--long-prompts", "truncate"]) == 2  # fmt: skip
    assert "--suffix: cutting from the left" in capsys.readouterr().err


@pytest.mark.slow
def test_a_chinese_question_is_answered(memorised, capsys) -> None:
    for question, answer in QUESTIONS.items():
        made = generated(capsys, memorised, "--prompt", f"<s>human\n{question}\n<s>bot\n")
        assert (made["text"], made["ended_by"]) == (f"{answer}\n", "eod")


@pytest.fixture(scope="module")
def recipe(memorised) -> Path:
    """Pairs to translate, and a recipe of 16 steps that starts from the checkpoint."""
    folder = memorised.parent
    names = ("total", "value", "count", "size")
    pairs = [
        {
            "source_language": "Python",
            "target_language": "Java",
            "source": f"{name} = {i}\n",
            "target": f"int {name} = {i};\n",
        }
        for i in range(20)
        for name in names
    ]
    write(folder / "pairs.jsonl", pairs)
    write(folder / "zh.jsonl", [{"instruction": f"{i}加{i}？", "output": f"答案{2 * i}"} for i in range(40)])
    tree = {
        "init": str(memorised),
        "steps": 16,
        "batch": {"tokens_per_step": 640},
        "schedule": {"peak": 5e-3, "final": 5e-4, "warmup_steps": 2, "decay_steps": 16},
        "finetune": {
            "tasks": [{"name": name, "path": str(folder / f"{name}.jsonl")} for name in ("pairs", "zh")],
            "rows": {"heldout_share": 0.15},
            "balance": "coba",
            "coba": {"warmup_observations": 3, "history_observations": 6},
        },
        "cadence": {"checkpoint_steps": 8, "evaluate_steps": 2},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(tree))
    return folder / "recipe.yaml"


def losses(run: Path) -> list[dict[str, float]]:
    """The tasks' held-out losses, from the first to the last."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["heldout_loss"] for line in lines if "heldout_loss" in line]


@pytest.mark.slow
@pytest.mark.parametrize("lora", [False, True])
def test_a_run_on_two_tasks_lowers_both_held_out_losses_and_resumes_digit_for_digit(recipe, tmp_path, lora) -> None:
    settings = ["lora={rank: 8, targets: [query, value, up, down], dropout: 0.1}"] if lora else []

    def train(out: str, *options: str) -> Path:
        command = ["train", "--recipe", str(recipe), "--out", str(tmp_path / out), *options]
        assert main([*command, *(["--set", *settings] if settings else [])]) == 0
        return tmp_path / out

    run = train("whole")
    measured = losses(run)
    assert all(measured[-1][task] < 0.8 * measured[0][task] for task in ("pairs", "zh"))
    last = run / "checkpoints" / "step-00000016"
    assert (last / "adapter.safetensors").is_file() == lora
    assert (last / "model.safetensors").is_file() != lora
    balance = json.loads((last / "state.json").read_text())["progress"]["feed"]
    assert balance["observations"] == 9
    assert balance["task_weights"] != [0.5, 0.5]

    (tmp_path / "halved").mkdir()
    for name in ("run.yaml", "checkpoints/step-00000008"):
        source, target = run / name, tmp_path / "halved" / name
        target.parent.mkdir(exist_ok=True)
        target.symlink_to(source)
    again = train("halved", "--resume") / "checkpoints" / "step-00000016"
    for file in ("optimizer.safetensors", "adapter.safetensors" if lora else "model.safetensors"):
        assert (again / file).read_bytes() == (last / file).read_bytes()
    assert json.loads((again / "state.json").read_text())["progress"]["feed"] == balance

    model = load_model(last)
    assert adapter_parameters(model) == {}
    if lora:
        base = named_parameters(load_model(recipe.parent / "checkpoint"))
        merged = named_parameters(model)
        same = [name for name in base if np.array_equal(base[name].asnumpy(), merged[name].asnumpy())]
        assert {name for name in base if name.endswith((".key.weight", ".bias", "embedding.weight"))} <= set(same)
        assert not {name for name in base if name.endswith((".query.weight", ".down.weight"))} & set(same)
