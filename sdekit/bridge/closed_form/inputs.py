"""Gaussians as a user gives them: checked, and brought to float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

SYMMETRY = 1e-6
"""What a covariance may lack in symmetry or positivity, of its largest entry: float32 passes."""


@dataclass(frozen=True, slots=True)
class Gaussian:
    """N(mean, cov) with mean (D,), cov (D, D) and a root (D, D): root root^T = cov; in float64."""

    mean: Tensor
    cov: Tensor
    root: Tensor


def two_laws(m0: Any, S0: Any, m1: Any, S1: Any) -> tuple[Gaussian, Gaussian]:
    """The laws of both ends.

    Means are numbers or (D,). Covariances are numbers (times the identity), variances (D,), or
    matrices (D, D), symmetric and positive semi-definite: singular ones are fine.
    Raises TypeError for what are no numbers; ValueError for shapes that do not fit, numbers that
    are not finite, and matrices that are no covariances.
    """
    given = {"m0": m0, "S0": S0, "m1": m1, "S1": S1}
    tensors = {name: _tensor(name, value) for name, value in given.items()}
    sizes = {name: v.shape[0] for name, v in tensors.items() if v.ndim > 0}
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name} {tuple(tensors[name].shape)}" for name in sizes)
        raise ValueError(f"source and target must have the same D components, got {listed}")
    d = next(iter(sizes.values()), 1)
    return (
        _law("m0", tensors["m0"], "S0", tensors["S0"], d),
        _law("m1", tensors["m1"], "S1", tensors["S1"], d),
    )


def covariance(name: str, given: Any, d: int) -> tuple[Tensor, Tensor]:
    """A covariance as a matrix (d, d), and a root of it; raises as ``two_laws`` does."""
    value = _tensor(name, given)
    matrix = value * torch.eye(d, dtype=torch.float64) if value.ndim < 2 else value
    if matrix.shape != (d, d):
        raise ValueError(
            f"{name} must be a number, variances ({d},) or a matrix ({d}, {d}), "
            f"got shape {tuple(value.shape)}"
        )
    scale = float(matrix.abs().max())
    if not torch.allclose(matrix, matrix.mT, rtol=0.0, atol=SYMMETRY * scale):
        raise ValueError(f"{name} must be symmetric: write ({name} + {name}.mT) / 2")
    matrix = 0.5 * (matrix + matrix.mT)
    values, vectors = torch.linalg.eigh(matrix)
    if float(values[0]) < -SYMMETRY * scale:
        raise ValueError(
            f"{name} must be positive semi-definite, its smallest eigenvalue is "
            f"{float(values[0]):.3g}"
        )
    return matrix, vectors * values.clamp(min=0.0).sqrt()


def _law(mean_name: str, mean: Tensor, cov_name: str, cov: Tensor, d: int) -> Gaussian:
    if mean.ndim > 1:
        raise ValueError(f"{mean_name} must be a number or ({d},), got shape {tuple(mean.shape)}")
    return Gaussian(mean.expand(d).clone(), *covariance(cov_name, cov, d))


def _tensor(name: str, given: Any) -> Tensor:
    try:
        value = torch.as_tensor(given, dtype=torch.float64, device="cpu").detach()
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"{name} must be a number, an array or a tensor, got {given!r}") from None
    if value.numel() == 0:
        raise ValueError(f"{name} must not be empty, got shape {tuple(value.shape)}")
    if not bool(value.isfinite().all()):
        raise ValueError(f"{name} must have finite numbers only")
    return value
