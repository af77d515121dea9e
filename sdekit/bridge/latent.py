r"""Films of a bridge whose one end is Gaussian: latents that move, images that follow.

The latents of a film run along a stationary Ornstein-Uhlenbeck path between its frames,

    z_{k+1} = mean + e^{-h} (z_k - mean) + std \sqrt{1 - e^{-2 h}} \xi_k,   z_0 ~ N(mean, std^2),

which is exact: each frame is a draw of N(mean, std^2), frames i and j have the correlation
e^{-|i - j| h}. Each frame is then sent through the bridge along one and the same map: its
probability flow, or its SDE with the Brownian motion held fixed (the film of faces of De Bortoli et
al. 2021, arXiv 2106.01357, section 6). So the images move only because the latents do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

import sdekit_kernels
import torch
from sdekit_kernels.checks import check_choice, check_int_range, check_positive
from torch import Tensor

from sdekit.bridge.grid import check_direction
from sdekit.noise import keys
from sdekit.sde import OU
from sdekit.sde.parameters import parameter

__all__ = ["METHODS", "latent_film", "latent_path"]

METHODS: Final = ("flow", "sde")
TOGETHER: Final = 1024
"""Samples that go along the flow at once, at the most, whatever frames they belong to."""


class Sampler(Protocol):
    """A ``Driver`` or a ``Transport``."""

    def sample(self, x: Any, **options: Any) -> Tensor:
        """As ``Transport.sample``."""


@torch.no_grad()
def latent_path(
    shape: Sequence[int],
    frames: int,
    *,
    h: float = 0.05,
    mean: Any = 0.0,
    std: Any = 1.0,
    seed: int = 0,
    first_sample: int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Latents of ``shape`` (B, D...) along their path: (frames, B, D...).

    h: time between frames, in units of the path's correlation time; 0.05 turns a latent over in
    some 20 frames. mean, std: numbers, or tensors D... Sample i of the film is number
    ``first_sample`` + i of the seed: the same path, to the bit, in whatever batch it is made.
    Raises TypeError or ValueError for what is no shape, and numbers out of their range.
    """
    if isinstance(shape, int) or len(tuple(shape)) < 2:
        raise ValueError(f"shape must be (B, D...), the shape of one frame, got {shape!r}")
    size = [check_int_range("shape", n, 0, 1 << 40) for n in shape]
    count = check_int_range("frames", frames, 1, 1 << 31)
    step = check_positive("h", h)
    spread = parameter("std", std, minimum=0.0)
    # Of OU(1, mean, std sqrt(2)) the stationary law is N(mean, std^2), its correlation time is 1.
    path = OU(1.0, mean, torch.as_tensor(std, dtype=torch.float64) * 2.0**0.5)

    def normal(k: int) -> Tensor:
        return sdekit_kernels.normal(
            size,
            seed=seed,
            stream=keys.LATENT,
            step=k,
            first_sample=first_sample,
            dtype=dtype,
            device=device,
        )

    z = path.uncentered((spread * normal(0)).to(dtype))
    states = [z]
    for k in range(1, count):
        law = path.transition(0.0, step, z)
        z = (law.mean + law.std * normal(k)).to(dtype)
        states.append(z)
    return torch.stack(states)


@torch.no_grad()
def latent_film(
    bridge: Sampler,
    latents: Tensor,
    *,
    direction: str = "forward",
    method: str = "flow",
    seed: int = 0,
    first_sample: int = 0,
    rtol: float = 1e-4,
    atol: float = 1e-4,
) -> Tensor:
    """Where a bridge sends each frame of ``latents`` (frames, B, D...), of the same shape.

    bridge: a fitted ``DSB``, ``DSBM``, relative or ``Transport``. direction: "forward" where the
    Gaussian is the source, "backward" where it is the target. method: "flow", with rtol and atol,
    or "sde": sample i of all frames has the Brownian motion of number ``first_sample`` + i of the
    seed.

    >>> z = latent_path((8, 28, 28), frames=60)
    >>> sk.viz.film(latent_film(bridge, z), "film.gif")

    Raises TypeError or ValueError for latents of another shape and unknown names; otherwise as
    ``Transport.sample``.
    """
    check_direction(direction)
    check_choice("method", method, METHODS)
    if not isinstance(latents, Tensor) or latents.ndim < 3:
        given = tuple(latents.shape) if isinstance(latents, Tensor) else type(latents).__name__
        raise ValueError(
            f"latents must be (frames, B, D...), got {given}: write latent_path((B, D...), frames)"
        )
    if method == "sde":
        noise = {"seed": seed, "first_sample": first_sample}
        moved = [
            bridge.sample(z, direction=direction, method="sde", **noise) for z in latents.unbind()
        ]
        return torch.stack(moved) if moved else latents.clone()
    together = max(1, TOGETHER // max(1, latents.shape[1]))
    options: dict[str, Any] = {"direction": direction, "rtol": rtol, "atol": atol}
    moved = [
        bridge.sample(some.flatten(0, 1), method="flow", **options).view_as(some)
        for some in latents.split(together)
    ]
    return torch.cat(moved)
