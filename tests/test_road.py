"""The whole road for real: a small model learns a handful of problems by heart, and then solves them in the sandbox."""

import json

import pytest
import yaml

from mindgeex.data.languages import language_tag
from mindgeex.eval.benchmarks.humaneval_x import HUMANEVAL_X
from tests.train.conftest import run

MODEL = {
    "family": "codegeex",
    "num_layers": 3,
    "hidden_size": 64,
    "num_heads": 4,
    "feed_forward_size": 256,
    "vocab_size": 512,
    "seq_length": 320,
    "dropout_rate": 0.0,
    "init_std": 0.02,
    "eod_id": 0,
}
SUFFIXES = {"python": "py", "cpp": "cpp"}
MARKS = {"python": "#", "cpp": "//"}


def write_repositories(folder, problems):
    """Each problem's prompt and solution as a file; two repositories of the same sort, since one is held out."""
    for name, comment in (("first", ""), ("second", "\n# the same again, held out\n")):
        for number, problem in enumerate(problems):
            file = folder / name / f"problem{number}.{SUFFIXES[problem.language]}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(problem.prompt + problem.canonical_solution + comment.replace("#", MARKS[problem.language]))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.toolchain
def test_a_model_that_knows_the_problems_by_heart_scores_one(tmp_path):
    problems = HUMANEVAL_X.load(("python", "cpp")).problems
    assert len(problems) >= 10
    write_repositories(tmp_path / "code", problems)
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(MODEL))
    recipe = {
        "model": str(tmp_path / "model.yaml"),
        "steps": 100,
        "batch": {"tokens_per_step": len(problems) * MODEL["seq_length"]},
        "schedule": {"peak": 4e-3, "final": 4e-4, "warmup_steps": 10, "decay_steps": 100},
        "cadence": {"checkpoint_steps": 100, "evaluate_steps": 100, "heldout_rows": 2},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))

    def step(*arguments):
        result = run(*arguments)
        assert result.returncode == 0, result.stderr
        return result.stdout

    step(
        "data", "build", "--source", f"local:{tmp_path}/code", "--out", tmp_path / "corpus", "--workers", 1,
        "--set", "heldout_share=0.5", "seq_length=320", "tokenizer.vocab_size=512", "rows.packing=windows",
        "rows.window_stride=320", "rules.min_bytes=1", "dedup.near=false",
    )  # fmt: skip
    step("train", "--data", tmp_path / "corpus", "--recipe", tmp_path / "recipe.yaml", "--out", tmp_path / "run")
    prompt = f"{language_tag('python')}\n{problems[0].prompt}"
    told = step("generate", "--checkpoint", tmp_path / "run", "--prompt", prompt, "--temperature", 0)
    assert problems[0].canonical_solution.strip() in told
    printed = step(
        "eval", "run", "humaneval-x", "--checkpoint", tmp_path / "run", "--temperature", 0, "--max-new-tokens", 200,
        "--languages", "python", "cpp", "--rules", "codegeex", "--out", tmp_path / "eval",
    )  # fmt: skip
    assert printed.count("pass@1 = 100") == 2, printed
    score = json.loads((tmp_path / "eval" / "score.json").read_text())
    assert len((tmp_path / "eval" / "results.jsonl").read_text().splitlines()) == len(problems), score
    assert score["model"]["weights_sha256"] and score["stages"]["generating"]["wall_s"] > 0
    translated = step(
        "eval", "run", "humaneval-x-translation", "--languages", "cpp-python", "--checkpoint", tmp_path / "run",
        "--temperature", 0, "--max-new-tokens", 16, "--rules", "codegeex", "--out", tmp_path / "translated",
    )  # fmt: skip
    assert "C++ to Python: 6/6 canonical solutions pass" in translated and "pass@1 = " in translated
    assert len((tmp_path / "translated" / "samples.jsonl").read_text().splitlines()) == 6
