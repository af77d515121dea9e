r"""Functions of the state as sums of basis functions, one family an axis.

An axis has n nodes and n basis functions, so that values at the nodes and coefficients are each
other's linear image. A grid is the product of its axes: points (N, *event), functions (N, F), F of
them at once.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import reduce
from typing import final

import numpy as np
import torch
from sdekit_kernels.checks import check_int_range
from torch import Tensor

__all__ = ["Axis", "Gaussian", "Grid", "Periodic"]


class Axis(ABC):
    """Nodes (n,), their weights (n,) of sum 1, and a basis."""

    nodes: Tensor
    weights: Tensor
    derivative: Tensor
    """(n, n): column k holds the coefficients of the k-th basis function's derivative."""

    @abstractmethod
    def basis(self, x: Tensor) -> Tensor:
        """All basis functions at x (...), (..., n)."""


@final
class Periodic(Axis):
    """Functions of period 2 pi: 1, cos x, sin x, cos 2x, ... on equal nodes; count is odd."""

    def __init__(self, count: int) -> None:
        count = check_int_range("count", count, 3, 1 << 12)
        if count % 2 == 0:
            raise ValueError(f"a periodic axis needs an odd number of nodes, got {count}")
        self.nodes = torch.arange(count, dtype=torch.float64) * (2.0 * math.pi / count)
        self.weights = torch.full((count,), 1.0 / count, dtype=torch.float64)
        self.derivative = torch.zeros(count, count, dtype=torch.float64)
        for k in range(1, count // 2 + 1):
            self.derivative[2 * k, 2 * k - 1] = -k
            self.derivative[2 * k - 1, 2 * k] = k

    def basis(self, x: Tensor) -> Tensor:
        """By the recurrence cos (k + 1) x = 2 cos x cos kx - cos (k - 1) x; likewise the sines."""
        twice = 2.0 * x.cos()
        rows = [torch.ones_like(x), 0.5 * twice, x.sin()]
        before = (rows[0], torch.zeros_like(x))
        while len(rows) < len(self.nodes):
            now = rows[-2], rows[-1]
            rows += [twice * now[0] - before[0], twice * now[1] - before[1]]
            before = now
        return torch.stack(rows, -1)


@final
class Gaussian(Axis):
    """Polynomials, orthonormal under N(mean, std^2), on the nodes of Gauss and Hermite."""

    def __init__(self, count: int, mean: float = 0.0, std: float = 1.0) -> None:
        count = check_int_range("count", count, 2, 1 << 8)
        self.mean, self.std = mean, std
        z, weights = np.polynomial.hermite_e.hermegauss(count)
        self.nodes = mean + std * torch.from_numpy(z)
        self.weights = torch.from_numpy(weights / weights.sum())
        root = torch.arange(1, count, dtype=torch.float64).sqrt()
        self.derivative = torch.diag(root, 1) / std

    def basis(self, x: Tensor) -> Tensor:
        """By the recurrence sqrt(k + 1) p_{k+1} = z p_k - sqrt(k) p_{k-1}."""
        z = (x - self.mean) / self.std
        rows = [torch.ones_like(z), z]
        for k in range(1, len(self.nodes) - 1):
            rows.append((z * rows[-1] - k**0.5 * rows[-2]) / (k + 1) ** 0.5)
        return torch.stack(rows[: len(self.nodes)], -1)


@final
class Grid:
    """The product of axes, one a component of the state, in the order of its flat components.

    event: the state's event shape; (D,) for D axes if it is not given.
    """

    def __init__(self, *axes: Axis, event: Sequence[int] | None = None) -> None:
        self.axes = axes
        self.event = tuple(event) if event is not None else (len(axes),)
        if math.prod(self.event) != len(axes):
            raise ValueError(
                f"an event of shape {self.event} has {math.prod(self.event)} components, but there "
                f"are {len(axes)} axes"
            )
        mesh = torch.meshgrid(*(a.nodes for a in axes), indexing="ij")
        self.points = torch.stack(mesh, -1).reshape(-1, *self.event)
        self.weights = reduce(torch.outer, (a.weights.flatten() for a in axes[:1]))
        for axis in axes[1:]:
            self.weights = torch.outer(self.weights, axis.weights).flatten()
        self._inverse = [torch.linalg.inv(a.basis(a.nodes)) for a in axes]
        self._to_slope = [
            a.basis(a.nodes) @ a.derivative @ inverse
            for a, inverse in zip(axes, self._inverse, strict=True)
        ]

    def __len__(self) -> int:
        return len(self.points)

    def bases(self, x: Tensor) -> list[Tensor]:
        """The basis of each axis at states x (..., D), each (..., n)."""
        return [a.basis(x[..., i]) for i, a in enumerate(self.axes)]

    def at_nodes(self, matrix: Tensor) -> Tensor:
        """A matrix (N, N) that takes coefficients, as one that takes values at the points."""
        columns = matrix.reshape(len(matrix), *(len(a.nodes) for a in self.axes))
        for i, inverse in enumerate(self._inverse, 1):
            columns = torch.movedim(torch.tensordot(columns, inverse, dims=([i], [0])), -1, i)
        return columns.reshape(matrix.shape)

    def slope(self, values: Tensor, axis: int) -> Tensor:
        """The derivative along an axis of functions given at the points, (N, F) to (N, F)."""
        shape = [len(a.nodes) for a in self.axes]
        cube = values.reshape(*shape, values.shape[-1])
        slopes = torch.tensordot(self._to_slope[axis], cube, dims=([1], [axis]))
        return torch.movedim(slopes, 0, axis).reshape(values.shape)

    def norm(self, values: Tensor) -> Tensor:
        """Root mean square over the points and the functions, 0-d."""
        return (self.weights[:, None] * values.square()).sum(0).mean().sqrt()

    @property
    def wave_numbers(self) -> list[float]:
        """The most that a derivative along each axis makes of a function's norm."""
        return [float(torch.linalg.matrix_norm(a.derivative, 2)) for a in self.axes]
