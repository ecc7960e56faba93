"""Both engines of the Decoder give the whole network's logits: any lengths, any batch, any order of rows."""

import logging
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import mindspore as ms
import numpy as np
import pytest

from mindgeex.model_zoo import shared_library
from mindgeex.model_zoo.config import ComputeConfig, ModelConfig
from mindgeex.model_zoo.decoding.cache import Decoder
from mindgeex.model_zoo.decoding.graph import GraphDecoder
from mindgeex.model_zoo.decoding.kernels import native
from mindgeex.model_zoo.decoding.kernels.decoder import PIECE, NativeDecoder
from mindgeex.model_zoo.decoding.kernels.native import library_file
from mindgeex.model_zoo.families import build_model
from mindgeex.model_zoo.shared_library import CannotCompile

NO_SEED = ms.Tensor(0, ms.int32)
WINDOW, VOCABULARY = 100, 97
ODD_SIZES = {"num_layers": 2, "hidden_size": 36, "num_heads": 3, "feed_forward_size": 50}
"""No multiple of the sixteen values that the C++ takes at a time."""
VARIANTS = {
    "codegeex": {"family": "codegeex"},
    "gpt_neox": {"family": "gpt_neox", "activation": "gelu"},
    "sequential": {"family": "gpt_neox", "activation": "gelu_tanh", "parallel_residual": False, "rotary_pct": 0.5},
}
needs_compiler = pytest.mark.toolchain


def model_of(seed=1, compute=None, **sizes):
    ms.set_context(mode=ms.GRAPH_MODE)
    config = ModelConfig(
        **{**ODD_SIZES, **sizes}, vocab_size=VOCABULARY, seq_length=WINDOW, dropout_rate=0.0, init_std=0.2, eod_id=-1
    )
    model = build_model(config, compute).set_train(False)
    generator = np.random.default_rng(seed)  # biases and norms that are not their initial zeros and ones
    for parameter in model.get_parameters():
        noise = generator.normal(0, 0.2, parameter.shape).astype(np.float32)
        parameter.set_data(ms.Tensor(noise + (parameter.name.endswith("gamma"))))
    return model


@pytest.fixture(scope="module", params=VARIANTS)
def model(request):
    return model_of(**VARIANTS[request.param])


@pytest.fixture(scope="module")
def one_model():
    return model_of(**VARIANTS["gpt_neox"])


@pytest.fixture(params=[NativeDecoder, GraphDecoder])
def decoder(request, model):
    if request.param is NativeDecoder:
        skip_without_library()
    return request.param(model)


@pytest.fixture
def native_decoder(one_model):
    skip_without_library()
    return NativeDecoder(one_model)


def skip_without_library():
    try:
        native.load_library()
    except CannotCompile as reason:
        pytest.skip(str(reason))


def whole(model, rows):
    """The whole network's logits of each row's last token, rows padded on the right."""
    ids = np.zeros((len(rows), WINDOW), np.int32)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
    logits = model(ms.Tensor(ids), NO_SEED).asnumpy()
    return np.stack([logits[index, len(row) - 1] for index, row in enumerate(rows)])


def some_ids(*lengths, seed=0):
    generator = np.random.default_rng(seed)
    return [generator.integers(0, VOCABULARY, length).tolist() for length in lengths]


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4)


@needs_compiler
def test_prompts_of_any_lengths_and_then_steps_give_the_whole_networks_logits(decoder, model):
    rows = some_ids(PIECE + 17, 1, 40)
    close(decoder.prefill(rows), whole(model, rows))
    for step in range(18):  # the first row's window is full before the last step
        rows = [[*row, (step * 7 + index) % VOCABULARY] for index, row in enumerate(rows)]
        close(decoder.step(np.array([row[-1] for row in rows], np.int32)), whole(model, rows))
    assert decoder.lengths.tolist() == [99, 19, 58]


@needs_compiler
@pytest.mark.parametrize("order", [[2, 0, 1], [1, 1, 1], [1], [2, 2, 0, 1, 0]])
def test_rows_are_reordered_copied_and_left_out(native_decoder, one_model, order):
    rows = some_ids(20, 33, 5)
    native_decoder.prefill(rows)
    native_decoder.reorder(order)
    rows = [[*rows[source], index] for index, source in enumerate(order)]
    close(native_decoder.step(np.arange(len(order), dtype=np.int32)), whole(one_model, rows))
    assert native_decoder.lengths.tolist() == [len(row) for row in rows]


def test_the_graphs_rows_are_reordered_too(one_model):
    decoder, rows = GraphDecoder(one_model), some_ids(20, 33)
    decoder.prefill(rows)
    decoder.reorder([1, 0])
    close(decoder.step(np.array([3, 4], np.int32)), whole(one_model, [[*rows[1], 3], [*rows[0], 4]]))


def test_batches_of_other_sizes_in_turns_keep_their_caches_apart(decoder, model):
    for count in (2, 1, 2, 3):
        rows = some_ids(*range(9, 9 + count), seed=count)
        close(decoder.prefill(rows), whole(model, rows))
        rows = [[*row, 5] for row in rows]
        close(decoder.step(np.full(count, 5, np.int32)), whole(model, rows))


@needs_compiler
def test_a_new_batch_does_not_see_the_last_one(native_decoder, one_model):
    native_decoder.prefill(some_ids(90, 90, seed=5))
    rows = some_ids(3, 4)
    close(native_decoder.prefill(rows), whole(one_model, rows))


@needs_compiler
def test_a_full_window_goes_on_without_harm(native_decoder):
    native_decoder.prefill(some_ids(WINDOW, 2))
    logits = native_decoder.step(np.array([1, 2], np.int32))
    assert np.isfinite(logits).all()
    assert native_decoder.lengths.tolist() == [WINDOW, 3]


@needs_compiler
def test_the_number_of_threads_changes_nothing(one_model):
    skip_without_library()
    rows = some_ids(70, 9)
    logits = [NativeDecoder(one_model, threads).prefill(rows) for threads in (1, 2, 5)]
    assert np.array_equal(logits[0], logits[1])
    assert np.array_equal(logits[0], logits[2])


@needs_compiler
def test_ids_that_the_model_has_no_row_for_are_refused(native_decoder):
    native_decoder.prefill([[1], [2]])
    for wrong in (-1, VOCABULARY):
        with pytest.raises(ValueError, match=f"below {VOCABULARY}"):
            native_decoder.step(np.array([0, wrong], np.int32))


@needs_compiler
@pytest.mark.parametrize("length", [0, WINDOW + 1])
def test_prompts_that_the_window_cannot_hold_are_refused(native_decoder, length):
    with pytest.raises(ValueError, match=f"at most {WINDOW}"):
        native_decoder.prefill(some_ids(3, length))


@needs_compiler
def test_weights_that_change_are_seen_by_the_next_batch():
    skip_without_library()
    model, rows = model_of(**VARIANTS["codegeex"]), some_ids(12)
    decoder = NativeDecoder(model)
    before = decoder.prefill(rows)
    for parameter, other in zip(
        model.get_parameters(), model_of(seed=2, **VARIANTS["codegeex"]).get_parameters(), strict=True
    ):
        parameter.set_data(ms.Tensor(other.asnumpy()))
    after = decoder.prefill(rows)
    assert np.abs(after - before).max() > 0.1
    close(after, whole(model, rows))


@needs_compiler
def test_a_forked_process_has_threads_of_its_own(native_decoder):
    expected = native_decoder.prefill(some_ids(30))
    child = os.fork()
    if child == 0:
        same = np.array_equal(native_decoder.prefill(some_ids(30)), expected)
        os._exit(0 if same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@needs_compiler
def test_several_callers_take_turns(one_model):
    skip_without_library()
    rows = some_ids(30)
    decoders = [NativeDecoder(one_model, 2) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        logits = list(pool.map(lambda decoder: [decoder.prefill(rows) for _ in range(5)], decoders))
    assert all(np.array_equal(again, logits[0][0]) for of_one in logits for again in of_one)


def test_half_precision_decodes_as_a_graph():
    model = model_of(compute=ComputeConfig(dtype="float16"), **VARIANTS["codegeex"])
    assert isinstance(Decoder(model).engine, GraphDecoder)


@pytest.fixture
def nothing_compiled():
    """As in a new process."""
    library_file.cache_clear()
    native.load_library.cache_clear()
    yield
    library_file.cache_clear()
    native.load_library.cache_clear()


def test_without_a_compiler_the_graph_decodes_and_says_so(one_model, nothing_compiled, monkeypatch, caplog):
    monkeypatch.setattr(shared_library.shutil, "which", lambda name: None)
    with caplog.at_level(logging.WARNING):
        decoder = Decoder(one_model)
    assert isinstance(decoder.engine, GraphDecoder)
    (said,) = caplog.messages
    assert "g++" in said
    assert "slower" in said


def test_a_compiler_that_fails_is_quoted_and_leaves_nothing(tmp_path, nothing_compiled, monkeypatch):
    compiler = tmp_path / "bin" / "g++"
    compiler.parent.mkdir()
    compiler.write_text('#!/bin/sh\n[ "$1" = --version ] && exit 0\necho "x.h:1: error: no such thing" >&2\nexit 1\n')
    compiler.chmod(0o755)
    monkeypatch.setattr(shared_library.shutil, "which", lambda name: str(compiler))
    with pytest.raises(CannotCompile, match="no such thing"):
        library_file(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


@needs_compiler
def test_a_folder_that_cannot_be_written_is_no_crash(tmp_path, nothing_compiled):
    skip_without_library()
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotCompile, match="cannot be written"):
        library_file(tmp_path / "file")


@needs_compiler
@pytest.mark.slow
def test_processes_that_compile_at_once_publish_one_library(tmp_path):
    skip_without_library()
    line = (
        "import sys, pathlib; from mindgeex.model_zoo.decoding.kernels.native import library_file; "
        "print(library_file(pathlib.Path(sys.argv[1])))"
    )
    command = [sys.executable, "-c", line, str(tmp_path)]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    paths = {run.communicate(timeout=200)[0].strip() for run in runs}
    assert [run.returncode for run in runs] == [0, 0]
    assert paths == {str(path / "decoding.so") for path in tmp_path.iterdir()}
    assert len(paths) == 1
