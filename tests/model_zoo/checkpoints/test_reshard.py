"""Rank files: cut as MindSpore cuts them, merged and cut anew bit for bit, and refused when they do not fit."""

import json
import resource
import shutil

import numpy as np
import pytest

from mindgeex.common.errors import UserError
from mindgeex.model_zoo.checkpoints.containers.mindspore_file import MindSporeWriter
from mindgeex.model_zoo.checkpoints.convert import ConvertOptions, convert
from mindgeex.model_zoo.checkpoints.formats import read_tensors
from mindgeex.model_zoo.checkpoints.layout import SPLIT_DIMS, Layout, parse_layout, slice_shape, split_dim
from mindgeex.model_zoo.checkpoints.tensors import TensorRef, TensorSpec
from tests.model_zoo.checkpoints.checkpoint import (
    assert_same,
    codegeex,
    gpt_neox,
    random_tensors,
    read_ours,
    write_ours,
    write_sizes,
)

SIXTEEN = Layout(dp=4, mp=4, optimizer_shard=2)
TRANSPOSED = ("attention.output.weight", "feed_forward.up.weight", "feed_forward.down.weight")


@pytest.fixture
def source(tmp_path):
    return write_ours(tmp_path / "source", codegeex(), random_tensors(codegeex()))


def write_ckpt(path, tensors):
    path.parent.mkdir(parents=True, exist_ok=True)
    specs = {name: TensorSpec(array.shape, array.dtype) for name, array in tensors.items()}
    with MindSporeWriter(path, specs) as writer:
        for name, array in tensors.items():
            writer.write(name, array)


def read_rank(folder, rank):
    return {name: t.read() for name, t in read_tensors("mindspore", folder / f"rank_{rank}" / "model.ckpt").items()}


def part_of(array, dim, rank, layout):
    """What a rank holds, by the words of the documentation and not by the converter's code."""
    d, m = divmod(rank, layout.mp)
    if dim is not None:
        array = np.split(array, layout.mp, dim)[m]
    place = rank if dim is None else d
    if array.shape[0] % layout.optimizer_shard:
        return array
    return np.split(array, layout.optimizer_shard)[place % layout.optimizer_shard]


def test_sixteen_files_merge_to_the_original_and_split_to_another_layout(tmp_path):
    """Files as the original names them, cut here by hand."""
    tensors = random_tensors(codegeex())
    moments = {f"adam_m.{name}": array * 2 for name, array in tensors.items()}
    for rank in range(16):
        parts = {
            name: part_of(array, split_dim(name, SPLIT_DIMS), rank, SIXTEEN)
            for name, array in {**tensors, **moments}.items()
        }
        state = {"global_step": np.array([7], np.int32), "epoch_num": np.array(1, np.int32)}
        write_ckpt(tmp_path / "ranks" / f"rank_{rank}" / f"code-13B{rank}_22-250_2.ckpt", {**parts, **state})
    sizes = str(write_sizes(tmp_path / "sizes", codegeex()))
    options = ConvertOptions(from_layout=SIXTEEN, model=sizes)
    report = convert(tmp_path / "ranks", tmp_path / "whole", "mindgeex", options)
    assert_same(read_ours(tmp_path / "whole"), tensors)
    assert report.dropped == {"moments": len(tensors), "training state and buffers": 2}
    eight = ConvertOptions(from_layout=SIXTEEN, model=sizes, layout=Layout(2, 8))
    convert(tmp_path / "ranks", tmp_path / "eight", "mindspore", eight)
    assert json.loads((tmp_path / "eight" / "layout.json").read_text()) == {
        "dp": 2, "mp": 8, "optimizer_shard": 1, "format": "mindspore"
    }  # fmt: skip
    for rank in range(16):
        parts = {n: part_of(a, split_dim(n, SPLIT_DIMS), rank, Layout(2, 8)) for n, a in tensors.items()}
        assert_same(read_rank(tmp_path / "eight", rank), parts)
    convert(tmp_path / "eight", tmp_path / "again", "mindgeex")
    assert_same(read_ours(tmp_path / "again"), tensors)


def test_the_dim_of_a_transposed_name_turns_with_it(tmp_path, source):
    tensors = random_tensors(codegeex())
    convert(source, tmp_path / "ranks", "codegeex-mindspore", ConvertOptions(layout=SIXTEEN))
    up = tensors["blocks.0.feed_forward.up.weight"].T
    for rank in range(16):
        found = read_rank(tmp_path / "ranks", rank)["backbone.blocks.0.output.mapping.weight"]
        assert np.array_equal(found, part_of(up, 1, rank, SIXTEEN))


@pytest.mark.parametrize("layout", [SIXTEEN, Layout(2, 8), Layout(8, 1, 4), Layout(1, 4), Layout(4, 2, 4)], ids=str)
@pytest.mark.parametrize("form", ["mindspore", "codegeex-mindspore"])
def test_mindspore_merges_what_we_cut_and_we_merge_what_mindspore_cuts(tmp_path, source, layout, form):
    import mindspore as ms

    convert(source, tmp_path / "whole.ckpt", form)
    convert(source, tmp_path / "ours", form, ConvertOptions(layout=layout))
    whole = {name: tensor.read() for name, tensor in read_tensors("mindspore", tmp_path / "whole.ckpt").items()}
    strategy = write_strategy(tmp_path / "strategy.ckpt", whole, layout)
    (tmp_path / "ours" / "layout.json").unlink()
    (tmp_path / "ours" / "conversion.json").unlink()
    ms.transform_checkpoints(str(tmp_path / "ours"), str(tmp_path / "merged"), "x", strategy, None)
    merged = next((tmp_path / "merged" / "rank_0").glob("*.ckpt"))
    assert_same({name: tensor.read() for name, tensor in read_tensors("mindspore", merged).items()}, whole)

    (tmp_path / "one" / "rank_0").mkdir(parents=True)
    shutil.copy(tmp_path / "whole.ckpt", tmp_path / "one" / "rank_0" / "model.ckpt")
    ms.transform_checkpoints(str(tmp_path / "one"), str(tmp_path / "cut"), "model", None, strategy)
    options = ConvertOptions(from_layout=layout, model=str(write_sizes(tmp_path / "sizes", codegeex())))
    convert(tmp_path / "cut", tmp_path / "back", "mindgeex", options)
    assert_same(read_ours(tmp_path / "back"), random_tensors(codegeex()))


def write_strategy(path, whole, layout):
    """MindSpore's own description of a layout: a device matrix [dp, mp] and who lies along it, for every tensor."""
    from mindspore.train.node_strategy_pb2 import ParallelStrategyMap

    strategy = ParallelStrategyMap(current_stage=0)
    for name, array in whole.items():
        ours = to_ours(name)
        dim = split_dim(ours, SPLIT_DIMS)
        if dim is not None and ours.endswith(TRANSPOSED) and name.startswith("backbone."):
            dim = 1 - dim
        item = strategy.parallel_layout_item.add()
        item.param_name = name
        layouts = item.parallel_layouts
        layouts.field = layouts.opt_weight_shard_step = layouts.opt_weight_shard_size = 0
        layouts.dev_matrix.add().dim.extend([layout.dp, layout.mp])
        layouts.tensor_map.add().dim.extend([0 if axis == dim else -1 for axis in range(array.ndim)])
        rows = array.shape[0] // (layout.mp if dim == 0 else 1)
        layouts.param_split_shape.add()
        layouts.indices_offset.add()
        if layout.optimizer_shard > 1 and rows % layout.optimizer_shard == 0:
            layouts.opt_weight_shard_step = 1 if dim is None else layout.mp
            layouts.opt_weight_shard_size = layout.optimizer_shard
    path.write_bytes(strategy.SerializeToString())
    return str(path)


def to_ours(name):
    from mindgeex.model_zoo.checkpoints.formats import FORMATS

    form = "codegeex-mindspore" if name.startswith("backbone.") else "mindspore"
    return next(row.ours[0] for row in FORMATS[form].rows(codegeex()) if row.stored == name)


def test_absent_replicas_are_no_loss_and_said(tmp_path, source):
    convert(source, tmp_path / "ranks", "mindspore", ConvertOptions(layout=SIXTEEN))
    for rank in range(8, 16):
        shutil.rmtree(tmp_path / "ranks" / f"rank_{rank}")
    report = convert(tmp_path / "ranks", tmp_path / "whole", "mindgeex")
    assert_same(read_ours(tmp_path / "whole"), random_tensors(codegeex()))
    assert report.absent_ranks == tuple(range(8, 16))
    assert "8; every slice" in report.summary()["absent ranks"]


def test_a_slice_on_no_rank_is_named_with_the_ranks_that_would_hold_it(tmp_path, source):
    convert(source, tmp_path / "ranks", "mindspore", ConvertOptions(layout=SIXTEEN))
    for rank in (3, 11):
        shutil.rmtree(tmp_path / "ranks" / f"rank_{rank}")
    with pytest.raises(UserError, match=r"a part of .* lies on no rank that is there: add the files of rank 3 or 11"):
        convert(tmp_path / "ranks", tmp_path / "whole", "mindgeex")
    assert not (tmp_path / "whole").exists()


@pytest.mark.parametrize("name", ["final_norm.gamma", "blocks.0.attention.query.weight"])
def test_a_copy_that_differs_is_named_by_rank_and_tensor(tmp_path, source, name):
    convert(source, tmp_path / "ranks", "mindspore", ConvertOptions(layout=Layout(2, 2)))
    tensors = read_rank(tmp_path / "ranks", 2)
    tensors[name].reshape(-1)[1] += 1
    write_ckpt(tmp_path / "ranks" / "rank_2" / "model.ckpt", tensors)
    with pytest.raises(UserError, match=rf"rank_2: {name} differs from its copy on rank 0"):
        convert(tmp_path / "ranks", tmp_path / "whole", "mindgeex")
    assert not (tmp_path / "whole").exists()


def test_slices_that_stayed_whole_are_told_by_their_shape(tmp_path):
    """As CodeGeeX's biases and layer norms, which its optimizer shard leaves alone."""
    tensors, layout = random_tensors(codegeex()), Layout(2, 2, 2)
    for rank in range(4):
        parts = {
            name: part_of(array, split_dim(name, SPLIT_DIMS), rank, layout if array.ndim == 2 else Layout(2, 2))
            for name, array in tensors.items()
        }
        write_ckpt(tmp_path / "ranks" / f"rank_{rank}" / "x.ckpt", parts)
    sizes = str(write_sizes(tmp_path / "sizes", codegeex()))
    convert(tmp_path / "ranks", tmp_path / "whole", "mindgeex", ConvertOptions(from_layout=layout, model=sizes))
    assert_same(read_ours(tmp_path / "whole"), tensors)


def test_pieces_that_were_numbered_along_dp_are_told_by_their_copies(tmp_path):
    tensors = random_tensors(codegeex())
    for rank in range(16):
        parts = {}
        for name, array in tensors.items():
            dim = split_dim(name, SPLIT_DIMS)
            share = array if dim is None else np.split(array, 4, dim)[rank % 4]
            parts[name] = np.split(share, 2)[rank // 4 % 2]
        write_ckpt(tmp_path / "ranks" / f"rank_{rank}" / "x.ckpt", parts)
    sizes = str(write_sizes(tmp_path / "sizes", codegeex()))
    options = ConvertOptions(from_layout=SIXTEEN, model=sizes)
    convert(tmp_path / "ranks", tmp_path / "whole", "mindgeex", options)
    assert_same(read_ours(tmp_path / "whole"), tensors)
    parts["final_norm.beta"] = parts["final_norm.beta"] + 1
    write_ckpt(tmp_path / "ranks" / "rank_15" / "x.ckpt", parts)
    with pytest.raises(UserError, match="final_norm.beta differs from its copy on rank"):
        convert(tmp_path / "ranks", tmp_path / "again", "mindgeex", options)


def test_rows_that_the_optimizer_shard_does_not_divide_stay_whole(tmp_path):
    config = codegeex(num_heads=2, hidden_size=18, seq_length=7)
    tensors = random_tensors(config)
    source = write_ours(tmp_path / "source", config, tensors)
    convert(source, tmp_path / "ranks", "mindspore", ConvertOptions(layout=Layout(4, 1, 4)))
    found = read_rank(tmp_path / "ranks", 1)
    assert found["position_embedding.weight"].shape == (7, 18)
    assert found["word_embedding.weight"].shape == (8, 18)
    convert(tmp_path / "ranks", tmp_path / "whole", "mindgeex")
    assert_same(read_ours(tmp_path / "whole"), tensors)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (Layout(2, 2), r"rank_0: word_embedding.weight has shape \[4, 16\], the model's is \[16, 16\] in the layout"),
        (Layout(2, 4), r"has rank_15, but dp=2,mp=4,shard=1 has ranks 0 to 7"),
    ],
    ids=str,
)
def test_a_layout_that_does_not_match_the_files_is_refused_with_both_shapes(tmp_path, source, layout, message):
    convert(source, tmp_path / "ranks", "mindspore", ConvertOptions(layout=SIXTEEN))
    if layout == Layout(2, 2):
        for rank in range(4, 16):
            shutil.rmtree(tmp_path / "ranks" / f"rank_{rank}")
    with pytest.raises(UserError, match=message):
        convert(tmp_path / "ranks", tmp_path / "whole", "mindgeex", ConvertOptions(from_layout=layout))


def test_ranks_of_a_larger_cluster_may_be_absent(tmp_path, source):
    """16 of 32 ranks that hold every slice."""
    convert(source, tmp_path / "ranks", "mindspore", ConvertOptions(layout=SIXTEEN))
    larger = ConvertOptions(from_layout=Layout(8, 4, 2))
    assert len(convert(tmp_path / "ranks", tmp_path / "whole", "mindgeex", larger).absent_ranks) == 16
    assert_same(read_ours(tmp_path / "whole"), random_tensors(codegeex()))


def test_moments_are_kept_with_their_parameter_on_request(tmp_path):
    tensors = random_tensors(gpt_neox())
    source = write_ours(tmp_path / "source", gpt_neox(), tensors)
    moments = {
        f"{prefix}.{name}": array * scale
        for prefix, scale in (("adam_m", np.float32(2)), ("adam_v", np.float32(3)))
        for name, array in tensors.items()
    }
    from safetensors.numpy import load_file, save_file

    save_file(moments, source / "optimizer.safetensors")
    keep = ConvertOptions(moments=True, layout=Layout(2, 2, 2), dtype="float16")
    report = convert(source, tmp_path / "ranks", "mindspore", keep)
    assert report.dropped["moments"] == 0
    found = read_rank(tmp_path / "ranks", 3)
    assert len(found) == 3 * len(tensors)
    assert found["blocks.0.attention.key.weight"].dtype == np.float16
    name = "adam_v.blocks.0.attention.key.weight"
    assert found[name].dtype == np.float32
    assert np.array_equal(found[name], part_of(moments[name], 0, 3, Layout(2, 2, 2)))
    convert(tmp_path / "ranks", tmp_path / "ours", "mindgeex", ConvertOptions(moments=True, dtype="float32"))
    assert_same(load_file(tmp_path / "ours" / "optimizer.safetensors"), moments)
    plain = convert(tmp_path / "ranks", tmp_path / "plain", "mindgeex")
    assert plain.dropped["moments"] == 2 * len(tensors)
    assert not (tmp_path / "plain" / "optimizer.safetensors").exists()


def test_step_counters_go_with_the_moments_between_mindspore_files(tmp_path):
    tensors = random_tensors(codegeex())
    moments = {f"{prefix}.{name}": array for prefix in ("adam_m", "adam_v") for name, array in tensors.items()}
    state = {"global_step": np.array([41], np.int32), "scale_sense": np.array(1024.0, np.float32)}
    write_sizes(tmp_path / "in", codegeex())
    write_ckpt(tmp_path / "in" / "model.ckpt", {**tensors, **moments, **state})
    convert(tmp_path / "in", tmp_path / "out.ckpt", "codegeex-mindspore", ConvertOptions(moments=True))
    found = read_tensors("mindspore", tmp_path / "out.ckpt")
    assert found["global_step"].read() == [41]
    assert found["scale_sense"].read() == 1024.0
    assert found["adam_m.backbone.embedding.word_embedding.embedding_table"].shape == (32, 16)


def test_the_limit_of_open_files_is_raised_when_ranks_need_it_and_put_back(tmp_path, source):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    try:
        convert(source, tmp_path / "many", "mindspore", ConvertOptions(layout=Layout(32, 4, 2)))
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (64, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    convert(tmp_path / "many", tmp_path / "whole", "mindgeex")
    assert_same(read_ours(tmp_path / "whole"), random_tensors(codegeex()))


@pytest.mark.parametrize("text", ["", "dp", "dp=2;mp=2", "dp=-1", "dp=2,dp=3", "pp=2", "dp=2,mp=x"])
def test_a_layout_is_typed_as_the_message_shows(text):
    with pytest.raises(UserError, match="write it as dp=4,mp=4,shard=2"):
        parse_layout(text, "--layout")


def test_sizes_of_a_layout():
    assert parse_layout("mp=8, dp=192,shard=16", "--layout") == Layout(192, 8, 16)
    assert parse_layout("mp=2", "x") == Layout(1, 2, 1)
    with pytest.raises(UserError, match="dp=3 is not divisible by optimizer_shard=2"):
        Layout(3, 1, 2)
    with pytest.raises(UserError, match="dp=0: it must be at least 1"):
        parse_layout("dp=0", "x")
    with pytest.raises(UserError, match=r"dim 1 cannot be split over mp=3"):
        slice_shape("blocks.0.feed_forward.down.weight", (16, 64), 3, SPLIT_DIMS)


def test_the_layout_of_codegeex_13b_gives_the_published_parameters_a_device():
    from mindgeex.model_zoo.config import load_model_config

    shapes = load_model_config("codegeex_13b").shapes
    held = sum(int(np.prod(slice_shape(name, shape, 8, SPLIT_DIMS))) for name, shape in shapes.items())
    assert held == 1_628_677_120


def test_ranks_that_hold_a_tensor_in_different_types_are_refused(tmp_path, source):
    convert(source, tmp_path / "ranks", "mindspore", ConvertOptions(layout=Layout(2, 2)))
    tensors = read_rank(tmp_path / "ranks", 3)
    tensors["final_norm.beta"] = tensors["final_norm.beta"].astype(np.float16)
    write_ckpt(tmp_path / "ranks" / "rank_3" / "model.ckpt", tensors)
    match = r"rank_3: final_norm.beta is float16\[16\], in the first rank's file float32\[16\]: check --from-layout"
    with pytest.raises(UserError, match=match):
        convert(tmp_path / "ranks", tmp_path / "whole", "mindgeex")


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("codegeex-mindspore", ConvertOptions(layout=SIXTEEN)),
        ("megatron", ConvertOptions(layout=Layout(mp=2), fused_qkv=True)),
    ],
)
def test_every_stored_tensor_is_read_once(tmp_path, source, monkeypatch, form, options):
    from mindgeex.model_zoo.checkpoints import source as module

    convert(source, tmp_path / "in", form, options)
    reads, read_files = {}, module.read_tensors

    def counting(container, path):
        def counted(name, tensor):
            reads[path, name] = 0

            def read():
                reads[path, name] += 1
                return tensor.read()

            return TensorRef(tensor.spec, read)

        return {name: counted(name, tensor) for name, tensor in read_files(container, path).items()}

    monkeypatch.setattr(module, "read_tensors", counting)
    convert(tmp_path / "in", tmp_path / "out", "mindspore", ConvertOptions(layout=Layout(2, 8)))
    assert len(reads) >= 2 * 30
    assert set(reads.values()) == {1}


def test_a_layout_that_does_not_divide_the_input_is_told_with_its_place(tmp_path, source):
    convert(source, tmp_path / "in", "mindspore", ConvertOptions(layout=Layout(mp=2)))
    options = ConvertOptions(from_layout=Layout(mp=3))
    with pytest.raises(UserError, match=r"in/rank_0: word_embedding.weight .*: dim 0 cannot be split over mp=3"):
        convert(tmp_path / "in", tmp_path / "out", "mindgeex", options)
