"""The optimizer's update is AdamW's, in place and in order, whatever kernels compute it."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn, ops

from mindgeex.model_zoo.kernels import library
from mindgeex.train.optimizer import AdamW
from mindgeex.train.optimizer_config import OptimizerConfig

SHAPES = {"table": (300, 70), "bias": (70,), "scalar.gain": (1,), "frozen": (4,), "weight": (7, 3)}
RATE = 1e-2


@pytest.fixture(params=["fused", "composed"])
def kernels(request, monkeypatch):
    ms.set_context(mode=ms.GRAPH_MODE)
    if request.param == "composed":
        monkeypatch.setattr(library, "kernels_here", lambda: False)
    elif not library.kernels_here():
        pytest.skip("needs a CPU with g++")
    return request.param


def parameters():
    rng = np.random.default_rng(1)
    made = {name: Parameter(Tensor(rng.normal(size=s).astype(np.float32)), name=name) for name, s in SHAPES.items()}
    made["frozen"].requires_grad = False
    return made


def gradients_of(step):
    rng = np.random.default_rng(100 + step)
    scale = 10.0 ** rng.integers(-4, 2)
    return [(scale * rng.normal(size=s)).astype(np.float32) for name, s in SHAPES.items() if name != "frozen"]


class Clipped(nn.Cell):
    """Clips at norm 1, and tells what the first parameter was before the update and is after it."""

    def __init__(self, optimizer):
        super().__init__()
        self.optimizer = optimizer

    def construct(self, gradients, scalars):
        norm = self.optimizer.norm(gradients)
        before = self.optimizer.parameters[0] * 1.0
        norm = ops.depend(norm, before)
        norm = ops.depend(norm, self.optimizer(gradients, scalars, 1.0 / ops.maximum(norm, 1.0), norm >= 0.0))
        return norm, before, ops.depend(self.optimizer.parameters[0], norm) * 1.0


def in_float64(config, steps):
    """Weights and moments by the formulas of Loshchilov and Hutter 2019."""
    weights = {name: p.asnumpy().astype(np.float64) for name, p in parameters().items() if p.requires_grad}
    m, v = ({name: np.zeros_like(value) for name, value in weights.items()} for _ in range(2))
    for step in range(steps):
        gradients = [g.astype(np.float64) for g in gradients_of(step)]
        norm = np.sqrt(sum((g**2).sum() for g in gradients))
        for name, g in zip(weights, gradients, strict=True):
            g = g / max(1.0, norm)
            m[name] = config.beta1 * m[name] + (1 - config.beta1) * g
            v[name] = config.beta2 * v[name] + (1 - config.beta2) * g**2
            corrected = m[name] / (1 - config.beta1 ** (step + 1))
            root = np.sqrt(v[name] / (1 - config.beta2 ** (step + 1)))
            decay = config.weight_decay if weights[name].ndim > 1 else 0.0
            weights[name] = weights[name] - RATE * (corrected / (root + config.epsilon) + decay * weights[name])
    return weights, m, v


def test_thirty_updates_equal_float64s_and_frozen_parameters_stay(kernels):
    config, made = OptimizerConfig(), parameters()
    frozen = made["frozen"].asnumpy().copy()
    optimizer = AdamW(made, config)
    assert (optimizer.fused is not None) == (kernels == "fused")
    cell = Clipped(optimizer)
    for step in range(30):
        gradients = tuple(Tensor(g) for g in gradients_of(step))
        norm = float(cell(gradients, optimizer.scalars(RATE, step))[0])
        exact = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in gradients_of(step)))
        assert norm == pytest.approx(exact, rel=1e-6)
    weights, m, v = in_float64(config, 30)
    for name, value in weights.items():
        assert np.abs(made[name].asnumpy() - value).max() < 3e-6, name
        for moment, exact in (("m", m), ("v", v)):
            found = optimizer.moments[f"adam_{moment}.{name}"].asnumpy()
            assert np.abs(found - exact[name]).max() < 1e-6 * max(1.0, np.abs(exact[name]).max()), name
    assert np.array_equal(made["frozen"].asnumpy(), frozen)


def test_what_reads_before_the_update_sees_the_old_weights_and_what_reads_after_it_the_new(kernels):
    made = parameters()
    optimizer = AdamW(made, OptimizerConfig())
    cell = Clipped(optimizer)
    for step in range(3):
        old = made["table"].asnumpy().copy()
        _, before, after = cell(tuple(Tensor(g) for g in gradients_of(step)), optimizer.scalars(RATE, step))
        assert np.array_equal(before.asnumpy(), old)
        assert np.array_equal(after.asnumpy(), made["table"].asnumpy())
        assert np.abs(after.asnumpy() - old).min() > 0


def test_an_optimizer_given_the_weights_and_moments_of_another_goes_on_bit_for_bit(kernels):
    made = parameters()
    first = AdamW(made, OptimizerConfig())
    whole = Clipped(first)
    for step in range(4):
        if step == 2:
            kept = {name: value.asnumpy().copy() for name, value in (made | first.moments).items()}
        whole(tuple(Tensor(g) for g in gradients_of(step)), first.scalars(RATE, step))
    again = parameters()
    second = AdamW(again, OptimizerConfig())
    for name, value in (again | second.moments).items():
        value.set_data(Tensor(kept[name]))
    resumed = Clipped(second)
    for step in (2, 3):
        resumed(tuple(Tensor(g) for g in gradients_of(step)), second.scalars(RATE, step))
    for name, value in (again | second.moments).items():
        assert np.array_equal(value.asnumpy(), (made | first.moments)[name].asnumpy()), name


def test_a_norm_of_what_is_not_a_number_is_none(kernels):
    optimizer = AdamW(parameters(), OptimizerConfig())
    gradients = gradients_of(0)
    gradients[2][0] = np.nan

    class Norm(nn.Cell):
        def __init__(self):
            super().__init__()
            self.optimizer = optimizer

        def construct(self, gradients):
            return self.optimizer.norm(gradients)

    assert np.isnan(float(Norm()(tuple(Tensor(g) for g in gradients))))
    gradients[2][0] = np.inf
    assert np.isinf(float(Norm()(tuple(Tensor(g) for g in gradients))))
