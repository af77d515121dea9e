"""One Euler-Maruyama step with the noise made in registers."""

from __future__ import annotations

import torch

from sdekit_kernels.philox.normal import check_draw
from sdekit_kernels.steps.affine import Affine, affine_step
from sdekit_kernels.steps.arguments import check_output, check_state
from sdekit_kernels.steps.coefficients import Number, coefficient_view
from sdekit_kernels.tracing import around_compiler

__all__ = ["em_step"]


@around_compiler
def em_step(
    x: torch.Tensor,
    f: torch.Tensor,
    g: Number,
    dt: Number,
    *,
    seed: int,
    stream: int = 0,
    step: int = 0,
    first_sample: int = 0,
    out: torch.Tensor | None = None,
    backend: str = "auto",
) -> torch.Tensor:
    """x + f dt + g sqrt|dt| z  (Maruyama 1955), in one pass through memory.

    z is ``sdekit_kernels.normal`` of (seed, stream, step, first_sample); it is a constant for
    gradients. With a negative dt the step goes back in time and its noise has variance g^2 |dt|.

    Args:
        x, f: state and drift, shape (B, D...), float32, float64, bfloat16 or float16.
        g, dt: numbers, 0-d tensors, one entry a sample (B,), one a component (1, D...) or full.
        out: where to write the result; may be x itself. Not while a gradient is recorded.
        backend: "auto", "numba", "triton" or "torch".

    Raises:
        TypeError: a type that is no floating point.
        ValueError: shapes or devices that differ, a number out of range, an unknown backend.
        RuntimeError: a backend asked for by name that cannot run here; out= with gradients.
    """
    check_state(x, "f", f)
    check_output("out", out, x)
    draw = check_draw(seed, stream, step, first_sample, x.shape[0])
    how = Affine(draw, root=True, want_mean=False, backend=backend)
    g, dt = coefficient_view("g", g, x), coefficient_view("dt", dt, x)
    return affine_step(x, f, 1.0, dt, g, how, out)[0]
