"""One network for both drifts, each fitted to a coupling of its own."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from sdekit.bridge.matching_problems import BridgeProblem
from sdekit.bridge.problems import ALL, Examples, Problem


@final
class BothProblem(Problem):
    """The forward drift on half of a batch, the backward drift on the other half.

    forward, backward: the projections, each of one direction, of the mixture that has data where
    that direction arrives.
    """

    def __init__(self, forward: BridgeProblem, backward: BridgeProblem) -> None:
        self.parts = (forward, backward)

    @property
    def seconds(self) -> float:
        """Of simulation so far."""
        return sum(part.seconds for part in self.parts)

    @property
    def most(self) -> int:
        """The largest batch: twice what the smaller cache gives."""
        return 2 * min(part.most for part in self.parts)

    @torch.no_grad()
    def batch(self, step: int, size: int, rows: slice = ALL) -> Examples:
        """Some pairs of both couplings; of a batch of one the forward drift alone."""
        half = (size + 1) // 2
        sizes = (half, size - half)
        found = [part.batch(step, n) for part, n in zip(self.parts, sizes, strict=True) if n]
        return _joined(found)

    @torch.no_grad()
    def at(self, j: int) -> Examples:
        """All pairs of both, each at the j-th time of its own direction."""
        found = [part.at(j) for part in self.parts]
        return _joined([e._replace(t=e.t.expand(len(e.x))) for e in found])


def _joined(found: list[Examples]) -> Examples:
    """Examples of one direction each as examples of two, of which one is seen."""
    targets, seen = [], []
    for k, examples in enumerate(found):
        rows: list[Tensor] = [torch.zeros_like(examples.target)] * 2
        rows[k] = examples.target
        targets.append(torch.stack(rows, 1))
        known = torch.zeros(2, dtype=examples.x.dtype, device=examples.x.device)
        known[k] = 1.0
        seen.append(known.expand(len(examples.x), 2))
    mask = torch.cat(seen)
    return Examples(
        torch.cat([e.t for e in found]),
        torch.cat([e.x for e in found]),
        torch.cat(targets),
        mask.view(*mask.shape, *[1] * (targets[0].ndim - 2)),
    )
