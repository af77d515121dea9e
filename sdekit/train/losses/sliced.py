r"""Sliced score matching (Song, Garg, Shi & Ermon 2019, arXiv 1905.07088), on data with noise.

    SSM:    L = E[lambda (v^T s)^2 + 2 lambda v^T (ds/dx) v] / D,
    SSM-VR: L = E[lambda |s|^2     + 2 lambda v^T (ds/dx) v] / D,

with random directions v, E[v v^T] = 1: twice the paper's objectives, weighted as the other losses.
Both have the mean of implicit score matching, at the cost of one product with the Jacobian
for each direction instead of D; the second has the square's mean in closed form, and so less
variance.
"""

from __future__ import annotations

from typing import Final

import sdekit_kernels
import torch
from sdekit_kernels.checks import check_choice, check_int_range
from sdekit_kernels.dispatch import compute_dtype
from torch import Tensor

from sdekit.noise import keys
from sdekit.sde import AffineSDE
from sdekit.train.losses.diffused import Net, diffuse
from sdekit.train.losses.implicit import field_and_forms
from sdekit.train.times import Times, default_times
from sdekit.train.weighting import Weighting, get_weighting

__all__ = ["PROJECTIONS", "PROJECTION_STREAM", "draw_projections", "sliced_score_matching"]

PROJECTIONS: Final = ("rademacher", "gaussian", "sphere")
PROJECTION_STREAM: Final = keys.TRAIN + 5


def sliced_score_matching(
    sde: AffineSDE,
    score: Net,
    x0: Tensor,
    *,
    seed: int,
    step: int = 0,
    reduced: bool = True,
    n_projections: int = 1,
    projections: str = "rademacher",
    weighting: str | Weighting = "simple",
    times: Times | None = None,
) -> Tensor:
    """Return an unbiased estimate of L for each sample of x0 (B, D...): (B,). Differentiable.

    Args:
        sde, score, x0, seed, step, weighting, times: as ``implicit_score_matching``, with the same
            times and noise.
        reduced: whether to take |s|^2 instead of (v^T s)^2: SSM-VR instead of SSM.
        n_projections: directions a sample, averaged.
        projections: "rademacher", signs; "gaussian"; "sphere", uniform on that of radius sqrt(D).

    Raises as ``implicit_score_matching``, ValueError for unknown projections or none.
    """
    weigh = get_weighting(weighting)
    times = default_times(sde, weigh) if times is None else times
    place = diffuse(sde, x0, times, seed=seed, step=step)
    v = draw_projections(n_projections, x0, kind=projections, seed=seed, step=step)
    weight = place.weight(weigh)
    field, forms = field_and_forms(place, score, weight, v)
    # The field is lambda s: divided by the root of lambda, its square is lambda s^2.
    root = torch.where(weight > 0.0, weight.rsqrt(), 0.0).to(field.dtype) * field
    if reduced:
        squares = root.square().flatten(1).sum(1)
    else:
        squares = (v * root).flatten(2).sum(2).square().mean(0)
    return (squares + 2.0 * forms.mean(1)) / x0.shape[1:].numel()


def draw_projections(
    n: int, x: Tensor, *, kind: str = "rademacher", seed: int, step: int = 0
) -> Tensor:
    """n directions a sample, (n, B, D...), with E[v v^T] = 1; float32, or float64 for float64 x.

    Raises TypeError or ValueError for an unknown kind and n below 1.
    """
    check_choice("projections", kind, PROJECTIONS)
    n = check_int_range("n_projections", n, 1, 1 << 31)
    z = sdekit_kernels.normal(
        (x.shape[0], n, *x.shape[1:]),
        seed=seed,
        stream=PROJECTION_STREAM,
        step=step,
        dtype=compute_dtype(x.dtype),
        device=x.device,
    ).transpose(0, 1)
    if kind == "gaussian":
        return z
    if kind == "rademacher":
        # Not sign(): a normal can be 0 in float32, and a direction's entry must not.
        return torch.where(z < 0, -1.0, 1.0).to(z.dtype)
    d = x.shape[1:].numel()
    return d**0.5 * torch.nn.functional.normalize(z.flatten(2), dim=2).view(z.shape)
