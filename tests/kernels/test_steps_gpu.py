"""The step kernels and whole trajectories on a GPU: the CPU's answers, and no wait for the device.

``make gpu`` runs it, where there may be no Numba: what the GPU is held to is plain torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from sdekit_kernels import em_step, langevin_step, predictor_step
from torch import Tensor

import sdekit as sk

pytestmark = pytest.mark.gpu

DRAW: dict[str, Any] = {"seed": 11, "stream": 3, "step": 6, "first_sample": 2**32 - 3}
SHAPES = [(37, 1), (37, 3), (9, 784), (7, 785), (5, 3, 8, 8)]
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
KINDS = ["number", "tensor", "sample", "component"]

Step = Callable[..., Tensor]


def em(x: Tensor, s: Tensor, c: Any, **options: Any) -> Tensor:
    return em_step(x, s, c, 0.05, **DRAW, **options)


def predictor(x: Tensor, s: Tensor, c: Any, **options: Any) -> Tensor:
    return predictor_step(x, s, 0.9, c, 0.2, **DRAW, **options)[0]


def annealed(x: Tensor, s: Tensor, c: Any, **options: Any) -> Tensor:
    return langevin_step(x, s, step_size=c, **DRAW, **options)[0]


def corrector(x: Tensor, s: Tensor, c: Any, **options: Any) -> Tensor:
    return langevin_step(x, s, snr=c, **DRAW, **options)[0]


STEPS = [em, predictor, annealed, corrector]


def states(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    x, s = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    return x.to(device, dtype), s.to(device, dtype)


def coefficient(kind: str, x: Tensor) -> Any:
    if kind == "number":
        return 0.3
    size = {"tensor": (), "sample": (len(x),), "component": (1, *x.shape[1:])}[kind]
    return torch.full(size, 0.3, dtype=torch.float64).to(x.device, torch.float32)


# The corrector's sizes are one a sample, or one for all.
EACH = [(f, k) for f in STEPS for k in KINDS if k != "component" or f in (em, predictor)]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("step", STEPS, ids=lambda f: f.__name__)
def test_a_step_is_that_of_plain_torch(
    step: Step, shape: tuple[int, ...], dtype: torch.dtype, triton_device: torch.device
) -> None:
    """Contiguous, strided, and in place: the same bits, within rounding of torch on the CPU."""
    x, s = states(shape, dtype, triton_device)
    found = step(x, s, 0.3, backend="triton")
    wanted = step(x.cpu(), s.cpu(), 0.3, backend="torch")
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(found.cpu(), wanted, rtol=4 * eps, atol=16 * eps)
    wide = torch.stack([x, x], -1)[..., 0]
    assert torch.equal(step(wide, s, 0.3, backend="triton"), found)
    assert torch.equal(step(x, s, 0.3, backend="triton", out=x), found) and torch.equal(x, found)


@pytest.mark.parametrize(("step", "kind"), EACH)
def test_gradients_are_those_of_plain_torch(
    step: Step, kind: str, triton_device: torch.device
) -> None:
    grads = []
    for device, backend in ((triton_device, "triton"), (torch.device("cpu"), "torch")):
        x, s = (v.requires_grad_() for v in states((9, 12), torch.float32, device))
        c = coefficient(kind, x)
        leaves = [x, s] + ([c.requires_grad_()] if isinstance(c, Tensor) else [])
        made = step(x, s, c, backend=backend)
        grads.append(torch.autograd.grad(made.square().sum(), leaves))
    for found, wanted in zip(*grads, strict=True):
        torch.testing.assert_close(found.cpu(), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("step", "kind"), EACH)
def test_a_step_never_waits_for_the_device(
    step: Step, kind: str, triton_device: torch.device
) -> None:
    x, s = states((64, 48), torch.float32, triton_device)
    c = coefficient(kind, x)
    step(x, s, c, backend="triton")  # compiles the kernel
    if triton_device.type == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        made = step(x, s, c, backend="triton")
    finally:
        if triton_device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")
    assert bool(made.isfinite().all())


@pytest.mark.parametrize("method", ["euler_maruyama", "milstein", "implicit_euler", "sosri"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_trajectory_in_one_kernel_is_that_of_plain_torch(
    method: str, dtype: torch.dtype, triton_device: torch.device
) -> None:
    sde = sk.DoubleWell(1.0, 0.5) if method == "euler_maruyama" else sk.GBM(0.3, 0.5)
    x0 = torch.linspace(0.5, 1.5, 101, dtype=dtype)[:, None]
    how: dict[str, Any] = dict(steps=20, method=method, seed=5, first_sample=2**32 - 50)
    found = sk.solve(sde, x0.to(triton_device), backend="triton", fuse=True, **how)
    wanted = sk.solve(sde, x0, backend="torch", fuse=False, **how)
    assert found.stats.path == "trajectory_kernel"
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(found.x.cpu(), wanted.x, rtol=200 * eps, atol=200 * eps)
