"""The steps under torch.func, forward-mode gradients and torch.compile, and what autograd sees."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from sdekit_kernels import em_step, langevin_step, normal, predictor_step
from torch.autograd import forward_ad

DRAW = {"seed": 3, "step": 2}
X = torch.linspace(0.1, 1.0, 15, dtype=torch.float64).view(5, 3)
STEPS = {
    "em": lambda x: em_step(x, x.sin(), x, 0.1, **DRAW),
    "predictor": lambda x: predictor_step(x, x.sin(), 0.9, 0.1, x[:, :1], **DRAW)[0],
    "langevin": lambda x: langevin_step(x, x.sin(), snr=0.2, **DRAW)[0],
}


@pytest.mark.parametrize("name", STEPS)
def test_every_way_of_differentiating_gives_one_jacobian(name):
    step = STEPS[name]
    expected = torch.autograd.functional.jacobian(step, X)
    assert torch.allclose(torch.func.jacrev(step)(X), expected, rtol=1e-12)
    assert torch.allclose(torch.func.jacfwd(step)(X), expected, rtol=1e-12)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(X, torch.ones_like(X))
        tangent = forward_ad.unpack_dual(step(dual)).tangent
    assert torch.allclose(tangent, expected.sum((2, 3)), rtol=1e-12)


@pytest.mark.parametrize("name", STEPS)
def test_vmap_is_a_loop(name):
    many = torch.stack([X, 2 * X])
    got = torch.func.vmap(STEPS[name])(many)
    assert torch.allclose(got, torch.stack([STEPS[name](x) for x in many]), rtol=1e-12)


def test_noise_is_a_constant_to_a_transform():
    got = torch.func.grad(lambda x: (x * normal((5, 3), seed=1)).sum())(torch.ones(5, 3))
    assert torch.equal(got, normal((5, 3), seed=1))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", STEPS)
def test_a_compiled_function_goes_around_the_kernel(name):
    compiled = torch.compile(lambda x: STEPS[name](2 * x) + 1, backend="eager")
    assert torch.equal(compiled(X), STEPS[name](2 * X) + 1)


def test_a_step_does_not_load_the_compiler():
    code = (
        "import sys, torch; from sdekit_kernels import em_step; x = torch.ones(2, 3);"
        "em_step(x, x, 1.0, 0.1, seed=0); assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_autograd_sees_that_a_saved_tensor_was_overwritten():
    leaf = torch.ones(5, 3, requires_grad=True)
    x = leaf * 1.0
    y = x * x
    with torch.no_grad():
        em_step(x, x, 1.0, 0.1, **DRAW, out=x)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_outputs_that_overlap_inputs():
    """As if the result were made first and written then, whichever block runs when."""
    memory = torch.linspace(-1, 1, 2001 * 64).view(2001, 64)
    x = memory[:-1].clone()
    expected = predictor_step(x, x, 0.9, 0.5, x[:1].clone(), **DRAW)[0]
    assert torch.equal(predictor_step(x, x.clone(), 0.9, 0.5, x[:1], **DRAW, out=x)[0], expected)
    x, ahead = memory[:-1], memory[1:]
    expected = em_step(x.clone(), x.clone(), 1.0, 0.5, **DRAW)
    assert em_step(x, x.clone(), 1.0, 0.5, **DRAW, out=ahead) is ahead
    assert torch.equal(ahead, expected)
