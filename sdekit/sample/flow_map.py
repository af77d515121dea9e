r"""The probability flow as a map between times: x_s to x_t, each sample with its own steps.

    dx/dt = a(t) (x - offset) - g(t)^2 / 2 score(t, x)

(Song et al. 2021, arXiv 2011.13456, section 4.3). From t_min to T it encodes data as latents, back
it decodes them; both ways end where they began, up to the tolerance.
"""

from __future__ import annotations

import torch
from sdekit_kernels.checks import check_float_tensor, check_positive
from torch import Tensor

from sdekit.ode import integrate
from sdekit.ode.solution import STATUS
from sdekit.sample.start import Score, check_score
from sdekit.sde import AffineSDE, ProbabilityFlow

__all__ = ["flow_map"]


@torch.no_grad()
def flow_map(
    sde: AffineSDE,
    score: Score,
    x: Tensor,
    t0: float,
    t1: float,
    *,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    backend: str = "auto",
) -> Tensor:
    """The states at t1 of the flow through x (B, D...) at t0, of x's shape, in either direction.

    score: (t, x) -> score with t (m,) for the m samples that are still on their way. A sample's
    error is about rtol |x| + atol in root mean square, and does not depend on the batch.
    Raises TypeError or ValueError for arguments that do not fit, ArithmeticError, naming the first
    sample and why, if one does not arrive.
    """
    check_score(score)
    if not isinstance(sde, AffineSDE):
        raise TypeError(f"sde must be an AffineSDE, got {sde!r}")
    x = check_float_tensor("x", x)
    start, end = (check_positive("a time", t, allow_zero=True) for t in (t0, t1))
    if max(start, end) > sde.T * (1.0 + 1e-6):
        raise ValueError(f"times must lie in [0, {sde.T:g}], got {start:g} and {end:g}")
    if x.numel() == 0 or start == end:
        return x.clone()
    event = x.shape[1:]
    flow = ProbabilityFlow(sde, score)

    def field(t: Tensor, y: Tensor, rows: Tensor) -> Tensor:
        return flow.drift(t, y.view(-1, *event)).flatten(1)

    solved = integrate(
        field,
        x.flatten(1),
        start,
        end,
        rtol=rtol,
        atol=atol,
        breaks=tuple(getattr(sde, "breaks", ())),
        backend=backend,
        fuse=False,
    )
    lost = (solved.status != 0).nonzero().flatten()
    if len(lost):
        first = int(lost[0])
        why = STATUS[int(solved.status[first])]
        raise ArithmeticError(
            f"{len(lost)} of {len(x)} samples did not arrive, sample {first} first ({why}): "
            "write larger tolerances, or start further from 0"
        )
    return solved.y.view_as(x)
