r"""The chain that iterative proportional fitting begins with.

IPF from any law e^{a(x_0) + b(x_T)} R of paths tends to the same bridge as from the reference R:
the two functions are what it changes. The bridge between the Gaussians that have the means and
covariances of the two ends is such a law, with quadratic functions, and known in closed form
(Bunne, Hsieh, Cuturi & Krause 2022, arXiv 2202.05722, who begin so). It arrives where the target
is; the reference does so only where its noise is as large as the way, and needs many half-steps
where it is small.
"""

from __future__ import annotations

import math
from typing import Final

import torch

from sdekit.bridge.closed_form import gaussian_bridge
from sdekit.bridge.counters import MOMENTS
from sdekit.bridge.drifts import AffineDrift, Drift, ReferenceDrift
from sdekit.bridge.ends import End, Samples
from sdekit.bridge.grid import TimeGrid
from sdekit.sde import AffineSDE

STARTS: Final = ("reference", "gaussian")
LARGEST: Final = 1024
"""Components, of which the Gaussian bridge takes matrices at each time of the grid."""
DRAWN: Final = 1 << 14
"""Points from which moments are taken, of data all, if they are fewer."""


def first_drift(
    start: str, ends: tuple[End, End], reference: AffineSDE, grid: TimeGrid, seed: int
) -> Drift:
    """The forward drift of the first chain, ``start`` of ``STARTS``.

    Raises ValueError for "gaussian" in more than 1,024 components.
    """
    if start == "reference":
        return ReferenceDrift(reference)
    like = ends[0].like
    size = math.prod(like.shape[1:])
    if size > LARGEST:
        raise ValueError(
            f'start="gaussian" takes {size} x {size} matrices at each time of the grid, of at most '
            f'{LARGEST} components: write start="reference"'
        )
    moments: list[torch.Tensor] = []
    for end in ends:
        count = min(len(end.data), DRAWN) if isinstance(end, Samples) else DRAWN
        x = end.draw(seed, MOMENTS, 0, count)
        x = x.flatten(1).double().cpu()
        y = x - x.mean(0)
        moments += [x.mean(0), y.mT @ y / len(y)]
    bridge = gaussian_bridge(*moments, reference=reference)
    maps = [bridge.forward_drift(t) for t in grid.asked("forward").tolist()]
    matrices, shifts = (
        torch.stack(list(v)).to(like.device)
        for v in zip(*[(m.matrix, m.shift) for m in maps], strict=True)
    )
    return AffineDrift(matrices, shifts, grid, "forward")
