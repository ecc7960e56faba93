"""Other systems' checkpoints as our models, read as `mindgeex convert` reads them.

So the tests of the networks also show that real checkpoints would load and answer right.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import mindspore as ms
import yaml

from mindgeex.common.config import as_tree
from mindgeex.model_zoo.checkpoints.casting import cast
from mindgeex.model_zoo.checkpoints.source import open_source
from mindgeex.model_zoo.checkpoints.tensors import FLOATS
from mindgeex.model_zoo.config import ComputeConfig, ModelConfig
from mindgeex.model_zoo.families import build_model


def load_foreign(path: Path, config: ModelConfig | None = None, compute: ComputeConfig | None = None):
    """The model in inference mode, its weights cast to float32; `config` for files that do not say their sizes."""
    with TemporaryDirectory() as folder:
        sizes = Path(folder) / "model.yaml"
        if config is not None:
            sizes.write_text(yaml.safe_dump(as_tree(config)))
        source = open_source(path, model=str(sizes) if config is not None else "")
    model = build_model(source.config, compute).set_train(False)
    tensors = source.tensors()
    parameters = {parameter.name: parameter for parameter in model.get_parameters()}
    assert {name: tensor.shape for name, tensor in tensors.items()} == {n: p.shape for n, p in parameters.items()}
    for name, parameter in parameters.items():
        parameter.set_data(ms.Tensor(cast(tensors[name].read(), FLOATS["float32"])[0]))
    return model
