r"""An order of convergence as a measurement: slope of log error against log dt, and its interval.

With B batches of paths the slope s of all paths and the slopes s_{-b} of all but batch b give the
jackknife's pseudo-values B s - (B - 1) s_{-b} (Tukey 1958). Their mean is the order, with the bias
of a logarithm of few paths removed to first order; Student's t on B - 1 degrees of freedom gives
its interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

__all__ = ["Order", "order_of", "student_quantile"]

CONFIDENCE = 0.99


@dataclass(frozen=True)
class Order:
    """The measured order of a method on one equation.

    kind: "strong" or "weak". steps, dt: of each level. error: of each level; std_error: its
    standard error, zero where the error is not a sample's. order: the slope of log error against
    log dt. half_width: of the 99 % confidence interval around it, zero where nothing was sampled.
    """

    kind: str
    method: str
    steps: tuple[int, ...]
    dt: tuple[float, ...]
    error: tuple[float, ...]
    std_error: tuple[float, ...]
    order: float
    half_width: float

    def __str__(self) -> str:
        rows = [f"{self.method}: {self.kind} order {self.order:.3f} +- {self.half_width:.3f}"]
        rows.append(f"{'steps':>8} {'dt':>12} {'error':>12} {'std. error':>12}")
        for row in zip(self.steps, self.dt, self.error, self.std_error, strict=True):
            rows.append("{:8d} {:12.4e} {:12.4e} {:12.1e}".format(*row))
        return "\n".join(rows)


def order_of(
    kind: str, method: str, span: float, steps: Sequence[int], by_batch: Tensor, power: float = 1.0
) -> Order:
    """From a mean m over each batch at each level, (levels, batches): the error is |E m|^(1/power).

    One batch is no sample: then the order has no interval.
    """
    dt = tuple(span / n for n in steps)
    by_batch, batches = by_batch.double(), by_batch.shape[1]
    mean = by_batch.mean(1).abs()
    error = mean ** (1.0 / power)
    whole = _slope(dt, error)
    if batches == 1:
        nothing = (0.0,) * len(dt)
        return Order(
            kind, method, tuple(steps), dt, tuple(error.tolist()), nothing, float(whole), 0.0
        )
    # d |m|^(1/p) = |m|^(1/p) / (p |m|) dm.
    std_error = by_batch.std(1) / math.sqrt(batches) * error / (power * mean)
    left_out = (by_batch.sum(1, keepdim=True) - by_batch).abs() / (batches - 1)
    slopes = torch.stack([_slope(dt, m ** (1.0 / power)) for m in left_out.unbind(1)])
    pseudo = batches * whole - (batches - 1) * slopes
    half = student_quantile(CONFIDENCE, batches - 1) * float(pseudo.std()) / math.sqrt(batches)
    return Order(
        kind,
        method,
        tuple(steps),
        dt,
        tuple(error.tolist()),
        tuple(std_error.tolist()),
        float(pseudo.mean()),
        half,
    )


def _slope(dt: tuple[float, ...], error: Tensor) -> Tensor:
    """By least squares, 0-d; not finite where an error is zero or not finite."""
    x = torch.tensor(dt, dtype=torch.float64).log()
    x = x - x.mean()
    return (x * error.log()).sum() / x.square().sum()


def student_quantile(confidence: float, freedom: int) -> float:
    r"""q with P(|T| < q) = confidence for Student's t.

    With T = sqrt(freedom) tan(a) the angle a has a density proportional to cos(a)^{freedom - 1}.
    """
    angle = np.linspace(0.0, math.pi / 2, (1 << 16) + 1)
    density = np.cos(angle) ** (freedom - 1)
    mass = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    return math.sqrt(freedom) * math.tan(float(np.interp(confidence, mass / mass[-1], angle)))
