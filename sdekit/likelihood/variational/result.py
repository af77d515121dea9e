"""What ``variational_bound`` found."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from sdekit.likelihood.transform import DataTransform

__all__ = ["VariationalBound"]


@dataclass(frozen=True, slots=True)
class VariationalBound:
    """An estimate of the bound on -log p(x_0), one row a sample, on x_0's device.

    terms: (B, N + 1) float64, nats: column 0 is L_0 = -log p(x_0 | x_1), column k - 1 is L_{k-1},
    what level k tells of x_{k-1}, and column N is L_T. Where levels were drawn at random, a column
    is an unbiased estimate all the same, most of them 0. std_error: (B,) nats, of ``total``; NaN
    for one draw, which cannot tell. squared_error: (B, N) float64, |x_0 - x0_hat|^2 / D at level
    k in column k - 1, NaN for levels that were not visited. dim: D. decoder, variance: as asked.
    transform: the map of the integers, None for a density alone. nfe: evaluations of the network
    on one sample. A sample that leaves the finite numbers has NaN or inf; the others are unharmed.
    """

    terms: Tensor
    std_error: Tensor
    squared_error: Tensor
    dim: int
    decoder: str
    variance: str
    transform: DataTransform | None
    nfe: int

    @property
    def total(self) -> Tensor:
        """The bound on -log p(x_0), (B,) nats.

        That of a probability for a discretized decoder, of a density for decoder="gaussian".
        """
        return self.terms.sum(1)

    @property
    def bits_per_dim(self) -> Tensor:
        """The bound in bits per component of the integer data, (B,).

        For decoder="gaussian" the density of x becomes one of integers by the transform's
        log |dx/dk|; raises ValueError if there is none, or if it does not dequantize.
        """
        return (self.total / self.dim - self._offset()) / math.log(2.0)

    @property
    def bits_std_error(self) -> Tensor:
        """Standard error of ``bits_per_dim``, (B,)."""
        return self.std_error / (self.dim * math.log(2.0))

    @property
    def bits_by_level(self) -> Tensor:
        """Mean over the samples of each term, (N + 1,) bits per dimension.

        Their sum is the mean of ``bits_per_dim``: for decoder="gaussian" the transform's share is
        in L_0. Raises as ``bits_per_dim``.
        """
        mean = self.terms.mean(0) / self.dim
        mean[0] -= self._offset()
        return mean / math.log(2.0)

    @property
    def terms_bits(self) -> Tensor:
        """``terms`` in bits per dimension, without the transform's share: (B, N + 1)."""
        return self.terms / (self.dim * math.log(2.0))

    def _offset(self) -> float:
        if self.decoder != "gaussian":
            return 0.0
        if self.transform is None:
            raise ValueError(
                "bits per dimension of a density need the map from integers to x: write "
                'variational_bound(..., decoder="gaussian", transform=DataTransform(levels, low, '
                'high)), or decoder="discretized"'
            )
        if not self.transform.dequantize:
            raise ValueError(
                "a density of data that was never dequantized gives no bits per dimension, since "
                'it may be as high as it likes on a lattice: write decoder="discretized", or '
                "DataTransform(levels, low, high), which adds the noise"
            )
        return self.transform.log_abs_det

    def __repr__(self) -> str:
        mean = float(self.total.mean()) if len(self.terms) else math.nan
        error = float(self.std_error.square().sum().sqrt()) / max(len(self.terms), 1)
        return (
            f"VariationalBound({len(self.terms)} samples of {self.dim} components, "
            f"{self.terms.shape[1] - 1} levels, mean {mean:.6g} ± {error:.2g} nats, "
            f"decoder={self.decoder!r}, variance={self.variance!r}, nfe={self.nfe})"
        )
