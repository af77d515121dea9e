"""Gradients of the fused steps: the noise is a constant, everything else is differentiable."""

from __future__ import annotations

import pytest
import torch
from sdekit_kernels import em_step, langevin_step, predictor_step

DRAW = {"seed": 3, "step": 2}


def leaf(*shape, seed=0):
    g = torch.Generator().manual_seed(seed)
    value = torch.rand(shape, generator=g, dtype=torch.float64) + 0.1
    return value.requires_grad_()


@pytest.mark.parametrize("backend", ["numba", "triton", "torch"])
@pytest.mark.parametrize(
    "coefficient", [(), (4,), (4, 1, 1), (1, 3, 2), (1, 3, 1), (4, 3, 2)], ids=str
)
def test_first_and_second_derivatives(coefficient, backend, triton_device):
    if backend == "triton" and triton_device.type == "cuda":
        pytest.skip("gradcheck compares on the CPU")
    x, s = leaf(4, 3, 2), leaf(4, 3, 2, seed=1)
    a, b, c = (leaf(*coefficient, seed=n) for n in (2, 3, 4))

    def predictor(*arguments):
        return predictor_step(*arguments, **DRAW, backend=backend)

    def em(*arguments):
        return em_step(*arguments, **DRAW, backend=backend)

    assert torch.autograd.gradcheck(predictor, (x, s, a, b, c), fast_mode=True)
    assert torch.autograd.gradcheck(em, (x, s, c, b), fast_mode=True)
    if backend == "numba":
        assert torch.autograd.gradgradcheck(em, (x, s, c, b), fast_mode=True)


@pytest.mark.parametrize("norm", ["sample", "batch"])
def test_the_step_size_of_the_corrector_is_differentiable(norm):
    x, s = leaf(3, 5), leaf(3, 5, seed=1)
    snr = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)

    def step(x, s, snr):
        return langevin_step(x, s, snr=snr, norm=norm, **DRAW)

    assert torch.autograd.gradcheck(step, (x, s, snr), fast_mode=True)


def test_low_precision_gradients_have_the_types_of_their_inputs():
    x = torch.rand(5, 4, dtype=torch.bfloat16, requires_grad=True)
    s = torch.rand(5, 4, dtype=torch.float16, requires_grad=True)
    g = torch.rand(5, requires_grad=True)
    em_step(x, s, g, 0.1, **DRAW).sum().backward()
    assert (x.grad.dtype, s.grad.dtype, g.grad.dtype) == (x.dtype, s.dtype, g.dtype)
    assert torch.equal(x.grad, torch.ones_like(x))


def test_outputs_cannot_be_given_while_a_gradient_is_recorded():
    x = torch.rand(5, 4, requires_grad=True)
    with pytest.raises(RuntimeError, match="no_grad"):
        em_step(x, x, 1.0, 0.1, **DRAW, out=torch.empty(5, 4))
    with torch.no_grad():
        em_step(x, x, 1.0, 0.1, **DRAW, out=torch.empty(5, 4))
