r"""The data whose likelihood is asked for, and what it is known to be.

Four laws are Gaussian mixtures under the variance-preserving SDE, whose score and density are
closed forms at all times: the prior is the data's own law at T, so that an error is the solver's
alone. The digits' score is a network, trained in seconds: its likelihood is held against sdekit's
own in float64 at a tolerance whose error is a hundredth of the smallest target or less; so is that
of a fixed Hutchinson probe. torchdiffeq's results approach the same values.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final

import torch
from torch import Tensor

import sdekit as sk
from sdekit.data import load
from sdekit.data.digits import LEVELS
from sdekit.likelihood import DataTransform, Flow
from sdekit.train.recipe import Recipe, fit

__all__ = ["PROBLEMS", "LawAtT", "Problem", "digits", "even", "mixture_2d", "mixture_of", "wide"]

Targets = dict[str, tuple[float, ...]]
REFERENCE: Final = {"digits": 1e-7, "wide": 1e-8}
"""Tolerances whose errors are 5e-6 and 2e-6 nats."""
TRAINING: Final = 300
"""Steps of the digits' network: its field is then as uneven as that of a finished one."""


@dataclass(frozen=True)
class Problem:
    """log p(x) of a batch, under the probability flow of ``sde`` with ``score``.

    title, what: for people. x: (B, D...). truth: (B,) float64 nats. prior: the law at T.
    divergence: "closed form", "exact" or "hutchinson" (one Rademacher probe a sample, the same one
    for all contenders, whose solution without discretization error is the truth). targets: errors
    to which times are wanted, for the worst sample and in the mean over the batch. tolerances: of
    the scan, loosest first, and the tightest one of which x's type is capable.
    """

    title: str
    what: str
    x: Tensor
    truth: Tensor
    sde: Any
    score: Any
    prior: Any
    divergence: str
    targets: Targets
    tolerances: tuple[float, float]

    @property
    def flow(self) -> Flow:
        """The field between the data's time and T, and its divergence where that is known."""
        return Flow.from_score(self.sde, self.score, prior=self.prior)

    @property
    def kind(self) -> str:
        """What ``log_likelihood`` calls the divergence."""
        return "exact" if self.divergence == "closed form" else self.divergence

    def errors(self, log_prob: Tensor) -> dict[str, float]:
        """Nats: of the worst sample and in the mean; infinite where a sample is not finite."""
        error = (log_prob.double() - self.truth).abs()
        if not bool(error.isfinite().all()):
            return {"worst": math.inf, "mean": math.inf}
        return {"worst": float(error.max()), "mean": float(error.mean())}


@dataclass(frozen=True)
class LawAtT:
    """The data's own law at T, as a prior: N(0, 1) would be off by more than the ODE's error."""

    law: Any
    T: float

    def log_prob(self, x: Tensor) -> Tensor:
        value: Tensor = self.law.log_prob(torch.tensor(self.T, dtype=x.dtype), x)
        return value


def mixture_of(sde: Any, dim: int, batch: int, dtype: torch.dtype) -> tuple[Any, Tensor, Tensor]:
    """(law, x, log p(x)) of ten Gaussians in ``dim`` components, standard deviations 0.1 to 0.5."""
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(10, dim, generator=generator, dtype=torch.float64)
    law = sk.score.GaussianMixture(means, torch.linspace(0.1, 0.5, 10), None, sde)
    x = law.sample(batch, seed=0, dtype=dtype)
    return law, x, _density(law, sde, x)


def mixture_2d(dtype: torch.dtype, batch: int = 10_000) -> Problem:
    """Six Gaussians on a ring, one in twenty samples from those of width 0.02 or less."""
    single = dtype is torch.float32
    sde = sk.VP()
    law = _ring(sde)
    x = law.sample(batch, seed=0, dtype=dtype)
    return Problem(
        title=f"2-D mixture, {_name(dtype)}",
        what=f"{batch} samples; six Gaussians of widths 0.01 to 1: difficulty varies by sample",
        x=x,
        truth=_density(law, sde, x),
        sde=sde,
        score=law,
        prior=LawAtT(law, sde.T),
        divergence="closed form",
        targets={"worst": (1e-2, 1e-3) if single else (1e-3, 1e-5), "mean": _means(single)},
        tolerances=(1e-3, 1e-6 if single else 1e-9),
    )


def even(dtype: torch.dtype, batch: int = 10_000) -> Problem:
    """The 2-D mixture at ``batch`` points within 0.001 of one: no sample is harder than another."""
    problem = mixture_2d(dtype, 1)
    law, sde = problem.score, problem.sde
    near = sk.score.Gaussian(0.0, 1e-3, sde).sample(batch, seed=1, dtype=dtype, event_shape=(2,))
    # One width off the centre of the Gaussian of width 0.2.
    x = law.means[3].to(near) + torch.tensor([0.2, 0.0]).to(near) + near
    single = dtype is torch.float32
    return replace(
        problem,
        title=f"2-D mixture, even, {_name(dtype)}",
        what=f"{batch} samples within 0.001 of one point: all alike",
        x=x,
        truth=_density(law, sde, x),
        targets={"worst": (1e-2, 1e-3) if single else (1e-3, 1e-5), "mean": _means(single)},
    )


def wide(dtype: torch.dtype = torch.float64, batch: int = 32) -> Problem:
    """Ten Gaussians in 784 components, the divergence in closed form."""
    sde = sk.VP()
    law, x, truth = mixture_of(sde, 784, batch, dtype)
    return Problem(
        title=f"784-D mixture, {_name(dtype)}",
        what=f"{batch} samples; ten Gaussians of widths 0.1 to 0.5",
        x=x,
        truth=truth,
        sde=sde,
        score=law,
        prior=LawAtT(law, sde.T),
        divergence="closed form",
        targets={"worst": (1e-2, 1e-4), "mean": (1e-2, 1e-4)},
        tolerances=(1e-3, 1e-9),
    )


def wide_probed(batch: int = 32) -> Problem:
    """The same by one probe: what a script without closed forms can do with 784 components."""
    problem = wide(batch=batch)
    asked = replace(
        problem,
        title="784-D mixture, one probe, float64",
        what=f"{batch} samples; Hutchinson, held to the same probe's own limit",
        divergence="hutchinson",
        targets={"worst": (1e-2, 1e-3), "mean": (1e-2, 1e-3)},
    )
    return replace(asked, truth=_reference(asked, REFERENCE["wide"]))


def digits(divergence: str, batch: int, steps: int = TRAINING) -> Problem:
    """Held-out digits under the demo's network; exact (64 products) or one Hutchinson probe."""
    net, sde = _network(steps)
    x = DataTransform(LEVELS).forward(load("digits").test[:batch], seed=0)
    told = "one probe" if divergence == "hutchinson" else "exact"
    asked = Problem(
        title=f"digits' network, {told}, float32",
        what=f"{batch} held-out digits of 64 pixels, the demo's network after {steps} steps",
        x=x,
        truth=torch.empty(0),
        sde=sde,
        score=net,
        prior=None,
        divergence=divergence,
        targets={"worst": (1e-2, 1e-3), "mean": (1e-2, 1e-3)},
        tolerances=(1e-2, 1e-6),
    )
    return replace(asked, truth=_reference(asked, REFERENCE["digits"]))


def _reference(problem: Problem, tolerance: float) -> Tensor:
    """The answer at this tolerance in float64, from the same float32 weights and probes."""
    score = problem.score
    if isinstance(score, torch.nn.Module):
        score = copy.deepcopy(score).double()
    found = sk.log_likelihood(
        problem.sde,
        score,
        problem.x.double(),
        prior=problem.prior,
        divergence=problem.kind,
        rtol=tolerance,
        atol=tolerance,
    )
    assert bool((found.status == 0).all()), "the reference has samples without an answer"
    return found.log_prob


@cache
def _network(steps: int) -> tuple[Any, Any]:
    checkpoint, _ = fit(load("digits"), Recipe(), steps=steps)
    return checkpoint.net.requires_grad_(False), checkpoint.sde


def _ring(sde: Any) -> Any:
    angle = torch.arange(6, dtype=torch.float64) * (math.pi / 3.0)
    means = 2.0 * torch.stack([angle.cos(), angle.sin()], 1)
    stds, weights = [0.01, 0.02, 0.05, 0.2, 0.5, 1.0], [0.02, 0.03, 0.05, 0.2, 0.3, 0.4]
    return sk.score.GaussianMixture(means, stds, weights, sde)


def _density(law: Any, sde: Any, x: Tensor) -> Tensor:
    """The closed form at the data's time, in float64."""
    start = torch.tensor(sde.t_min_likelihood, dtype=torch.float64)
    value: Tensor = law.log_prob(start, x.double())
    return value


def _means(single: bool) -> tuple[float, ...]:
    return (1e-3, 1e-5) if single else (1e-4, 1e-6)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


PROBLEMS: Final[dict[str, Callable[[], Problem]]] = {
    "mixture-float32": lambda: mixture_2d(torch.float32),
    "mixture-float64": lambda: mixture_2d(torch.float64),
    "even-float64": lambda: even(torch.float64),
    "digits-exact": lambda: digits("exact", 8),
    "digits-probe": lambda: digits("hutchinson", 64),
    "wide": wide,
    "wide-probe": wide_probed,
}
"""Made when they are measured, each once: a reference takes seconds."""
