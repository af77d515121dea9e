"""Who computes the likelihoods, each at one tolerance, rtol = atol."""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import Tensor

import sdekit as sk
from benchmarks.likelihood.problems import Problem
from benchmarks.rivals import plain_likelihood, torchdiffeq_likelihood
from sdekit.likelihood import make_divergence
from sdekit.likelihood.divergence.probes import draw_probes

__all__ = ["CONTENDERS", "PLAIN", "SDEKIT", "STEPWISE", "TORCHDIFFEQ", "Answer", "missing"]

SDEKIT, STEPWISE = "sdekit", "sdekit, attempt by attempt"
TORCHDIFFEQ, PLAIN = "torchdiffeq, same right side", "plain script"
LARGEST_SCRIPT = 64
"""Components up to which the script's backward pass for each of them ends within seconds."""


class Answer(NamedTuple):
    """Nats (B,); evaluations of the field that a sample was part of: in the mean, at the most."""

    log_prob: Tensor
    mean_evaluations: float
    most_evaluations: float
    path: str = ""


def with_sdekit(problem: Problem, tolerance: float, fuse: bool | None = None) -> Answer:
    """``log_likelihood``: every sample has its own steps."""
    found = sk.log_likelihood(
        problem.sde,
        problem.score,
        problem.x,
        prior=problem.prior,
        divergence=problem.kind,
        rtol=tolerance,
        atol=tolerance,
        fuse=fuse,
    )
    nfe = found.nfe.double()
    return Answer(found.log_prob, float(nfe.mean()), float(nfe.max()), found.stats.path)


def stepwise(problem: Problem, tolerance: float) -> Answer:
    """The same without a kernel of the whole solve, as any field that is not traced has it."""
    return with_sdekit(problem, tolerance, fuse=False)


def with_torchdiffeq(problem: Problem, tolerance: float) -> Answer:
    """torchdiffeq's dopri5 with its own norm, on the field and the divergence that sdekit uses."""
    flow = problem.flow
    if problem.divergence == "closed form":
        closed = flow.divergence
        assert closed is not None

        def field(t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
            return flow.field(t, x), closed(t, x)

    else:
        estimator = make_divergence(problem.kind, problem.x)

        def field(t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
            slope, columns = estimator(lambda x: flow.field(t, x), x)
            return slope, columns[:, 0]

    def run() -> tuple[Tensor, int]:
        return torchdiffeq_likelihood(
            field,
            problem.x,
            flow.log_prior,
            start=flow.t_data,
            end=flow.t_prior,
            rtol=tolerance,
            atol=tolerance,
        )

    return _batchwide(problem, run)


def with_script(problem: Problem, tolerance: float) -> Answer:
    """The script of Song et al., with the probe that sdekit draws."""
    exact = problem.divergence != "hutchinson"
    probe = None
    if not exact:
        probe = draw_probes(
            1, problem.x, kind="rademacher", seed=0, first_sample=0, step0=0
        ).squeeze(0)

    def run() -> tuple[Tensor, int]:
        return plain_likelihood(
            problem.sde,
            problem.score,
            problem.x,
            problem.flow.log_prior,
            exact=exact,
            rtol=tolerance,
            atol=tolerance,
            start=problem.sde.t_min_likelihood,
            probe=probe,
        )

    return _batchwide(problem, run)


def _batchwide(problem: Problem, run: Callable[[], tuple[Tensor, int]]) -> Answer:
    """All samples make all steps. torchdiffeq asserts that its step is not lost in rounding."""
    try:
        log_prob, evaluations = run()
    except AssertionError as error:
        if "underflow in dt" not in str(error):
            raise
        lost = torch.full((len(problem.x),), math.nan)
        return Answer(lost, math.inf, math.inf, "the step underflowed")
    return Answer(log_prob, evaluations, evaluations)


CONTENDERS: dict[str, Callable[[Problem, float], Answer]] = {
    SDEKIT: with_sdekit,
    STEPWISE: stepwise,
    TORCHDIFFEQ: with_torchdiffeq,
    PLAIN: with_script,
}


def missing(problem: Problem, contender: str) -> str:
    """Why a contender is not measured, or ""."""
    if contender in (TORCHDIFFEQ, PLAIN) and not find_spec("torchdiffeq"):
        return "not installed: pip install torchdiffeq"
    if contender == STEPWISE and (problem.x.shape[0] < 1024 or problem.x[0].numel() > 2):
        return "sdekit goes attempt by attempt anyway"
    exact = problem.divergence != "hutchinson"
    if contender == PLAIN and exact and problem.x[0].numel() > LARGEST_SCRIPT:
        return f"a backward pass for each of {problem.x[0].numel()} components would take minutes"
    return ""
