r"""Hutch++ (Meyer, Musco, Musco & Woodruff 2021): the large part of a trace exactly."""

from __future__ import annotations

import math
from copy import copy
from functools import partial
from typing import final

import torch
from torch import Tensor

from sdekit.likelihood.divergence.derivative import Field
from sdekit.likelihood.divergence.estimator import Divergence, mean_and_error, slices
from sdekit.likelihood.divergence.kept import Kept
from sdekit.likelihood.divergence.probes import frame
from sdekit.likelihood.divergence.products import Engine, Jacobian

__all__ = ["HutchPP"]


@final
class HutchPP(Divergence):
    r"""tr J = tr(Q^T J Q) + tr(P J P), P = 1 - Q Q^T: the first exactly, the second by probes.

    Q, D x k, is an orthonormal basis of J S, S a random sketch: where J has k large singular values
    it holds nearly all of them. For any Q that does not depend on the probes g_j,

        tr(Q^T J Q) + 1/l \sum_j (P g_j)^T J (P g_j)

    is unbiased. Here J is the Jacobian of the first call, where the path starts, and Q stays, so
    that the other calls take k + l products (the first one 2 k + l) and stay unbiased: Q is merely
    less apt where J turns away. A J of rank <= k with the same range all along leaves no error.

    On a spectrum that decays, the error falls as 1 / (k + l), against 1 / sqrt(n) of Hutchinson.
    Shifted by c times the identity, as the Jacobian of a drift often is, J has no decaying
    spectrum: then ``orthogonal`` residuals help, which are exact for the shift.

    sketch: (k, B, D...). probes: (l, B, D...) with E[g g^T] = 1. orthogonal: the residual
    directions are sqrt(D - k) times the vectors of a random frame of the complement of Q (probes
    must be normals), with the standard error of draws without replacement from its D - k
    directions; otherwise P g_j. k + l < D. NaN for l = 1.
    """

    kind = "hutch++"

    def __init__(self, engine: Engine, sketch: Tensor, probes: Tensor, orthogonal: bool) -> None:
        self._engine, self._orthogonal = engine, orthogonal
        self._k, self._dim = sketch.shape[0], sketch.shape[2:].numel()
        self.columns = 1 + probes.shape[0]
        self.products = self._k + probes.shape[0]
        self._kept = Kept(torch.cat([sketch, probes]))
        self._rows = self._kept.rows
        # The directions of these rows, (k + l, B, D...), once they are known.
        self._directions: Tensor | None = None

    def __call__(self, field: Field, x: Tensor) -> tuple[Tensor, Tensor]:
        """F(x), then tr(Q^T J Q) and the l residual forms, (B, 1 + l)."""
        jacobian = self._engine.at(field, x)
        if self._directions is None:
            (self._directions,) = self._kept.of(self._rows, partial(self._choose, jacobian))
        forms = jacobian.forms(slices(self._directions), self.products)
        large = forms[:, : self._k].sum(1, keepdim=True)
        return jacobian.value, torch.cat([large, forms[:, self._k :]], dim=1)

    def take(self, rows: Tensor) -> HutchPP:
        """The same vectors of fewer samples."""
        taken = copy(self)
        taken._rows, taken._directions = self._rows[rows], None
        return taken

    def combine(self, integrals: Tensor) -> tuple[Tensor, Tensor]:
        """The first column plus the mean of the others, whose standard error is the sum's."""
        population = self._dim - self._k if self._orthogonal else None
        mean, error = mean_and_error(integrals[:, 1:], population)
        return integrals[:, 0] + mean, error

    def _choose(self, jacobian: Jacobian, drawn: Tensor) -> tuple[Tensor]:
        """The k vectors of Q and the l residual directions, (k + l, B, D...)."""
        # Detached: a gradient by the network's weights is that of the forms, at a fixed Q.
        image = jacobian.products(slices(drawn), self._k).detach()
        probes = drawn[self._k :].flatten(2)
        if self._orthogonal:
            whole = frame(torch.cat([image.flatten(2), probes]))
            scale = math.sqrt(self._dim - self._k)
            directions = torch.cat([whole[: self._k], scale * whole[self._k :]])
        else:
            q = frame(image.flatten(2))
            inside = torch.einsum("kbd,lbd->lbk", q, probes)
            directions = torch.cat([q, probes - torch.einsum("lbk,kbd->lbd", inside, q)])
        return (directions.view_as(drawn),)
