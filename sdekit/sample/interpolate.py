r"""Samples on the way from one to another, by the probability flow or by the diffusion.

"flow" (Song et al. 2021, arXiv 2011.13456, section 4.3): both ends are encoded at T, the latents
moved along the great circle between them (their norms stay those of draws of the prior), and
decoded. Deterministic; the ends are met up to the tolerance of the ODE.

"diffusion" (Ho et al. 2020, arXiv 2006.11239, section 4): both ends get noise up to the time t,

    x_t = (1 - w) x_t^a + w x_t^b,  x_t^{a, b} = offset + alpha(t) (x^{a, b} - offset) + sigma(t) z,

and the reverse-time chain takes them down with the same noise for all w. Both ends share one z, so
that the noise of every mixture has the level that the model expects at t (two independent ones
would leave sigma sqrt((1 - w)^2 + w^2)). The more noise, the less the result owes to the ends.
"""

from __future__ import annotations

from typing import Any, Final

import sdekit_kernels
import torch
from sdekit_kernels.checks import check_choice, check_float_tensor, check_int_range, check_positive
from torch import Tensor

from sdekit.noise import keys
from sdekit.sample.flow_map import flow_map
from sdekit.sample.sample import sample
from sdekit.sample.start import Score
from sdekit.sde import AffineSDE

__all__ = ["THROUGH", "interpolate", "spherical"]

THROUGH: Final = ("flow", "diffusion")


@torch.no_grad()
def interpolate(
    sde: AffineSDE,
    score: Score,
    x_a: Tensor,
    x_b: Tensor,
    n: int = 9,
    *,
    through: str = "flow",
    t: float | None = None,
    steps: int = 500,
    predictor: str = "ancestral",
    t_min: float | None = None,
    rtol: float = 1e-4,
    atol: float = 1e-4,
    seed: int = 0,
    first_sample: int = 0,
) -> Tensor:
    """n samples from x_a to x_b (B, D...), the weights w even from 0 to 1: (n, B, D...).

    through: "flow", or "diffusion" at the time t (half of T if None), whose chain makes ``steps``
    steps of ``predictor``; t_min: where the data are taken to stand, ``sde.t_min`` if None. rtol,
    atol: of the flow. seed, first_sample: of the diffusion's noise (streams START and PATH).
    Raises TypeError or ValueError for ends of different shape or arguments out of their range;
    ArithmeticError if the flow of a sample does not arrive.
    """
    check_choice("through", through, THROUGH)
    x_a, x_b = check_float_tensor("x_a", x_a), check_float_tensor("x_b", x_b)
    if x_a.shape != x_b.shape or x_a.dtype != x_b.dtype or x_a.ndim < 2:
        raise ValueError(
            "x_a and x_b must both be (B, D...), of one shape and dtype, got "
            f"{tuple(x_a.shape)} {x_a.dtype} and {tuple(x_b.shape)} {x_b.dtype}"
        )
    n = check_int_range("n", n, 2, 1 << 20)
    start = float(sde.t_min if t_min is None else t_min)
    weights = torch.linspace(0.0, 1.0, n, dtype=torch.float64, device=x_a.device)
    weights = weights.to(x_a.dtype).view(n, 1, *[1] * (x_a.ndim - 1))
    if through == "flow":
        if t is not None:
            raise ValueError('t belongs to through="diffusion": the flow goes to T')
        ends = torch.cat([x_a, x_b])
        latents = flow_map(sde, score, ends, start, sde.T, rtol=rtol, atol=atol)
        z_a, z_b = sde.centered(latents).chunk(2)
        moved = spherical(z_a, z_b, weights)
        back = sde.uncentered(moved.flatten(0, 1))
        return flow_map(sde, score, back, sde.T, start, rtol=rtol, atol=atol).view(n, *x_a.shape)
    level = check_positive("t", 0.5 * sde.T if t is None else t)
    if not start < level <= sde.T:
        raise ValueError(f"t must lie between t_min = {start:g} and T = {sde.T:g}, got {level:g}")
    count = check_int_range("steps", steps, 1, 1 << 31)
    z = sdekit_kernels.normal(
        tuple(x_a.shape),
        seed=seed,
        stream=keys.START,
        first_sample=first_sample,
        dtype=x_a.dtype,
        device=x_a.device,
    )
    mixed = (1.0 - weights) * x_a + weights * x_b
    law = sde.marginal(level, mixed.flatten(0, 1))
    noisy = (law.mean + law.std * z.repeat(n, *[1] * (x_a.ndim - 1))).view_as(mixed)
    # One chain a weight: the noise of sample k is then the same for all weights.
    grid = torch.linspace(level, start, count + 1, dtype=torch.float64)
    run: dict[str, Any] = {"predictor": predictor, "times": grid, "seed": seed}
    return torch.stack(
        [
            sample(sde, score, tuple(x_a.shape), x_init=rows, first_sample=first_sample, **run)
            for rows in noisy
        ]
    )


def spherical(z_a: Tensor, z_b: Tensor, w: Tensor) -> Tensor:
    """sin((1 - w) u) / sin u z_a + sin(w u) / sin u z_b, u the angle of each pair (Shoemake 1985).

    z_a, z_b: (B, D...); w: (n, 1, ..., 1); returns (n, B, D...). The straight line where the angle
    is 0 or pi, within rounding.
    """
    ones = [1] * (z_a.ndim - 1)
    flat_a, flat_b = z_a.flatten(1).double(), z_b.flatten(1).double()
    lengths = flat_a.norm(dim=1) * flat_b.norm(dim=1)
    cos = (flat_a * flat_b).sum(1) / lengths.clamp(min=torch.finfo(torch.float64).tiny)
    angle = cos.clamp(-1.0, 1.0).arccos().view(1, -1, *ones)
    w = w.double()
    sin = angle.sin()
    plain = sin < 1e-6
    safe = torch.where(plain, 1.0, sin)
    near = torch.where(plain, 1.0 - w, ((1.0 - w) * angle).sin() / safe)
    far = torch.where(plain, w, (w * angle).sin() / safe)
    return (near * z_a + far * z_b).to(z_a.dtype)
