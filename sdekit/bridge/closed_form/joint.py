"""The joint Gaussian law of the two ends of a process."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Joint:
    """(X_0, X_T) is Gaussian: its means (D,) and the blocks (D, D) of its covariance, in float64.

    ``cov01`` is Cov(X_0, X_T) = E[(X_0 - mean0) (X_T - mean1)^T], row of X_0, column of X_T.
    """

    mean0: Tensor
    mean1: Tensor
    cov00: Tensor
    cov01: Tensor
    cov11: Tensor

    @property
    def mean(self) -> Tensor:
        """The mean of both ends one after the other, (2 D,)."""
        return torch.cat([self.mean0, self.mean1])

    @property
    def cov(self) -> Tensor:
        """The covariance of both ends one after the other, (2 D, 2 D)."""
        upper = torch.cat([self.cov00, self.cov01], 1)
        return torch.cat([upper, torch.cat([self.cov01.mT, self.cov11], 1)])

    def reversed(self) -> Joint:
        """The same law with the ends in the other order."""
        return Joint(self.mean1, self.mean0, self.cov11, self.cov01.mT, self.cov00)
