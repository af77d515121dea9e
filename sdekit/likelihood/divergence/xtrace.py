r"""XTrace (Epperly, Tropp & Webber 2024): every test vector serves the sketch and the residual."""

from __future__ import annotations

from copy import copy
from functools import partial
from typing import final

import torch
from torch import Tensor

from sdekit.likelihood.divergence.derivative import Field
from sdekit.likelihood.divergence.estimator import Divergence, mean_and_error, slices
from sdekit.likelihood.divergence.kept import Kept
from sdekit.likelihood.divergence.products import Engine, Jacobian

__all__ = ["XTrace"]


@final
class XTrace(Divergence):
    r"""The mean of k Hutch++ estimates, each with all test vectors but one as its sketch.

    With \Omega = (w_1 .. w_k), Y = J \Omega and Q_i an orthonormal basis of Y without column i,

        X_i = tr(Q_i^T J Q_i) + c_i (P_i w_i)^T J (P_i w_i),   P_i = 1 - Q_i Q_i^T.

    Q_i does not depend on w_i, so each X_i is unbiased, and the k of them are exchangeable. One QR
    decomposition Y = Q R serves all: Q_i Q_i^T = Q (1 - s_i s_i^T) Q^T with s_i the normalized
    column i of R^{-T}. So X_i = tr H - s_i^T H s_i + u_i^T J u_i, H = Q^T J Q: 2 k products.
    ``normalized`` (needs Gaussian vectors): c_i = (D - k + 1) / |P_i w_i|^2 instead of 1, which
    gives the residual vector the length that it has on average; exact for a multiple of 1.

    As in ``HutchPP``, the sketch is that of the first call (k products more) and stays along the
    path. J of rank < k there, and of the same range later, leaves no error.

    Standard error, of the paper: \sqrt{\sum_i (X_i - mean)^2 / (k (k - 1))}. The X_i share their
    sketches, so it is an estimate of the right size, not an unbiased one. NaN for k = 1.

    vectors: (k, B, D...), independent, with E[w w^T] = 1, k <= D.
    """

    kind = "xtrace"

    def __init__(self, engine: Engine, vectors: Tensor, normalized: bool) -> None:
        self._engine, self._normalized = engine, normalized
        self.columns, self.products = vectors.shape[0], 2 * vectors.shape[0]
        self._kept = Kept(vectors)
        self._rows = self._kept.rows
        # Of these rows, once they are known: Q (k, B, D...), u (k, B, D...), and s (k, B, k), whose
        # first axis is i.
        self._fixed: tuple[Tensor, ...] | None = None

    def __call__(self, field: Field, x: Tensor) -> tuple[Tensor, Tensor]:
        """F(x), and X_i of each test vector, (B, k)."""
        jacobian, k = self._engine.at(field, x), self.columns
        if self._fixed is None:
            self._fixed = self._kept.of(self._rows, partial(self._choose, jacobian))
        q, u, s = self._fixed
        image = jacobian.products(slices(q), k)
        # H or its transpose: s^T H s cannot tell.
        h = torch.einsum("ibd,jbd->bij", q.flatten(2), image.flatten(2))
        whole = h.diagonal(dim1=1, dim2=2).sum(1, keepdim=True)
        one_less = whole - torch.einsum("bij,lbi,lbj->bl", h, s, s)
        return jacobian.value, one_less + jacobian.forms(slices(u), k)

    def take(self, rows: Tensor) -> XTrace:
        """The same vectors of fewer samples."""
        taken = copy(self)
        taken._rows, taken._fixed = self._rows[rows], None
        return taken

    def combine(self, integrals: Tensor) -> tuple[Tensor, Tensor]:
        """The mean of the columns, and the paper's estimate of its standard error."""
        return mean_and_error(integrals)

    def _choose(self, jacobian: Jacobian, drawn: Tensor) -> tuple[Tensor, ...]:
        """Q, u and s from the Jacobian at hand."""
        # Detached, as in Hutch++: gradients are those of the forms. (B, D, k) from here on.
        image = jacobian.products(slices(drawn), self.columns).detach()
        w = drawn.flatten(2).permute(1, 2, 0)
        q, r = torch.linalg.qr(image.flatten(2).permute(1, 2, 0))
        s = _orthogonal_to_others(r)
        # P_i w_i = w_i - Q Q^T w_i + Q s_i (s_i . Q^T w_i).
        inside = q.mT @ w
        along = (s * inside).sum(1, keepdim=True)
        u = w - q @ (inside - s * along)
        if self._normalized:
            length = u.square().sum(1, keepdim=True)
            u = u * ((w.shape[1] - self.columns + 1) / length).sqrt()
        q, u, s = (v.permute(2, 0, 1) for v in (q, u, s))
        return q.reshape(drawn.shape), u.reshape(drawn.shape), s


def _orthogonal_to_others(r: Tensor) -> Tensor:
    """Unit vectors s_i orthogonal to all columns of r (B, k, k) but column i: (B, k, k).

    If r is singular there are several, and any will do: its diagonal is lifted to rounding errors.
    """
    diagonal = r.diagonal(dim1=1, dim2=2)
    least = torch.finfo(r.dtype).eps * diagonal.abs().amax(1, keepdim=True)
    least = torch.where(least > 0.0, least, 1.0)
    lift = torch.where(diagonal.abs() < least, least - diagonal, 0.0)
    one = torch.eye(r.shape[1], dtype=r.dtype, device=r.device).expand_as(r)
    s = torch.linalg.solve_triangular((r + torch.diag_embed(lift)).mT, one, upper=False)
    return s / s.square().sum(1, keepdim=True).sqrt()
