r"""A reference's bridges mixed over a Gaussian law of their two ends: a Gaussian process.

With \alpha = \alpha_{0,T}, v = v_{0,T} and y = x - offset, a bridge of dy = a y dt + g dW is

    y_t = k_0 y_0 + k_1 y_T + Z,   k_1 = v_{0,t} \alpha_{t,T} / v,   k_0 = \alpha_{0,t} v_{t,T} / v,
    Var Z = v_{0,t} v_{t,T} / v,

all elementwise. Mixed over a joint law of (y_0, y_T) this is the reciprocal process of Shi et al.
2023 (DSBM, arXiv 2303.16852); the drifts of its Markovian projection are conditional means given
y_t, so that they are affine. For the coupling of the Schrödinger bridge the mixture is Markov, and
these are its own drifts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sdekit.bridge.closed_form.affine_map import AffineEquation, AffineMap
from sdekit.bridge.closed_form.joint import Joint
from sdekit.bridge.closed_form.reference import Reference, Times, times
from sdekit.sde import Marginal


@dataclass(frozen=True, slots=True)
class BridgeMixture:
    """The process with ends of law ``joint`` and the reference's bridges between; 0 <= t <= T.

    ``dataclasses.replace(bridge, joint=joint)`` is the same of another coupling: an iterate of IPF
    (whose own process it is) or of IMF.

    A time is a number, a 0-d tensor, or (n,); results have a leading axis n then. All in float64 on
    the CPU. Where the covariance of X_t is singular (only at an end with a singular covariance, or
    with noise that vanishes there) a drift is right on the support of the law, and its matrix is
    zero across it.
    """

    joint: Joint
    reference: Reference

    @property
    def T(self) -> float:
        """The time of the second end."""
        return self.reference.T

    def marginal(self, t: Times) -> Marginal:
        """Mean (D,), standard deviations (D,) and covariance (D, D) of X_t."""
        mean, cov = self._moments(self._time(t))
        return Marginal(mean, cov.diagonal(dim1=-2, dim2=-1).clamp(min=0.0).sqrt(), cov)

    def covariance(self, s: Times, t: Times) -> Tensor:
        """Cov(X_s, X_t) of the mixture, (D, D), for times in either order."""
        s, t = self._time(s), self._time(t)
        (a0, a1, _), (b0, b1, _) = self._weights(s), self._weights(t)
        first, last = torch.minimum(s, t), torch.maximum(s, t)
        before = self.reference.step(torch.zeros_like(s), first)[1]
        ratio = self.reference.step(first, last)[0]
        after = self.reference.step(last, torch.full_like(t, self.T))[1]
        noise = before * ratio * after / self._whole()[1]
        return self._mixed(a0, a1, b0, b1) + torch.diag_embed(noise)

    def forward_drift(self, t: Times) -> AffineMap:
        r"""b(t, x) = a y + g^2 E[\nabla_y log p(Y_T | y_t = y) | y_t = y], as a map of x."""
        return self._drift(self._time(t), 0.0)

    def backward_drift(self, t: Times) -> AffineMap:
        r"""b(t, x) - g^2 \nabla log p_t(x): what a solver runs over falling times.

        A driver's backward drift is along its own motion, which is this with the opposite sign.
        """
        return self._drift(self._time(t), 1.0)

    def flow(self, t: Times) -> AffineMap:
        """The velocity of the probability flow, the mean of both drifts."""
        return self._drift(self._time(t), 0.5)

    def forward_equation(self) -> AffineEquation:
        """The Markovian projection from 0 to T, for ``sk.solve`` from draws of X_0."""
        return AffineEquation(self.forward_drift, self.reference, backward=False)

    def backward_equation(self) -> AffineEquation:
        """The Markovian projection from T to 0, for ``sk.solve(..., t0=T, t1=0.0)``."""
        return AffineEquation(self.backward_drift, self.reference, backward=True)

    # -- what they are made of ---------------------------------------------------------------------

    def _time(self, t: Times) -> Tensor:
        t = times(t)
        # A time that was computed in float32 may pass T by its rounding.
        if t.ndim > 1 or bool(((t < -1e-6 * self.T) | (t > (1 + 1e-6) * self.T)).any()):
            raise ValueError(f"t must be a time or a row of times in [0, {self.T:g}], got {t}")
        return t.clamp(0.0, self.T)

    def _whole(self) -> tuple[Tensor, Tensor]:
        return self.reference.step(0.0, self.T)

    def _weights(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """k_0, k_1 and Var Z."""
        before, v0 = self.reference.step(torch.zeros_like(t), t)
        after, v1 = self.reference.step(t, torch.full_like(t, self.T))
        v = self._whole()[1]
        return before * v1 / v, v0 * after / v, v0 * v1 / v

    def _mixed(self, a0: Tensor, a1: Tensor, b0: Tensor, b1: Tensor) -> Tensor:
        """Cov(a0 Y_0 + a1 Y_T, b0 Y_0 + b1 Y_T)."""
        j = self.joint
        left = _rows(a0, j.cov00) + _rows(a1, j.cov01.mT)
        right = _rows(a0, j.cov01) + _rows(a1, j.cov11)
        return left * b0.unsqueeze(-2) + right * b1.unsqueeze(-2)

    def _moments(self, t: Tensor) -> tuple[Tensor, Tensor]:
        k0, k1, noise = self._weights(t)
        offset = self.reference.offset
        mean = offset + k0 * (self.joint.mean0 - offset) + k1 * (self.joint.mean1 - offset)
        cov = self._mixed(k0, k1, k0, k1) + torch.diag_embed(noise)
        return mean, 0.5 * (cov + cov.mT)

    def _drift(self, t: Tensor, back: float) -> AffineMap:
        r"""The forward drift plus ``back`` times -g^2 \nabla log p_t.

        Both conditional means, of (Y_T - \alpha_{t,T} y) / v_{t,T} forward and of
        (y - \alpha_{0,t} Y_0) / v_{0,t} backward, are written without these divisions: neither end
        is singular.
        """
        offset, (alpha, v) = self.reference.offset, self._whole()
        (a, g2), (k0, k1, _) = self.reference.rates(t), self._weights(t)
        after = self.reference.step(t, torch.full_like(t, self.T))[0]
        v0 = self.reference.step(torch.zeros_like(t), t)[1]
        mean, cov = self._moments(t)
        pull = _rows(after / v, self._mixed(-alpha.expand_as(k0), torch.ones_like(k0), k0, k1))
        gain = pull + torch.diag_embed(back - after.square() * v0 / v)
        gain = _rows(g2, gain @ _inverse(cov))
        matrix = torch.diag_embed(a) + gain
        mean0, mean1 = self.joint.mean0 - offset, self.joint.mean1 - offset
        shift = g2 * after / v * (mean1 - alpha * mean0) - _apply(gain, mean - offset)
        return AffineMap(matrix, shift - _apply(matrix, offset))


def _rows(scale: Tensor, matrix: Tensor) -> Tensor:
    """diag(scale) matrix."""
    return scale.unsqueeze(-1) * matrix


def _apply(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector.unsqueeze(-1)).squeeze(-1)


def _inverse(cov: Tensor) -> Tensor:
    """The inverse; the pseudo-inverse where rounding cannot tell an eigenvalue from zero."""
    out: Tensor = torch.linalg.pinv(cov, hermitian=True)
    return out
