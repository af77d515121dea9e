r"""How much of the mass exact IPF has in the wrong place, by its start: no network, no time steps.

The iterates between two clouds are scalings of the reference's transition by a function of the
target, e^g; after 2 k half-steps the process begins with the source's points exactly, and what
arrives has the weights p_j, which should be 1 / n:

    1/2 \sum_j |p_j - 1 / n|.

The reference itself arrives with a density, which on points of density q has the weights 1 / q:
log q by kernels of a tenth of the target's size.
"""

from __future__ import annotations

import argparse
from typing import Final

import torch
from torch import Tensor

from benchmarks.bridges.plane import ends
from benchmarks.bridges.sets import SETS
from sdekit.bridge.closed_form import gaussian_bridge

POINTS: Final = 2_500


def misplaced(name: str, sigma: float, start: str, half_steps: list[int]) -> list[float]:
    """Of the arriving mass, the part that is in the wrong place after these half-steps."""
    x, y = (v[:POINTS].double() for v in ends(name, 0, held_out=False))
    kernel = -torch.cdist(x, y).square() / (2.0 * sigma**2)
    width = 0.1 * float(y.var(0).mean().sqrt())
    log_q = torch.logsumexp(-torch.cdist(y, y).square() / (2.0 * width**2), 1)
    g = (_gaussian(x, y, sigma) if start == "gaussian" else torch.zeros(len(y))) - log_q
    found = {}
    for n in range(0, max(half_steps) + 1, 2):
        f = -torch.logsumexp(kernel + g, 1)
        arrived = torch.logsumexp(kernel + f[:, None], 0) + g
        arrived = torch.softmax(arrived, 0)
        found[n] = 0.5 * float((arrived - 1.0 / len(y)).abs().sum())
        g = -torch.logsumexp(kernel + f[:, None], 0)
    return [found[n] for n in half_steps]


def _gaussian(x: Tensor, y: Tensor, sigma: float) -> Tensor:
    """b of the joint density e^{a(x) + b(y) - |x - y|^2 / (2 sigma^2)} of the moments' bridge."""
    joint = gaussian_bridge(x.mean(0), x.T.cov(), y.mean(0), y.T.cov(), sigma).joint
    precision, d = torch.linalg.inv(joint.cov), x.shape[1]
    own = precision[d:, d:] - torch.eye(d) / sigma**2
    return -0.5 * (y @ own * y).sum(1) + y @ (precision @ joint.mean)[d:]


def main() -> None:
    """A line a start and sigma."""
    parser = argparse.ArgumentParser(description="exact IPF between the sets of the plane")
    parser.add_argument("--set", choices=list(SETS), default="moons to 8 gaussians")
    parser.add_argument("--half-steps", nargs="+", type=int, default=[2, 4, 6, 10, 20, 40])
    given = parser.parse_args()
    for sigma in (1.0, 2.0, 4.0):
        for start in ("reference", "gaussian"):
            shares = misplaced(given.set, sigma, start, given.half_steps)
            row = ", ".join(
                f"{n}: {100 * v:.1f} %" for n, v in zip(given.half_steps, shares, strict=True)
            )
            print(f"sigma {sigma:g}, from the {start}: {row}")


if __name__ == "__main__":
    main()
