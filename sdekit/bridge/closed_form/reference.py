r"""The reference process of a bridge: an affine SDE with elementwise coefficients, flattened.

In y = x - offset the reference is dy = a(t) y dt + g(t) dW, whose transition from s to t is
N(\alpha_{s,t} y, v_{s,t}). Every coefficient here has the components last: (D,) for one time,
(n, D) for n times.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sdekit.sde import AffineSDE, Brownian

Times = float | Tensor


@dataclass(frozen=True, slots=True)
class Reference:
    """An affine SDE between 0 and T as it acts on D components, in float64."""

    sde: AffineSDE
    dim: int

    @property
    def T(self) -> float:
        """The time of the second end."""
        return float(self.sde.T)

    @property
    def offset(self) -> Tensor:
        """The point (D,) from which the displacement y is counted."""
        offset = torch.as_tensor(self.sde.offset, dtype=torch.float64).detach().cpu()
        return offset.reshape(-1).expand(self.dim)

    def step(self, s: Times, t: Times) -> tuple[Tensor, Tensor]:
        r"""\alpha_{s,t} and v_{s,t} for s <= t."""
        first, last = torch.broadcast_tensors(times(s), times(t))
        ratio = self.sde.log_mean_ratio(first, last).exp()
        variance = self.sde.transition_variance(first, last)
        return self._flat(ratio, last), self._flat(variance, last)

    def rates(self, t: Times) -> tuple[Tensor, Tensor]:
        """a(t) and g(t)^2."""
        t = times(t)
        g = self._flat(self.sde.diffusion_rate(t), t)
        return self._flat(self.sde.drift_rate(t), t), g.square()

    def _flat(self, value: Tensor, t: Tensor) -> Tensor:
        value = value.detach().cpu()
        if self.sde.event_shape is None:
            value = value.expand(t.shape).unsqueeze(-1)
        else:
            value = value.flatten(1) if t.ndim == 1 else value.flatten()
        return value.expand(*t.shape, self.dim)


def times(t: Times) -> Tensor:
    """A time, or a row of times, in float64 on the CPU."""
    return torch.as_tensor(t, dtype=torch.float64, device="cpu").detach()


def make_reference(sigma: Any, reference: AffineSDE | None, dim: int) -> Reference:
    """The reference from sigma (Brownian motion sigma dW on [0, 1]) or from an affine SDE.

    Raises TypeError for both or neither, and for an SDE that is not affine; ValueError for
    parameters of another number of components, and for a reference without noise in a component.
    """
    if (sigma is None) == (reference is None):
        raise TypeError("give either sigma (Brownian motion on [0, 1]) or reference=, an AffineSDE")
    sde = Brownian(sigma) if reference is None else reference
    if not isinstance(sde, AffineSDE):
        raise TypeError(
            f"reference must be an AffineSDE (Brownian, OU, VP, VE, ...), got {type(sde).__name__}"
        )
    if sde.event_shape is not None and math.prod(sde.event_shape) not in (1, dim):
        raise ValueError(
            f"the reference has parameters for events of shape {sde.event_shape}, the laws at its "
            f"ends have {dim} components: they must agree"
        )
    made = Reference(sde, dim)
    variance = made.step(0.0, made.T)[1]
    if not bool((variance > 0.0).all()):
        where = int((~(variance > 0.0)).nonzero()[0])
        raise ValueError(
            f"the reference has no noise in component {where}: from a point it reaches one point "
            "only, and not the target; give it a diffusion above zero"
        )
    return made


def make_times(steps: Any, end: float) -> Tensor:
    """The grid (N + 1,) from 0 to ``end``: N equal steps, or the times themselves.

    Raises TypeError or ValueError for a count below 1 and for times that do not rise from 0 to end.
    """
    given = times(steps)
    if given.ndim == 0:
        count = steps.__index__() if hasattr(steps, "__index__") else 0
        if isinstance(steps, bool) or count < 1:
            raise ValueError(f"steps must be a whole number of 1 or more, or times, got {steps!r}")
        return torch.linspace(0.0, end, int(count) + 1, dtype=torch.float64)
    rises = given.ndim == 1 and len(given) > 1 and bool((given.diff() > 0.0).all())
    if not rises or float(given[0]) != 0.0 or abs(float(given[-1]) - end) > 1e-6 * end:
        raise ValueError(f"steps as times must rise from 0 to the reference's T = {end:g}")
    return given
