"""The bits of a solve do not depend on how the batch is cut, and every backend agrees."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import sdekit as sk


@given(st.integers(1, 40), st.integers(1, 5), st.integers(0, 2**62), st.data())
def test_any_cut_gives_the_same_bits(batch, dim, first, data):
    cut = data.draw(st.integers(0, batch))
    x0 = torch.linspace(-1, 1, batch * dim).view(batch, dim)
    sde = sk.OU(0.8, 0.2, 1.1)
    whole = sk.solve(sde, x0, steps=7, seed=3, first_sample=first, save_at=[0.1, 0.6, 1.0])
    parts = [
        sk.solve(sde, x, steps=7, seed=3, first_sample=n, save_at=[0.1, 0.6, 1.0]).x
        for x, n in ((x0[:cut], first), (x0[cut:], first + cut))
    ]
    assert torch.equal(torch.cat(parts, dim=1), whole.x)


@pytest.mark.parametrize("method", ["euler_maruyama", "heun"])
def test_max_memory_changes_no_bit(method):
    x0 = torch.ones(103, 2, 3)
    sde = sk.OU(torch.rand(2, 3) + 0.5, 0.0, 1.0)
    whole = sk.solve(sde, x0, steps=6, seed=1, method=method, save_at=[0.3, 1.0])
    cut = sk.solve(sde, x0, steps=6, seed=1, method=method, save_at=[0.3, 1.0], max_memory=2000)
    assert torch.equal(whole.x, cut.x) and torch.equal(whole.status, cut.status)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("backend", ["numba", "triton", "torch"])
def test_backends_agree(dtype, backend):
    """The paths differ by rounding alone: ten steps of a contracting equation."""
    if backend == "triton" and torch.cuda.is_available():
        pytest.skip("CPU tensors run Triton's interpreter only where there is no GPU")
    x0 = torch.linspace(-1, 1, 33 * 5, dtype=dtype).view(33, 5)
    sde = sk.OU(1.0, 0.5, 0.7)
    one = sk.solve(sde, x0, steps=10, seed=2)
    other = sk.solve(sde, x0, steps=10, seed=2, backend=backend)
    assert other.stats.backend == backend
    assert other.stats.path == ("torch" if backend == "torch" else "trajectory_kernel")
    single = sk.solve(sde, x0, steps=10, seed=2, backend=backend, fuse=False)
    assert single.stats.path == ("torch" if backend == "torch" else "step_kernel")
    assert torch.allclose(single.x, other.x, atol=20 * torch.finfo(dtype).eps)
    assert torch.allclose(one.x, other.x, rtol=0, atol=20 * torch.finfo(dtype).eps)


def test_the_step_kernel_is_the_plain_step():
    """Euler-Maruyama written out with the same normals gives the same path to rounding."""
    x = torch.full((50, 3), 1.5, dtype=torch.float64)
    sol = sk.solve(sk.GBM(0.3, 0.4), x, steps=12, t1=0.6, seed=7)
    from sdekit_kernels import normal

    for k in range(12):
        z = normal((50, 3), seed=7, stream=0, step=k, dtype=torch.float64)
        x = x + 0.3 * x * 0.05 + 0.4 * x * 0.05**0.5 * z
    assert torch.allclose(sol.x, x, rtol=1e-13)


def test_low_precision_states():
    for dtype in (torch.bfloat16, torch.float16):
        sol = sk.solve(sk.OU(), torch.ones(1000, 4, dtype=dtype), steps=20)
        exact = sk.solve(sk.OU(), torch.ones(1000, 4), steps=20)
        assert sol.x.dtype == dtype
        # Twenty roundings of a state of size up to 4.
        assert (sol.x.float() - exact.x).abs().max() < 20 * 4 * torch.finfo(dtype).eps


def test_gradients_flow_through_the_solve():
    theta = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    x0 = torch.ones(6, 2, dtype=torch.float64, requires_grad=True)

    def last(theta, x0):
        return sk.solve(Linear(theta), x0, steps=5, seed=1).x

    assert torch.autograd.gradcheck(last, (theta, x0))


class Linear:
    """dx = -theta x dt + theta x dW, with nothing but the two methods."""

    def __init__(self, theta):
        self.theta = theta

    def drift(self, t, x):
        return -self.theta * x

    def diffusion(self, t, x):
        return self.theta * x
