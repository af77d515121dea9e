"""Solving one problem as one kernel and step by step."""

from __future__ import annotations

import torch

import sdekit as sk

X0 = torch.linspace(-0.5, 1.0, 300).view(150, 2)
OU = dict(theta=1.3, mu=0.2, sigma=0.7)
ROUNDING = 100 * 2.0**-23  # of 100 steps with states of order one: each rounds once or twice


class Plain:
    def __init__(self, drift, diffusion, **attributes):
        self.drift, self.diffusion = drift, diffusion
        self.__dict__.update(attributes)


def both(sde, x0=X0, **arguments):
    """The solve as one kernel, and step by step."""
    fused, stepwise = (sk.solve(sde, x0, fuse=f, **arguments) for f in (True, False))
    assert fused.stats.path == "trajectory_kernel"
    assert stepwise.stats.path in ("step_kernel", "torch")
    return fused, stepwise


def close(a, b, bound=ROUNDING):
    same = (a == b) | (a.isnan() & b.isnan())
    return bool((same | ((a - b).abs() <= bound)).all())
