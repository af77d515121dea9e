"""Whose noise each row of a batch has: one image depends on its own seed and number alone.

Row k has the normals of (seed_k, number_k). A batch of consecutive numbers of one seed is one call
of a kernel; a list of chosen ones is cut into such runs, and each step makes one call a run (some
20 microseconds on a CPU), so that the kernels need not know about it and the bits are the same.
All that a sampler does itself is bit for bit the same alone and in any batch. A network whose
matrix products take another path for another size of batch rounds differently there: by 2e-7 of
the result for the small MLP on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import sdekit_kernels
import torch
from sdekit_kernels.checks import check_int_range
from torch import Tensor

from sdekit.sde import AffineSDE

__all__ = ["Draws", "Piece", "check_draws"]

Step = Callable[..., tuple[Tensor, Tensor | None]]


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows start..stop - 1 have the numbers first_sample, first_sample + 1... of a seed."""

    start: int
    stop: int
    seed: int
    first_sample: int

    @property
    def rows(self) -> slice:
        """The piece's rows of a batch."""
        return slice(self.start, self.stop)


@dataclass(frozen=True, slots=True)
class Draws:
    """The pieces of a batch, in the order of its rows; one at least, also of an empty batch."""

    pieces: tuple[Piece, ...]

    def prior(self, sde: AffineSDE, size: tuple[int, ...], **how: Any) -> Tensor:
        """Draws of the law at T, of shape ``size``: each piece its own."""
        return self._drawn(sde.prior_sample, size, how)

    def normal(self, size: tuple[int, ...], **how: Any) -> Tensor:
        """Standard normals of shape ``size``, as ``sdekit_kernels.normal``."""
        return self._drawn(sdekit_kernels.normal, size, how)

    def _drawn(self, draw: Callable[..., Tensor], size: tuple[int, ...], how: Any) -> Tensor:
        parts = [draw((p.stop - p.start, *size[1:]), **_whose(p), **how) for p in self.pieces]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def step(
        self, kernel: Step, x: Tensor, s: Tensor, *coefficients: Any, **how: Any
    ) -> tuple[Tensor, Tensor | None]:
        """``kernel(x, s, *coefficients, **how)``, piece by piece; (x_next, x_mean or None)."""
        if len(self.pieces) == 1:
            return kernel(x, s, *coefficients, **_whose(self.pieces[0]), **how)
        parts = [
            kernel(
                x[p.rows],
                s[p.rows],
                *(_part(c, p, x) for c in coefficients),
                **_whose(p),
                **how,
            )
            for p in self.pieces
        ]
        means = [mean for _, mean in parts if mean is not None]
        return torch.cat([y for y, _ in parts]), torch.cat(means) if means else None


def check_draws(seed: Any, first_sample: Any, samples: Any, n: int) -> Draws:
    """The pieces of n rows from what a user gives.

    seed: an integer, or n of them; samples: the rows' numbers, n integers; first_sample,
    first_sample + 1... if None and the seed is one, first_sample of each seed if there are n.
    Raises TypeError for what is no integer, ValueError for a list of another length, numbers out of
    range, or both samples and first_sample.
    """
    first = check_int_range("first_sample", first_sample, 0, (1 << 63) - n + 1)
    if samples is not None and first:
        raise ValueError(
            f"samples are the numbers themselves: leave first_sample={first} away, or add it to "
            "each of them"
        )
    seeds = _integers("seed", seed, n, -(1 << 63), 1 << 64)
    if samples is not None:
        numbers = _integers("samples", samples, n, 0, (1 << 63) - 1)
        if numbers is None:
            raise TypeError(f"samples must be {n} integers, one a row, got {samples!r}")
    else:
        numbers = None if seeds is None else [first] * n
    if seeds is None and numbers is None:
        one = check_int_range("seed", seed, -(1 << 63), 1 << 64)
        return Draws((Piece(0, n, one, first),))
    seeds = [check_int_range("seed", seed, -(1 << 63), 1 << 64)] * n if seeds is None else seeds
    assert numbers is not None
    starts = [
        k
        for k in range(n)
        if k == 0 or seeds[k] != seeds[k - 1] or numbers[k] != numbers[k - 1] + 1
    ]
    ends = [*starts[1:], n] if starts else []
    pieces = [Piece(a, b, seeds[a], numbers[a]) for a, b in zip(starts, ends, strict=True)]
    return Draws(tuple(pieces) or (Piece(0, 0, 0, 0),))


def _integers(what: str, given: Any, n: int, low: int, high: int) -> list[int] | None:
    """``given`` as n integers, None if it is no list; raises TypeError or ValueError."""
    if isinstance(given, Tensor) and given.ndim > 0:
        given = given.tolist()
    if not isinstance(given, Sequence) or isinstance(given, str):
        if hasattr(given, "tolist") and getattr(given, "ndim", 0) > 0:
            given = given.tolist()
        else:
            return None
    if len(given) != n:
        raise ValueError(f"{what} must hold one number for each of {n} samples, got {len(given)}")
    return [check_int_range(f"an entry of {what}", v, low, high) for v in given]


def _whose(p: Piece) -> dict[str, int]:
    return {"seed": p.seed, "first_sample": p.first_sample}


def _part(coefficient: Any, p: Piece, x: Tensor) -> Any:
    """A coefficient's rows where it has one a sample; (1, D...), 0-d and numbers serve all."""
    if isinstance(coefficient, Tensor) and coefficient.ndim == x.ndim and len(coefficient) > 1:
        return coefficient[p.rows]
    return coefficient
