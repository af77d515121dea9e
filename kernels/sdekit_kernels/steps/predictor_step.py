"""The update of every affine predictor: mean and noisy state in one pass."""

from __future__ import annotations

import torch

from sdekit_kernels.philox.normal import check_draw
from sdekit_kernels.steps.affine import Affine, affine_step
from sdekit_kernels.steps.arguments import check_output, check_state
from sdekit_kernels.steps.coefficients import Number, coefficient_view
from sdekit_kernels.tracing import around_compiler

__all__ = ["predictor_step"]


@around_compiler
def predictor_step(
    x: torch.Tensor,
    s: torch.Tensor,
    a: Number,
    b: Number,
    c: Number,
    *,
    seed: int,
    stream: int = 0,
    step: int = 0,
    first_sample: int = 0,
    out: torch.Tensor | None = None,
    mean_out: torch.Tensor | None = None,
    want_mean: bool = True,
    backend: str = "auto",
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """x_mean = a x + b s,  x_next = x_mean + c z.

    Serves every predictor that is affine in the state and the score (or the network's output):
    Euler-Maruyama, reverse diffusion and ancestral sampling (Song et al. 2021), DDPM (Ho et al.
    2020), and the probability flow with c = 0. The noise is a constant for gradients.

    Args:
        x, s: state and score, shape (B, D...); their floating types may differ, the result has x's.
        a, b, c: numbers, 0-d tensors, one entry a sample (B,), one a component (1, D...) or full.
        out, mean_out: where to write; out may be x itself. Not while a gradient is recorded.
        want_mean: False saves writing x_mean, and None stands in its place.
        backend: "auto", "numba", "triton" or "torch".

    Returns:
        (x_next, x_mean).

    Raises:
        TypeError, ValueError, RuntimeError: as ``em_step``.
    """
    check_state(x, "s", s)
    check_output("out", out, x)
    check_output("mean_out", mean_out, x, out)
    draw = check_draw(seed, stream, step, first_sample, x.shape[0])
    how = Affine(draw, root=False, want_mean=want_mean, backend=backend)
    views = [coefficient_view(n, v, x) for n, v in (("a", a), ("b", b), ("c", c))]
    return affine_step(x, s, *views, how, out, mean_out)
