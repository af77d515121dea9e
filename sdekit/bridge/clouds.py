"""Two clouds of points as their user gives them: checked, and brought to float64."""

from __future__ import annotations

from sdekit_kernels.checks import check_float_tensor
from torch import Tensor


def cloud(name: str, given: Tensor) -> Tensor:
    """Points (n, D...) as (n, D) in float64; raises TypeError or ValueError for anything else."""
    points = check_float_tensor(name, given)
    if points.ndim < 2 or points.numel() == 0:
        raise ValueError(f"{name} must be points (n, D...), got shape {tuple(points.shape)}")
    bad = ~points.isfinite().flatten(1).all(1)
    if bool(bad.any()):
        raise ValueError(f"{name} is not finite at {int(bad.sum())} of its {len(bad)} points")
    return points.detach().double().flatten(1)


def two_clouds(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Both clouds; raises ValueError too if their points have different numbers of components."""
    x, y = cloud("x", x), cloud("y", y)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"points of {x.shape[1]} components cannot meet those of {y.shape[1]}")
    return x, y.to(x.device)
