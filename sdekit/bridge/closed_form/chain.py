"""Affine Gaussian chains u_{i+1} = A_i u_i + a_i + N(0, q_i), in the order of simulation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sdekit.bridge.closed_form.affine_map import AffineMap
from sdekit.bridge.closed_form.inputs import Gaussian
from sdekit.bridge.closed_form.joint import Joint


@dataclass(frozen=True, slots=True)
class Chain:
    """The maps of a chain and all of its marginals, with the joint law of first and last state."""

    maps: list[AffineMap]
    means: list[Tensor]
    covs: list[Tensor]
    ends: Joint


def run_chain(start: Gaussian, maps: list[AffineMap], noise: Tensor) -> Chain:
    """The chain from N(start) through the maps, with variances ``noise`` (N, D)."""
    means, covs, cross = [start.mean], [start.cov], start.cov
    for step, q in zip(maps, noise, strict=True):
        cov = step.matrix @ covs[-1] @ step.matrix.mT + torch.diag(q)
        means.append(step.matrix @ means[-1] + step.shift)
        covs.append(0.5 * (cov + cov.mT))
        cross = cross @ step.matrix.mT
    return Chain(maps, means, covs, Joint(start.mean, means[-1], start.cov, cross, covs[-1]))


def regressions(chain: Chain) -> list[AffineMap]:
    """E[u_i | u_{i+1}] for i = 0 .. N - 1: the best maps back, each an affine one."""
    found = []
    for i, step in enumerate(chain.maps):
        cross = step.matrix @ chain.covs[i]  # Cov(u_{i+1}, u_i)
        slope = (torch.linalg.pinv(chain.covs[i + 1], hermitian=True) @ cross).mT
        found.append(AffineMap(slope, chain.means[i] - slope @ chain.means[i + 1]))
    return found
