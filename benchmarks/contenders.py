"""Everybody who simulates a ``System``: from the initial states to the last ones, one call each."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import torch
from sdekit_kernels import normal
from torch import Tensor

import sdekit as sk
from benchmarks.checks import relative_error
from benchmarks.compiled_loop import PATH_STREAM
from benchmarks.rivals import eager_loop, torchsde_loop
from benchmarks.systems import System

FUSED, STEPS, EAGER = "sdekit", "sdekit, step by step", "eager torch"
TORCHSDE, DIFFRAX, JAX = "torchsde euler", "diffrax Euler", "plain jax"
UNTOLD = "torchsde euler, its own defaults"
CONTENDERS = (FUSED, STEPS, EAGER, TORCHSDE, DIFFRAX)
SEED = 0


class Missing(Exception):
    """Why a contender cannot run here."""


def prepare(contender: str, system: System, paths: int, backend: str = "auto") -> Callable[[], Any]:
    """What one call is: Euler-Maruyama of ``paths`` paths, the result as the library gives it.

    backend: sdekit's. Raises Missing where the library is not installed.
    """
    if contender in (DIFFRAX, JAX):
        if find_spec("diffrax") is None:
            raise Missing("not installed: pip install sdekit[diffrax]")
        from benchmarks import rivals_jax

        make = rivals_jax.diffrax_loop if contender == DIFFRAX else rivals_jax.jax_loop
        return make(system, paths)
    x0 = system.x0(paths)
    if contender in (TORCHSDE, UNTOLD):
        if find_spec("torchsde") is None:
            raise Missing("not installed: pip install torchsde")
        return lambda: torchsde_loop(system, x0, told=contender == TORCHSDE)
    if contender == EAGER:
        return lambda: eager_loop(system, x0)
    fuse = None if contender == FUSED else False
    return lambda: solve(system, x0, fuse=fuse, backend=backend).x


def solve(system: System, x0: Tensor, **options: Any) -> Any:
    """sdekit's solution over the system's own grid."""
    return sk.solve(system, x0, t0=0.0, t1=system.span, steps=system.steps, seed=SEED, **options)


def as_tensor(found: Any) -> Tensor:
    """A result as a torch tensor; jax's arrays are copied, for nobody may write to them."""
    return found if isinstance(found, Tensor) else torch.from_numpy(np.array(found))


def expected_seconds(done: list[tuple[int, float]], paths: int) -> float:
    """A line through the last two cells; where there is but one, all of it counts as overhead."""
    if len(done) < 2:
        return done[0][1] if done else 0.0
    n, seconds = done[-1]
    before, less = done[-2]
    slope = max(seconds - less, 0.0) / (n - before)
    return seconds + slope * (paths - n)


class SameNoise(NamedTuple):
    """Relative errors against float64 on the same float32 normals: sdekit's, and plain torch's."""

    error: float
    plain: float

    @property
    def limit(self) -> float:
        """What rounding in another order may make of what plain torch in float32 is off by.

        Plain torch itself must be right: 1e-4 is far above its rounding in any of the systems.
        """
        return 4.0 * min(self.plain, 1e-4) + 1e-6


def same_noise(system: System, found: Tensor, backend: str = "auto") -> SameNoise:
    """Check the first paths of a result of ``solve`` against loops of plain torch.

    backend: who makes the normals that the loops are given.
    """
    exact = system.to(torch.float64)
    draw: dict[str, Any] = {"seed": SEED, "stream": PATH_STREAM, "backend": backend}
    shape = (found.shape[0], system.channels)
    noise = [normal(shape, step=k, device=found.device, **draw) for k in range(system.steps)]
    reference = _plain(exact, exact.x0(found.shape[0]), system.steps, noise)
    plain = _plain(system, system.x0(found.shape[0]), system.steps, noise)
    return SameNoise(relative_error(found, reference), relative_error(plain, reference))


def _plain(system: System, x: Tensor, steps: int, noise: list[Tensor]) -> Tensor:
    dt = system.span / steps
    t = torch.zeros((), device=x.device, dtype=x.dtype)
    for z in noise:
        g, dw = system.diffusion(t, x), z.to(x) * dt**0.5
        move = (g * dw.unsqueeze(1)).sum(-1) if system.noise_type == "general" else g * dw
        x = x + system.drift(t, x) * dt + move
    return x
