r"""Couplings of source and target that a Markovian fitting begins with.

- "independent": the product of the two laws.
- "reference": (x_0, x_T) of the reference itself from the source, exactly; iterative Markovian
  fitting is then iterative proportional fitting (Shi et al. 2023, arXiv 2303.16852, section 4).
- "ot": of each minibatch the optimal plan for |x_0 - x_T|^2 (Tong et al. 2023, arXiv 2302.00482;
  Pooladian et al. 2023), a permutation.
- "entropic": of each minibatch the plan with the regularization of the bridge itself, 2 \sigma^2 T
  for Brownian motion (SF2M, Tong et al. 2023, arXiv 2307.03672), one x_T drawn for each x_0.
"""

from __future__ import annotations

import math
from typing import Any, Final, final

import numpy as np
import sdekit_kernels
import torch
from torch import Tensor

from sdekit.bridge.closed_form import sinkhorn
from sdekit.bridge.counters import COUPLING, TRANSITION, stream
from sdekit.bridge.ends import End
from sdekit.bridge.points import Points
from sdekit.sde import AffineSDE

COUPLINGS: Final = ("independent", "reference", "ot", "entropic")
MINIBATCH: Final = 256
"""Points of each end that an optimal plan couples, at the most: its time grows as their cube."""


@final
class Coupled(Points):
    """Pairs (x_0, x_T) of a coupling by name, fresh for each step."""

    def __init__(
        self,
        how: str,
        ends: tuple[End, End],
        reference: AffineSDE | None,
        seed: int,
        half_step: int,
        count: int,
    ) -> None:
        super().__init__(seed, half_step, count)
        self.how, self.ends, self.reference = how, ends, reference

    @torch.no_grad()
    def batch(self, step: int, size: int) -> tuple[Tensor, ...]:
        """Pairs of points that no other step has."""
        first = step * size
        x0 = self.ends[0].draw(self.seed, self.half_step, first, size)
        if self.how == "reference":
            assert self.reference is not None
            law = self.reference.transition(0.0, float(self.reference.T), x0)
            z = self._normal(tuple(x0.shape), TRANSITION, first).to(x0)
            return x0, law.mean + law.std * z
        x1 = self.ends[1].draw(self.seed, self.half_step, first, size)
        if self.how == "independent":
            return x0, x1
        rows = [
            k + self._partners(x0[k : k + MINIBATCH], x1[k : k + MINIBATCH], first + k)
            for k in range(0, size, MINIBATCH)
        ]
        return x0, x1[torch.cat(rows).to(x1.device)]

    def _partners(self, x0: Tensor, x1: Tensor, first: int) -> Tensor:
        """Which row of x1 each row of x0 gets."""
        if self.how == "ot":
            return optimal_assignment(x0, x1)
        assert self.reference is not None
        return self._entropic(x0, x1, first)

    def _entropic(self, x0: Tensor, x1: Tensor, first: int) -> Tensor:
        """Row i of the plan is a law of partners, from which one is drawn by the counters."""
        assert self.reference is not None
        T = torch.tensor(float(self.reference.T), dtype=torch.float64)
        zero = torch.zeros_like(T)
        alpha = self.reference.log_mean_ratio(zero, T).exp().flatten()
        std = self.reference.transition_variance(zero, T).sqrt().flatten()
        offset = torch.as_tensor(self.reference.offset, dtype=torch.float64).flatten()
        # In these coordinates -log of the reference's transition is |x - y|^2 / 2 + constant.
        left, right = ((v.flatten(1).double().cpu() - offset.cpu()) for v in (x0, x1))
        left, right = left * (alpha / std).cpu(), right / std.cpu()
        plan = sinkhorn(left, right, epsilon=2.0, tolerance=1e-3).plan
        shares = (plan / plan.sum(1, keepdim=True)).cumsum(1)
        z = self._normal((len(x0), 1), COUPLING, first).double()
        u = 0.5 * torch.erfc(-z / math.sqrt(2.0))
        return torch.searchsorted(shares, u).squeeze(1).clamp(max=len(x1) - 1)

    def _normal(self, shape: tuple[int, ...], consumer: int, first: int) -> Tensor:
        return sdekit_kernels.normal(
            shape,
            seed=self.seed,
            stream=stream(self.half_step, consumer),
            first_sample=first,
        )


def optimal_assignment(x0: Tensor, x1: Tensor) -> Tensor:
    """The permutation (n,) int64 with the least sum of |x0_i - x1_{p(i)}|^2, x0 and x1 (n, D...).

    By scipy's assignment, or POT's network simplex. Raises ImportError if neither is installed.
    """
    left, right = x0.flatten(1).double().cpu(), x1.flatten(1).double().cpu()
    # Far clouds slow the solver down, and the plan does not depend on where they are.
    left, right = left - left.mean(0), right - right.mean(0)
    cost: Any = torch.cdist(left, right, compute_mode="donot_use_mm_for_euclid_dist").square()
    try:
        from scipy.optimize import linear_sum_assignment  # optional

        return torch.from_numpy(np.asarray(linear_sum_assignment(cost.numpy())[1])).long()
    except ImportError:
        pass
    try:
        import ot  # optional
    except ImportError:
        raise ImportError("optimal couplings need scipy or POT: pip install scipy") from None
    return torch.from_numpy(ot.emd([], [], cost.numpy())).argmax(1)
