r"""What a divergence is to an ODE loop: some columns beside F(x), which it integrates.

Every estimator here is a fixed combination of quadratic forms v^T J v, with vectors that do not
change along the path. The integral of a column is therefore the same form of \int J dt, and what
holds for the trace of one matrix (no bias, the standard error) holds for the integrals. Columns
are smooth functions of time: nothing in them is redrawn or decided anew, so that error control sees
no jumps.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import final

import torch
from torch import Tensor

from sdekit.likelihood.divergence.derivative import Field
from sdekit.likelihood.divergence.products import Engine

__all__ = ["Divergence", "Exact", "Hutchinson", "basis", "mean_and_error", "slices"]


class Divergence(ABC):
    """div F in each sample: F(x) and ``columns`` numbers a sample at each call.

    kind: what is computed, which is "exact" wherever a stochastic method would take D products or
    more. columns: integrals to carry along. products: directions that a call multiplies with J.
    """

    kind: str
    columns: int
    products: int

    @abstractmethod
    def __call__(self, field: Field, x: Tensor) -> tuple[Tensor, Tensor]:
        """F(x) of x's shape, and the columns (B, columns).

        field: x (B, D...) -> F(x); row i of F may depend on row i of x alone. Raises RuntimeError
        at the first call if the field has no derivative with respect to x.
        """

    @abstractmethod
    def take(self, rows: Tensor) -> Divergence:
        """The estimator of these samples alone, with the vectors that they had. rows: (n,) int64.

        The number of bytes measured and what was found at the first call are shared.
        """

    @abstractmethod
    def combine(self, integrals: Tensor) -> tuple[Tensor, Tensor]:
        """Estimate (B,) and its standard error (B,) from columns or their integrals (B, columns).

        The error is 0 where there is none, NaN where the columns cannot tell.
        """


@final
class Exact(Divergence):
    r"""div F = \sum_j e_j^T J e_j over the D basis vectors."""

    kind, columns = "exact", 1

    def __init__(self, engine: Engine, dim: int) -> None:
        self._engine, self.products = engine, dim

    def __call__(self, field: Field, x: Tensor) -> tuple[Tensor, Tensor]:
        """F(x), and the divergence (B, 1)."""
        jacobian = self._engine.at(field, x)
        forms = jacobian.forms(basis(x), self.products)
        return jacobian.value, forms.sum(1, keepdim=True)

    def take(self, rows: Tensor) -> Exact:
        """Itself: nothing here belongs to a sample."""
        return self

    def combine(self, integrals: Tensor) -> tuple[Tensor, Tensor]:
        """The column, and 0."""
        return integrals[:, 0], torch.zeros_like(integrals[:, 0])


@final
class Hutchinson(Divergence):
    r"""The mean of v_j^T J v_j over n probes (Hutchinson 1990; for flows, Grathwohl et al. 2019).

    probes: (n, B, D...) with E[v v^T] = 1. Standard error, with s the standard deviation of the n
    columns: s / \sqrt{n} for independent probes. Orthogonal ones are n draws without replacement
    from the D directions of a frame, whose columns have the mean tr J. They are exchangeable and
    their D columns add up to a constant, so any two have the covariance -1 / (D - 1) of their
    variance, and the error of a mean is

        s / \sqrt{n} \sqrt{1 - n / D},

    whose square is unbiased. ``population``: that D; None for independent probes. The variance of a
    single column is at most 2 |J_s|_F^2 (Gaussian), with J_s the symmetric part; 2 times the sum of
    the squares off the diagonal of J_s (Rademacher).
    """

    kind = "hutchinson"

    def __init__(self, engine: Engine, probes: Tensor, population: int | None = None) -> None:
        self._engine, self._probes, self._population = engine, probes, population
        self.columns = self.products = probes.shape[0]

    def __call__(self, field: Field, x: Tensor) -> tuple[Tensor, Tensor]:
        """F(x), and v_j^T J v_j of each probe, (B, n)."""
        jacobian = self._engine.at(field, x)
        forms = jacobian.forms(slices(self._probes), self.columns)
        return jacobian.value, forms

    def take(self, rows: Tensor) -> Hutchinson:
        """The same probes of fewer samples."""
        return Hutchinson(self._engine, self._probes.index_select(1, rows), self._population)

    def combine(self, integrals: Tensor) -> tuple[Tensor, Tensor]:
        """The columns' mean, and its standard error; NaN for a single probe."""
        return mean_and_error(integrals, self._population)


def mean_and_error(columns: Tensor, population: int | None = None) -> tuple[Tensor, Tensor]:
    """The mean of n columns and its standard error, s / sqrt(n); NaN for one column.

    population: the columns are drawn from so many without replacement, see ``Hutchinson``.
    """
    n = columns.shape[1]
    mean = columns.mean(1)
    if n == 1:
        return mean, torch.full_like(mean, math.nan)
    left = 1.0 if population is None else 1.0 - n / population
    # Not std(): it warns of an empty batch.
    square = (columns - mean.unsqueeze(1)).square().sum(1) / (n - 1)
    return mean, (square * (left / n)).sqrt()


def slices(directions: Tensor) -> Callable[[int, int], Tensor]:
    """Rows [start, stop) of directions that are held in memory."""
    return lambda start, stop: directions[start:stop]


def basis(x: Tensor) -> Callable[[int, int], Tensor]:
    """Basis vectors [start, stop) of the event, (stop - start, 1, D...): never D^2 numbers."""

    def rows(start: int, stop: int) -> Tensor:
        part = torch.zeros(stop - start, x.shape[1:].numel(), dtype=x.dtype, device=x.device)
        part.diagonal(start).fill_(1.0)
        return part.view(-1, 1, *x.shape[1:])

    return rows
