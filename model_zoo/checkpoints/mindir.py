"""MINDIR: the graph ids [1, S] -> logits [1, S, V] with its weights, as MindSpore Lite runs it.

The window is the model's whole window, S = seq_length: shorter prompts are filled up behind, which changes nothing
before. What was exported is loaded anew and must give the model's logits. Covers: both families in float32; weights of
more than 1 GB, which MindSpore writes to model_variables/ beside model_graph.mindir (run with 2.4 GB: 7.9 GB of
memory). Does not cover: a key/value cache, half precision, models larger than memory: MindSpore builds the graph with
all weights in it.
"""

import time
from pathlib import Path

import numpy as np

from mindgeex.common.errors import UserError
from mindgeex.model_zoo.checkpoints.formats import Format
from mindgeex.model_zoo.checkpoints.report import Report, TensorRecord
from mindgeex.model_zoo.checkpoints.source import Source

TOLERANCE = 1e-4
"""Largest difference of a logit between the exported graph and the model, in float32."""
STEM = "model"


def export_mindir(source: Source, target: Path, folder: Path, form: Format) -> Report:
    """Exports into a folder, loads the export back and compares.

    Args:
        source: the checkpoint.
        target: where the folder will be published, for messages.
        folder: where to write.
        form: the format's description.

    Raises:
        UserError: the exported graph gives other logits than the model.
    """
    import mindspore as ms
    from mindspore import nn

    start = time.monotonic()
    model = _build(source)
    sizes = source.config
    rng = np.random.default_rng(0)
    ids = ms.Tensor(rng.integers(0, sizes.vocab_size, (1, sizes.seq_length)).astype(np.int32))
    wanted = model(ids, ms.Tensor(0, ms.int32)).asnumpy()
    ms.export(_logits_of(model), ids, file_name=str(folder / STEM), file_format="MINDIR")
    graph = folder / f"{STEM}.mindir"
    graph = graph if graph.is_file() else folder / f"{STEM}_graph.mindir"
    found = nn.GraphCell(ms.load(str(graph)))(ids).asnumpy()
    difference = float(np.abs(found - wanted).max())
    if not difference <= TOLERANCE:
        raise UserError(
            f"{target}: the exported graph's logits differ from the model's by {difference:.2e}, more than "
            f"{TOLERANCE:.0e}: not published; report this with the model's sizes"
        )
    rows = form.rows(sizes)
    return Report(
        source=str(source.path),
        target=str(target),
        from_format=source.form.name,
        to_format=form.name,
        from_layout=str(source.ranks.layout),
        to_layout="graph",
        dtype="float32",
        files=0,  # counted when all of them are there
        values=sizes.parameters,
        bytes=4 * sizes.parameters,
        seconds=time.monotonic() - start,
        tensors=tuple(
            TensorRecord(row.ours, row.ours, row.stored, sizes.shapes[row.stored], "float32", 1, ()) for row in rows
        ),
        dropped=source.dropped(),
        absent_ranks=tuple(source.ranks.absent),
        logits_difference=difference,
        notes=tuple(source.notes),
    )


def _build(source: Source):
    """The network with the checkpoint's weights as float32, in inference mode."""
    import mindspore as ms
    from mindspore.nn.utils import no_init_parameters

    from mindgeex.model_zoo.families import build_model

    with no_init_parameters():
        model = build_model(source.config)
    tensors = source.tensors()
    for parameter in model.get_parameters():
        parameter.set_data(ms.Tensor(tensors[parameter.name].read().astype(np.float32)))
    return model.set_train(False)


def _logits_of(model):
    """A cell of ids alone: the seed of dropout, which inference does not use, is fixed."""
    import mindspore as ms
    from mindspore import Tensor, nn

    class Logits(nn.Cell):
        """Ids [1, S] int32 -> logits [1, S, V]."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model
            self.seed = Tensor(0, ms.int32)

        def construct(self, ids_BS: Tensor) -> Tensor:
            """Ids [1, S] int32 -> logits [1, S, V]."""
            return self.model(ids_BS, self.seed)

    return Logits().set_train(False)
