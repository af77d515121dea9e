r"""The Schrödinger bridge between two Gaussians.

Among all laws of (y_0, y_T) with the given marginals, the one closest to the reference's is the
Gaussian with cross covariance

    Cov(y_0, y_T) = R h(M) R^T J S_1,   h(m) = 2 / (1 + sqrt(1 + 4 m)),   J = \alpha / v,

where S_0 = R R^T for any root R, M = R^T J S_1 J R, and N(\alpha y, v) is the reference's
transition from 0 to T. With R = S_0^{1/2}, \alpha = 1 and v = \sigma^2 this is the formula of
Janati et al. 2020 (arXiv 2006.02572), Mallasto, Gerolin & Minh 2021 (arXiv 2006.03416) and Bunne,
Hsieh, Cuturi & Krause 2022 (arXiv 2202.05722, theorem 3),

    (S_0^{1/2} D S_0^{-1/2} - \sigma^2) / 2,   D = (4 S_0^{1/2} S_1 S_0^{1/2} + \sigma^4)^{1/2},

written so that nothing is inverted: S_0 and S_1 may be singular.
"""

from __future__ import annotations

from typing import Any

import torch

from sdekit.bridge.closed_form.inputs import two_laws
from sdekit.bridge.closed_form.joint import Joint
from sdekit.bridge.closed_form.mixture import BridgeMixture
from sdekit.bridge.closed_form.reference import make_reference
from sdekit.sde import AffineSDE


def gaussian_bridge(
    m0: Any, S0: Any, m1: Any, S1: Any, sigma: Any = None, *, reference: AffineSDE | None = None
) -> BridgeMixture:
    """The Schrödinger bridge from N(m0, S0) at 0 to N(m1, S1) at T, as a Gaussian process.

    m0, m1: numbers or (D,). S0, S1: numbers, variances (D,) or matrices (D, D), in any position to
    each other, singular ones included. Either sigma, a number or (D,): Brownian motion sigma dW on
    [0, 1]; or reference, any ``AffineSDE`` on [0, reference.T].
    ``.joint`` has the law of both ends; ``.marginal(t)``, ``.forward_drift(t)``,
    ``.backward_drift(t)``, ``.forward_equation()`` and ``.backward_equation()`` the rest.
    Raises TypeError or ValueError for shapes that do not fit, matrices that are no covariances, and
    a reference without noise.
    """
    source, target = two_laws(m0, S0, m1, S1)
    made = make_reference(sigma, reference, len(source.mean))
    alpha, v = made.step(0.0, made.T)
    left = (alpha / v).unsqueeze(1) * source.root
    values, vectors = torch.linalg.eigh(left.mT @ target.cov @ left)
    h = 2.0 / (1.0 + (1.0 + 4.0 * values.clamp(min=0.0)).sqrt())
    inner = source.root @ vectors * h @ vectors.mT
    cross = inner @ left.mT @ target.cov
    joint = Joint(source.mean, target.mean, source.cov, cross, target.cov)
    return BridgeMixture(joint, made)
