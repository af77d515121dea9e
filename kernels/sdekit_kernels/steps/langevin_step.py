"""The Langevin corrector: norms, step size and update, all on the device."""

from __future__ import annotations

import math
from functools import partial

import torch

from sdekit_kernels.checks import check_choice, check_positive
from sdekit_kernels.dispatch import compute_dtype, resolve_backend
from sdekit_kernels.geometry import cpu_block
from sdekit_kernels.philox.normal import check_draw
from sdekit_kernels.steps.affine import Affine, affine_step, on_contiguous
from sdekit_kernels.steps.arguments import check_output, check_state
from sdekit_kernels.steps.coefficients import (
    Coefficient,
    Number,
    as_coefficient,
    coefficient_view,
)
from sdekit_kernels.steps.norms import snr_step_size, squared_norms
from sdekit_kernels.tracing import around_compiler, transformed

__all__ = ["NORMS", "langevin_step"]

NORMS = ("sample", "batch")


@around_compiler
def langevin_step(
    x: torch.Tensor,
    s: torch.Tensor,
    *,
    snr: Number | None = None,
    step_size: Number | None = None,
    alpha: Number = 1.0,
    norm: str = "sample",
    seed: int,
    stream: int = 0,
    step: int = 0,
    first_sample: int = 0,
    out: torch.Tensor | None = None,
    mean_out: torch.Tensor | None = None,
    want_mean: bool = True,
    backend: str = "auto",
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """x_mean = x + eps s,  x_next = x_mean + sqrt(2 eps) z.

    The step size eps is ``step_size`` (unadjusted and annealed Langevin), or follows from the
    signal-to-noise ratio (Song et al. 2021, Algorithms 4 and 5):

        eps = 2 alpha (snr |z| / |s|)^2

    with the norms of each sample over its own D components and of the very noise that the update
    uses. ``norm="batch"`` takes the means of the norms over the batch, as the paper's code does; a
    sample then depends on its batchmates. Where |s| = 0, eps = 0 and the state stays.

    Args:
        x, s: state and score, shape (B, D...).
        snr: above zero; a number, a 0-d tensor or one entry a sample. Either this or step_size.
        step_size: zero or more; likewise.
        alpha: 1 for VE; 1 - beta_i for VP and subVP in the paper; likewise.
        out, mean_out, want_mean, backend: as ``predictor_step``.

    Returns:
        (x_next, x_mean).

    Raises:
        TypeError, ValueError, RuntimeError: as ``em_step``; ValueError also if both or none of snr
        and step_size are given, if snr <= 0 or step_size < 0, or for an unknown norm.
    """
    check_state(x, "s", s)
    check_output("out", out, x)
    check_output("mean_out", mean_out, x, out)
    check_choice("norm", norm, NORMS)
    draw = check_draw(seed, stream, step, first_sample, x.shape[0])
    backend = resolve_backend(backend, x.device).backend
    how = Affine(draw, root=False, want_mean=want_mean, backend=backend)
    if (snr is None) == (step_size is None):
        raise ValueError(
            f"give either snr or step_size, got snr={snr!r} and step_size={step_size!r}"
        )
    if step_size is not None:
        eps = coefficient_view("step_size", step_size, x)
        if not isinstance(eps, torch.Tensor):
            check_positive("step_size", eps, allow_zero=True)
        root = (2.0 * eps) ** 0.5
    else:
        assert snr is not None
        level = _one_a_sample("snr", snr, x, allow_zero=False)
        factor = _one_a_sample("alpha", alpha, x, allow_zero=True)
        scale = _fusible_scale(x, s, factor, level, norm, how)
        if scale is None:
            eps, root = _step_size(x, s, factor, level, norm, how)
        elif how.backend == "numba" and _fits_a_block(x):
            from sdekit_kernels.steps._numba.run import run_langevin

            run = partial(run_langevin, scale=scale, draw=draw)
            return on_contiguous(x, s, want_mean, out, mean_out, run)
        else:
            eps, root = (
                v.view(-1, *(1,) * (x.ndim - 1))
                for v in snr_step_size(s, x.dtype, scale, draw, how.backend)
            )
    return affine_step(x, s, 1.0, eps, root, how, out, mean_out)


View = torch.Tensor | float


def _fusible_scale(
    x: torch.Tensor, s: torch.Tensor, alpha: View, snr: View, norm: str, how: Affine
) -> Coefficient | None:
    """2 alpha snr^2 where kernels can make the step size, or None where torch has to.

    Torch makes it for norms over the batch, for gradients, and for the reference.
    """
    tensors = [v for v in (s, alpha, snr) if isinstance(v, torch.Tensor)]
    learns = torch.is_grad_enabled() and (x.requires_grad or any(v.requires_grad for v in tensors))
    if norm == "batch" or learns or how.backend == "torch" or x.numel() == 0 or transformed():
        return None
    alpha, snr = (v.double() if isinstance(v, torch.Tensor) else v for v in (alpha, snr))
    return as_coefficient(2.0 * alpha * snr**2, x, compute_dtype(x.dtype))


def _one_a_sample(what: str, given: Number, x: torch.Tensor, *, allow_zero: bool) -> View:
    """``given`` as a coefficient; what the host knows of it must be in range, and one a sample."""
    view = coefficient_view(what, given, x)
    if not isinstance(view, torch.Tensor):
        check_positive(what, view, allow_zero=allow_zero)
    elif math.prod(view.shape[1:]) != 1:
        raise ValueError(
            f"{what} must be a number, a 0-d tensor or one entry a sample ({x.shape[0]},), got "
            f"shape {tuple(view.shape)}: a sample has one step size"
        )
    return view


def _step_size(
    x: torch.Tensor, s: torch.Tensor, alpha: View, snr: View, norm: str, how: Affine
) -> tuple[torch.Tensor, torch.Tensor]:
    """2 alpha (snr |z| / |s|)^2, 0 where the score vanishes, and sqrt(2 eps); both (B, 1, ...)."""
    ss, zz = squared_norms(s, x.dtype, how.draw, how.backend)
    if transformed() or (torch.is_grad_enabled() and s.requires_grad):
        ss = s.to(ss.dtype).reshape(s.shape[0], -1).square().sum(1)
    if norm == "batch":
        ss = ss.sqrt().mean(0, keepdim=True).square().expand_as(zz)
        zz = zz.sqrt().mean(0, keepdim=True).square().expand_as(ss)
    # The inner "where" keeps the gradient at |s| = 0 finite.
    ratio = torch.where(ss > 0, zz / torch.where(ss > 0, ss, 1.0), 0.0)
    ratio = torch.where(ss.isnan(), ss, ratio).reshape(-1, *(1,) * (x.ndim - 1))
    # The sums are float64 or float32, whatever the coefficients are: multiply in their type.
    eps = ratio * alpha * 2.0 * snr**2
    return eps, (2.0 * eps) ** 0.5


def _fits_a_block(x: torch.Tensor) -> bool:
    """Whether a sample fits into one block of the CPU's kernels."""
    dim = x.numel() // x.shape[0]
    return cpu_block(dim).cols == dim
