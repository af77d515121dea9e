"""The Langevin corrector: norms, step size and update, all on the device."""

from __future__ import annotations

import torch

from sdekit_kernels.checks import check_choice, check_positive
from sdekit_kernels.dispatch import compute_dtype, resolve_backend
from sdekit_kernels.philox.normal import check_draw
from sdekit_kernels.steps.affine import Affine, affine_step
from sdekit_kernels.steps.arguments import check_output, check_state
from sdekit_kernels.steps.coefficients import Number, coefficient_view
from sdekit_kernels.steps.norms import squared_norms

__all__ = ["NORMS", "langevin_step"]

NORMS = ("sample", "batch")


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
    check_output("mean_out", mean_out, x)
    check_choice("norm", norm, NORMS)
    draw = check_draw(seed, stream, step, first_sample, x.shape[0])
    how = Affine(draw, root=False, want_mean=want_mean, backend=backend)
    if (snr is None) == (step_size is None):
        raise ValueError(
            f"give either snr or step_size, got snr={snr!r} and step_size={step_size!r}"
        )
    if step_size is not None:
        if not isinstance(step_size, torch.Tensor):
            check_positive("step_size", step_size, allow_zero=True)
        eps = coefficient_view("step_size", step_size, x)
    else:
        assert snr is not None
        if not isinstance(snr, torch.Tensor):
            check_positive("snr", snr)
        eps = _step_size(x, s, snr, alpha, norm, how)
    c = (2.0 * eps) ** 0.5
    return affine_step(x, s, 1.0, eps, c, how, out, mean_out)


def _step_size(
    x: torch.Tensor, s: torch.Tensor, snr: Number, alpha: Number, norm: str, how: Affine
) -> torch.Tensor | float:
    """2 alpha (snr |z| / |s|)^2, shape (B, 1, ...); 0 where the score vanishes."""
    backend = resolve_backend(how.backend, x.device).backend
    ss, zz = squared_norms(s.to(compute_dtype(x.dtype)), how.draw, backend)
    if torch.is_grad_enabled() and s.requires_grad:
        ss = s.to(ss.dtype).reshape(s.shape[0], -1).square().sum(1)
    if norm == "batch":
        ss = ss.sqrt().mean(0, keepdim=True).square().expand_as(zz)
        zz = zz.sqrt().mean(0, keepdim=True).square().expand_as(ss)
    # The inner "where" keeps the gradient at |s| = 0 finite.
    ratio = torch.where(ss > 0, zz / torch.where(ss > 0, ss, 1.0), 0.0)
    ratio = torch.where(ss.isnan(), ss, ratio)
    ratio = ratio.reshape(-1, *(1,) * (x.ndim - 1))
    # The sums are float64 or float32, whatever the coefficients are: multiply in their type.
    scale, level = coefficient_view("alpha", alpha, x), coefficient_view("snr", snr, x)
    return ratio * scale * 2.0 * level**2
