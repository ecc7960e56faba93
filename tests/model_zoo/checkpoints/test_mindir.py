"""MINDIR: what is exported loads in another process and gives the model's logits, or is not published."""

import subprocess
import sys

import mindspore as ms
import numpy as np
import pytest

from mindgeex.common.errors import UserError
from mindgeex.model_zoo.checkpoints import mindir
from mindgeex.model_zoo.checkpoints.convert import ConvertOptions, convert
from mindgeex.model_zoo.checkpoints.native import load_model
from tests.model_zoo.checkpoints.checkpoint import codegeex, gpt_neox, random_tensors, write_ours

RUN = """
import sys
import mindspore as ms, numpy as np
from mindspore import nn
graph = nn.GraphCell(ms.load(sys.argv[1]))
np.save(sys.argv[3], graph(ms.Tensor(np.load(sys.argv[2]))).asnumpy())
"""


@pytest.mark.parametrize("make", [codegeex, gpt_neox])
def test_the_graph_gives_the_models_logits_in_another_process(tmp_path, make):
    source = write_ours(tmp_path / "source", make(), random_tensors(make()))
    report = convert(source, tmp_path / "graph", "mindir")
    assert report.logits_difference < 1e-4
    assert "logits differ by at most" in report.summary()["check"]
    ids = np.array([[3, 5, 1, 7, 9, 1, 2, 30]], np.int32)
    np.save(tmp_path / "ids.npy", ids)
    command = [sys.executable, "-c", RUN, tmp_path / "graph" / "model.mindir", tmp_path / "ids.npy", tmp_path / "found"]
    subprocess.run(command, check=True, capture_output=True)
    wanted = load_model(source)(ms.Tensor(ids), ms.Tensor(0, ms.int32)).asnumpy()
    assert np.abs(wanted).max() > 0.1
    assert np.abs(np.load(tmp_path / "found.npy") - wanted).max() < 1e-4
    with pytest.raises(UserError, match="a MINDIR graph cannot be converted"):
        convert(tmp_path / "graph", tmp_path / "back", "mindgeex")


def test_a_graph_that_gives_other_logits_is_not_published(tmp_path, monkeypatch):
    source = write_ours(tmp_path / "source", codegeex(), random_tensors(codegeex()))

    def other(model):
        cell = logits_of(model)
        cell.model.final_norm.beta.set_data(cell.model.final_norm.beta + 1)
        return cell

    logits_of = mindir._logits_of
    monkeypatch.setattr(mindir, "_logits_of", other)
    with pytest.raises(UserError, match="the exported graph's logits differ from the model's by"):
        convert(source, tmp_path / "graph", "mindir")
    assert not (tmp_path / "graph").exists()


def test_half_precision_is_refused(tmp_path):
    source = write_ours(tmp_path / "source", codegeex(), random_tensors(codegeex()))
    with pytest.raises(UserError, match="mindir is exported in float32"):
        convert(source, tmp_path / "graph", "mindir", ConvertOptions(dtype="float16"))
