r"""Iterative proportional fitting between Gaussians, exactly, after every half-step.

Odd half-steps keep the law of X_0 given X_T and give X_T its target; even ones keep that of X_T
given X_0 and give X_0 its source (Sinkhorn's algorithm; De Bortoli et al. 2021, arXiv 2106.01357).
Every conditional law along the way is the reference's times a Gaussian factor, so that two
covariances are all there is to follow. With A = Cov(X_T | X_0), B = Cov(X_0 | X_T), roots
S = R R^T and J = \alpha / v of the reference's transition N(\alpha y, v), beginning at A = v:

    B = (S_0^{-1} + J A J)^{-1} = R_0 (1 + R_0^T J A J R_0)^{-1} R_0^T,
    A = (S_1^{-1} + J B J)^{-1} = R_1 (1 + R_1^T J B J R_1)^{-1} R_1^T,

and E[X_0 | X_T] has the slope B J, E[X_T | X_0] the slope A J. Nothing is inverted that could be
singular, and no two large numbers are subtracted.
"""

from __future__ import annotations

from typing import Any

import torch
from sdekit_kernels.checks import check_int_range
from torch import Tensor

from sdekit.bridge.closed_form.inputs import Gaussian, two_laws
from sdekit.bridge.closed_form.ipf_chain import ipf_chain
from sdekit.bridge.closed_form.joint import Joint
from sdekit.bridge.closed_form.reference import Reference, make_reference, make_times
from sdekit.sde import AffineSDE


def ipf_iterates(
    m0: Any,
    S0: Any,
    m1: Any,
    S1: Any,
    sigma: Any = None,
    *,
    half_steps: int,
    reference: AffineSDE | None = None,
    steps: int | Tensor | None = None,
    matching: str = "mean",
) -> list[Joint]:
    """The joint laws of both ends before and after every half-step: half_steps + 1 of them.

    The first is the reference from N(m0, S0). After an odd half-step, X_T has the law N(m1, S1)
    exactly; after an even one, X_0 has N(m0, S0). Laws, sigma and reference as in
    ``gaussian_bridge``.

    steps: None for the continuous reference; N equal Euler steps, or a grid of times (N + 1,) from
    0 to the reference's T, for the chain of diffusion Schrödinger bridges, every map of which is
    fitted perfectly. matching, for the chain: "mean", the target of De Bortoli et al.'s mean
    matching (drift matching has the same minimum), or "conditional", the previous state itself; see
    ``ipf_chain``.
    Raises TypeError or ValueError for what does not fit, as ``gaussian_bridge``.
    """
    source, target = two_laws(m0, S0, m1, S1)
    made = make_reference(sigma, reference, len(source.mean))
    count = check_int_range("half_steps", half_steps, 0, 1 << 31)
    if steps is None:
        return _continuous(source, target, made, count)
    return ipf_chain(source, target, made, make_times(steps, made.T), count, matching)


def _continuous(
    source: Gaussian, target: Gaussian, reference: Reference, count: int
) -> list[Joint]:
    alpha, v = reference.step(0.0, reference.T)
    J, offset = torch.diag(alpha / v), reference.offset
    A, slope = torch.diag(v), torch.diag(alpha)
    mean1 = offset + alpha * (source.mean - offset)
    joints = [_given_first(source, mean1, slope, A)]
    for half_step in range(1, count + 1):
        last = joints[-1]
        if half_step % 2:
            B = _posterior(source.root, J @ A @ J)
            mean0 = last.mean0 + B @ J @ (target.mean - last.mean1)
            joints.append(_given_first(target, mean0, B @ J, B).reversed())
        else:
            A = _posterior(target.root, J @ B @ J)
            mean1 = last.mean1 + A @ J @ (source.mean - last.mean0)
            joints.append(_given_first(source, mean1, A @ J, A))
    return joints


def _posterior(root: Tensor, precision: Tensor) -> Tensor:
    """(S^{-1} + precision)^{-1} for S = root root^T, which may be singular."""
    inner = root.mT @ precision @ root
    inner = torch.eye(len(root), dtype=root.dtype) + 0.5 * (inner + inner.mT)
    half = torch.linalg.solve_triangular(torch.linalg.cholesky(inner), root.mT, upper=False)
    out: Tensor = half.mT @ half
    return out


def _given_first(first: Gaussian, mean: Tensor, slope: Tensor, noise: Tensor) -> Joint:
    """X ~ first, and another end of this mean, this slope in X and this covariance given X."""
    cross = first.cov @ slope.mT
    return Joint(first.mean, mean, first.cov, cross, noise + slope @ cross)
