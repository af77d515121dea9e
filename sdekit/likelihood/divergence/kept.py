"""Vectors that are made of a sample's first Jacobian and never change after that."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import torch
from torch import Tensor

__all__ = ["Kept"]


@final
class Kept:
    """One book for an estimator and all that are taken from it, so that a sample's vectors are made
    once, whoever is called first: an ODE that drops samples goes on with the vectors it began with.

    drawn: (n, B, D...), what the vectors are made of. Every tensor here has its samples along
    axis 1.
    """

    def __init__(self, drawn: Tensor) -> None:
        self._drawn = drawn
        self._made: tuple[Tensor, ...] | None = None
        self._known = torch.zeros(drawn.shape[1], dtype=torch.bool, device=drawn.device)

    @property
    def rows(self) -> Tensor:
        """The numbers of all samples."""
        return torch.arange(len(self._known), device=self._known.device)

    def of(self, rows: Tensor, make: Callable[[Tensor], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """The tensors of these samples; ``make(drawn)``, once a sample, gives them."""
        known = self._known[rows]
        if self._made is None or not bool(known.all()):
            new, missing = make(self._drawn.index_select(1, rows)), ~known
            if self._made is None:
                self._made = tuple(v.new_zeros(len(v), len(self._known), *v.shape[2:]) for v in new)
            for whole, part in zip(self._made, new, strict=True):
                whole[:, rows[missing]] = part[:, missing]
            self._known[rows] = True
            if bool(self._known.all()):
                self._drawn = self._drawn[:0]
        return tuple(v.index_select(1, rows) for v in self._made)
