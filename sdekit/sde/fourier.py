"""Fourier integrals over the half line, to rounding, in torch."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

__all__ = ["half_line_fourier"]

_NODES, _PANELS = 32, 1024
_ERROR, _TAIL = 1e-13, 1e-15


@lru_cache(maxsize=1)
def _rule() -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of Gauss and Legendre on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return 0.5 * (nodes + 1.0), 0.5 * weights


def half_line_fourier(envelope: Callable[[Tensor], Tensor], k: Tensor) -> Tensor:
    r"""The integral \int_0^\infty Re[e^{i u k} envelope(u)] du, (B, K), for k (B, K) float64.

    envelope: takes u (n,) in float64 and gives (B, n) complex; analytic near the half line, of
    order one at most, and decaying faster than 1 / u^2. Panels of 32 Gauss-Legendre nodes follow
    the half line, each twice as wide as the one before; one is halved until it and its halves agree
    to 1e-13. They end where |envelope(u)| u is below 1e-15.
    Raises RuntimeError if that takes more than 1024 panels.
    """
    nodes, weights = (torch.from_numpy(v).to(k.device) for v in _rule())

    def panel(start: float, width: float) -> Tensor:
        u = start + width * nodes
        wave = torch.polar(torch.ones_like(u), u * k.unsqueeze(-1))
        values = (wave * envelope(u).unsqueeze(-2)).real
        return width * (values @ weights)

    total, start, width = torch.zeros_like(k), 0.0, 1.0
    for _ in range(_PANELS):
        whole = panel(start, width)
        halves = panel(start, 0.5 * width) + panel(start + 0.5 * width, 0.5 * width)
        if bool(((whole - halves).detach().abs() > _ERROR).any()) and width > 1e-6:
            width *= 0.5
            continue
        total, start = total + halves, start + width
        end = envelope(torch.full((1,), start, dtype=k.dtype, device=k.device)).detach()
        if not bool((end.abs() * start > _TAIL).any()):
            return total
        width *= 2.0
    raise RuntimeError(
        f"a Fourier integral did not converge in {_PANELS} panels: its integrand at {start:.3g} is "
        "not small yet (is the time or the variance zero?)"
    )
