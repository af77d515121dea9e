r"""Iterative Markovian fitting between Gaussians, exactly (Shi et al. 2023, arXiv 2303.16852).

An iteration takes the reference's bridges mixed over the present coupling, projects that mixture on
the Markov processes (``BridgeMixture`` has the affine drift), runs the projection from its end's
given law, and keeps the coupling of its ends; with the reference's bridges between them that is the
next mixture. A projection that runs forward from X_0 ~ N(m, S) gives, for \Phi' = A_t \Phi,

    Cov(X_0, X_T) = S \Phi^T,   Cov(X_T) = S_1 + \Phi (S - S_0) \Phi^T,
    E X_T = m_1 + \Phi (m - m_0),

where m_0, S_0, m_1, S_1 belong to the mixture: a projection has the mixture's marginals when it
begins with the mixture's. So \Phi is all that has to be integrated, and it is, to 1e-12.
"""

from __future__ import annotations

from typing import Any

import torch
from sdekit_kernels.checks import check_choice, check_int_range
from torch import Tensor

from sdekit.bridge.closed_form.affine_map import AffineMap
from sdekit.bridge.closed_form.chain import run_chain
from sdekit.bridge.closed_form.inputs import Gaussian, covariance, two_laws
from sdekit.bridge.closed_form.ipf import ipf_iterates
from sdekit.bridge.closed_form.joint import Joint
from sdekit.bridge.closed_form.linear_flow import linear_flow
from sdekit.bridge.closed_form.mixture import BridgeMixture
from sdekit.bridge.closed_form.reference import make_reference, make_times
from sdekit.sde import AffineSDE


def imf_iterates(
    m0: Any,
    S0: Any,
    m1: Any,
    S1: Any,
    sigma: Any = None,
    *,
    iterations: int,
    start: str | Tensor | Joint = "independent",
    reference: AffineSDE | None = None,
    steps: int | Tensor | None = None,
    first: str = "backward",
) -> list[Joint]:
    """The couplings before and after every Markovian projection: iterations + 1 of them.

    start: "independent"; "reference", the reference from N(m0, S0), with which the iterates are
    those of IPF (with ``first="backward"``); or a joint covariance (2 D, 2 D) or ``Joint`` of one's
    own. first: the direction of the first projection; they alternate, as in DSBM, where a backward
    one begins at N(m1, S1) and a forward one at N(m0, S0). Without steps the direction matters only
    if the start does not have the two marginals; it preserves them otherwise.

    steps: None for continuous time; N equal Euler steps, or a grid of times (N + 1,) from 0 to T,
    for a perfect affine regression of the drift at each of the times, and Euler's method with it:
    forward x + h b(t_k, x) + g(t_k) sqrt(h) z, backward x - h b(t_{k+1}, x) + g(t_{k+1}) sqrt(h) z.
    Only the end from which a projection starts has its marginal exactly then.
    Laws, sigma and reference as in ``gaussian_bridge``; raises as it does, and ValueError for a
    start that is no covariance of both ends.
    """
    source, target = two_laws(m0, S0, m1, S1)
    made = make_reference(sigma, reference, len(source.mean))
    count = check_int_range("iterations", iterations, 0, 1 << 31)
    backward = check_choice("first", first, ("backward", "forward")) == "backward"
    if isinstance(start, str) and check_choice("start", start, STARTS) == "reference":
        joints = ipf_iterates(m0, S0, m1, S1, half_steps=0, reference=made.sde)
    else:
        joints = [_coupling(start, source, target)]
    grid = None if steps is None else make_times(steps, made.T)
    for _ in range(count):
        mixture = BridgeMixture(joints[-1], made)
        begin = target if backward else source
        if grid is None:
            joints.append(_project(mixture, begin, backward))
        else:
            joints.append(_euler(mixture, begin, backward, grid))
        backward = not backward
    return joints


STARTS = ("independent", "reference")


def _coupling(start: str | Tensor | Joint, source: Gaussian, target: Gaussian) -> Joint:
    d = len(source.mean)
    if isinstance(start, Joint):
        if start.cov.shape != (2 * d, 2 * d):
            raise ValueError(f"start has ends of {len(start.mean0)} components, the laws have {d}")
        return start
    if isinstance(start, str):
        return Joint(source.mean, target.mean, source.cov, torch.zeros_like(source.cov), target.cov)
    cov = covariance("start", start, 2 * d)[0]
    return Joint(source.mean, target.mean, cov[:d, :d], cov[:d, d:], cov[d:, d:])


def _project(mixture: BridgeMixture, begin: Gaussian, backward: bool) -> Joint:
    """The ends of the projection, from the law ``begin`` of the end from which it runs."""
    drift = mixture.backward_drift if backward else mixture.forward_drift
    span = (mixture.T, 0.0) if backward else (0.0, mixture.T)
    flow = linear_flow(lambda t: drift(t).matrix, *span, mixture.reference.sde.breaks)
    old = mixture.joint.reversed() if backward else mixture.joint
    last = old.cov11 + flow @ (begin.cov - old.cov00) @ flow.mT
    mean = old.mean1 + flow @ (begin.mean - old.mean0)
    new = Joint(begin.mean, mean, begin.cov, begin.cov @ flow.mT, 0.5 * (last + last.mT))
    return new.reversed() if backward else new


def _euler(mixture: BridgeMixture, begin: Gaussian, backward: bool, grid: Tensor) -> Joint:
    """The same by Euler's method on a grid."""
    h = grid.diff()
    if backward:
        h, at, drift = -h.flip(0), grid[1:].flip(0), mixture.backward_drift
    else:
        at, drift = grid[:-1], mixture.forward_drift
    maps, noise = drift(at), h.abs().unsqueeze(1) * mixture.reference.rates(at)[1]
    one = torch.eye(len(begin.mean), dtype=torch.float64)
    steps = [
        AffineMap(one + dt * matrix, dt * shift)
        for dt, matrix, shift in zip(h, maps.matrix, maps.shift, strict=True)
    ]
    ends = run_chain(begin, steps, noise).ends
    return ends.reversed() if backward else ends
