"""log_likelihood beside a plain torchdiffeq script in the manner of Song et al. 2021.

The answers are compared with the closed form in nats a component. sdekit holds the tolerance for
each sample, the script for the batch's mean, so the two take different numbers of evaluations: the
table gives both, and the errors that each reached, in the mean and for its worst sample.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

import sdekit as sk
from benchmarks.rivals import plain_likelihood

TOLERANCE = 1e-5
CASES = [
    ("MLP", "hutchinson", 128, 64),
    ("MLP", "exact", 16, 64),
    ("mixture", "hutchinson", 256, 16),
    ("mixture", "exact", 256, 16),
]


class LawAtT(NamedTuple):
    """The data's own law at T: N(0, 1) would be off by more than the ODE's error."""

    law: Any
    T: float

    def log_prob(self, x: Tensor) -> Tensor:
        value: Tensor = self.law.log_prob(torch.tensor(self.T, dtype=x.dtype), x)
        return value


def problem(model: str, batch: int, dim: int) -> tuple[Any, Any, Tensor, Tensor, LawAtT]:
    """(sde, score, x, log p(x) in closed form, the law at T)."""
    sde = sk.VP()
    if model == "MLP":
        # Its first state is the exact score of N(0, 1/4).
        score: Any = sk.score.MLP((dim,), width=64, depth=2, sde=sde, data_std=0.5)
        law: Any = sk.score.Gaussian(0.0, 0.5, sde)
        x = law.sample(batch, seed=0, event_shape=(dim,))
    else:
        generator = torch.Generator().manual_seed(0)
        means = torch.randn(5, dim, generator=generator)
        score = law = sk.score.GaussianMixture(means, 0.4, None, sde)
        x = law.sample(batch, seed=0)
    start = torch.tensor(sde.t_min_likelihood, dtype=torch.float64)
    return sde, score, x, law.log_prob(start, x.double()), LawAtT(law, sde.T)


@pytest.mark.parametrize("contender", ["sdekit", "plain torchdiffeq"])
@pytest.mark.parametrize(("model", "divergence", "batch", "dim"), CASES)
def test_likelihood(
    clock: Any, contender: str, model: str, divergence: str, batch: int, dim: int
) -> None:
    torch.manual_seed(0)
    sde, score, x, truth, prior = problem(model, batch, dim)
    evaluations = 0

    def with_sdekit() -> Tensor:
        nonlocal evaluations
        found = sk.log_likelihood(
            sde, score, x, divergence=divergence, rtol=TOLERANCE, atol=TOLERANCE, prior=prior
        )
        evaluations = int(found.nfe.max())
        return found.log_prob

    def with_torchdiffeq() -> Tensor:
        nonlocal evaluations
        exact = divergence == "exact"
        log_prob, evaluations = plain_likelihood(
            sde, score, x, prior.log_prob, exact=exact, rtol=TOLERANCE, atol=TOLERANCE
        )
        return log_prob

    run: Callable[[], Tensor] = with_sdekit if contender == "sdekit" else with_torchdiffeq
    difference = (run().double() - truth) / dim
    if model == "mixture" and divergence == "hutchinson":
        # Unbiased, so the batch's mean must vanish within its own standard error.
        error = abs(float(difference.mean() / difference.std())) * batch**0.5
        limit, what = 5.0, "batch mean [s.e. of the probes]"
    else:
        # A probe is exact where the Hessian is diagonal: so it is for independent components.
        error, limit, what = float(difference.square().mean().sqrt()), 1e-3, "rms [nats/component]"
    clock(
        run,
        group=f"log-likelihood, {divergence}, {model} score, {batch} x {dim}, rtol 1e-5",
        contender=contender,
        error=error,
        limit=limit,
        what=what,
        work=float(batch),
        unit="samples",
        seconds=2.0,
        note=f"{evaluations} evaluations; worst sample {float(difference.abs().max()):.1e}",
    )
