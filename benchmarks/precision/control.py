"""Control variates: the part of a number that the Brownian path's end explains, taken away."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["without_path"]


def without_path(values: Tensor, controls: Sequence[Tensor]) -> Tensor:
    """values - sum_i c_i controls_i with c fitted by least squares, (B,).

    Each control has mean zero exactly, so that the mean is that of ``values``; fitting on the same
    paths shifts it by O(1 / B), far below a standard error. What is not finite stays so.
    """
    c = torch.stack(list(controls), 1)
    fine = values.isfinite()
    centred = c[fine] - c[fine].mean(0)
    fitted = torch.linalg.solve(centred.T @ centred, centred.T @ values[fine])
    return values - c @ fitted
