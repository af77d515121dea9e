r"""IPF as a diffusion Schrödinger bridge runs it: N steps, and a perfect regression of each map.

The reference chain is Euler's, F_k(x) = x + h_k a(t_k) (x - offset), with noise of variance
q_k = g(t_k)^2 h_k. With h_k = \gamma_{k+1} and g^2 = 2 this is the chain of De Bortoli et al. 2021
(arXiv 2106.01357). A half-step simulates one direction and fits the maps of the other, which takes
the same noise q_k. Backward maps from a forward chain (and the other way round) minimize

    E |B_k(X_{k+1}) - (X_{k+1} + F_k(X_k) - F_k(X_{k+1}))|^2        matching "mean" (their eq. 12),
    E |B_k(X_{k+1}) - X_k|^2                                        matching "conditional".

For an affine F_k with matrix A, "mean" gives B_k(x) = x + A (E[X_k | X_{k+1} = x] - x). The fitted
chain adds q_k where the exact conditional covariance is smaller by O(h^2): the iterates, and what
they tend to, differ from those of the continuous reference by O(h).
"""

from __future__ import annotations

import torch
from sdekit_kernels.checks import check_choice
from torch import Tensor

from sdekit.bridge.closed_form.affine_map import AffineMap
from sdekit.bridge.closed_form.chain import Chain, regressions, run_chain
from sdekit.bridge.closed_form.inputs import Gaussian
from sdekit.bridge.closed_form.joint import Joint
from sdekit.bridge.closed_form.reference import Reference


def ipf_chain(
    source: Gaussian,
    target: Gaussian,
    reference: Reference,
    grid: Tensor,
    count: int,
    matching: str,
) -> list[Joint]:
    """The joints of both ends before and after each of ``count`` half-steps."""
    matching = check_choice("matching", matching, ("mean", "conditional"))
    maps, noise = euler_chain(reference, grid)
    chain = run_chain(source, maps, noise)
    joints = [chain.ends]
    for half_step in range(1, count + 1):
        maps = fit_back(chain, matching)[::-1]
        if half_step % 2:
            chain = run_chain(target, maps, noise.flip(0))
            joints.append(chain.ends.reversed())
        else:
            chain = run_chain(source, maps, noise)
            joints.append(chain.ends)
    return joints


def euler_chain(reference: Reference, grid: Tensor) -> tuple[list[AffineMap], Tensor]:
    """The maps of Euler's method for the reference, and the variances (N, D) of its noise."""
    h = grid.diff().unsqueeze(1)
    a, g2 = reference.rates(grid[:-1])
    maps = [AffineMap(torch.diag(1.0 + r), -r * reference.offset) for r in h * a]
    return maps, h * g2


def fit_back(chain: Chain, matching: str) -> list[AffineMap]:
    """The maps back of a chain, in the chain's order: entry i leads from state i + 1 to state i."""
    found = regressions(chain)
    if matching == "conditional":
        return found
    one = torch.eye(len(chain.means[0]), dtype=torch.float64)
    return [
        AffineMap(one + step.matrix @ (back.matrix - one), step.matrix @ back.shift)
        for step, back in zip(chain.maps, found, strict=True)
    ]
