"""Solve an SDE, in pieces if need be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from sdekit_kernels.checks import check_int_range
from torch import Tensor

from sdekit.solve.functionals import Functional
from sdekit.solve.plan import make_plan, run_part
from sdekit.solve.solution import FINISHED, NONFINITE, STOPPED, Solution

__all__ = ["solve"]

_WORKING_COPIES = 8
"""States that a step holds at once, at the most: what ``max_memory`` is divided by."""


def solve(
    sde: Any,
    x0: Tensor,
    t0: float | Tensor = 0.0,
    t1: float | Tensor = 1.0,
    steps: int | Tensor = 100,
    *,
    times: Sequence[float] | Tensor | None = None,
    method: str = "euler_maruyama",
    seed: int = 0,
    first_sample: int = 0,
    save_at: Sequence[float] | Tensor | None = None,
    functionals: Mapping[str, Functional] | None = None,
    stop: Callable[[Tensor, Tensor], Tensor] | None = None,
    antithetic: bool = False,
    refine: int = 1,
    backend: str = "auto",
    fuse: bool | None = None,
    max_memory: int | None = None,
    progress: bool = False,
) -> Solution:
    """Simulate dx = f(t, x) dt + G(t, x) dW from x0 at t0 to t1.

    The noise of a sample is a pure function of (seed, first_sample + its row, step, component): a
    batch solved in pieces, on another device or with another ``save_at`` has the same paths at the
    grid's times.

    Where the equation's drift and diffusion can be traced, each path runs in one kernel from the
    first time to the last; else step by step, with the same noise and the same answer up to
    rounding. ``Solution.stats`` says which, and why; ``explain`` says it beforehand.

    Args:
        sde: anything with ``drift(t, x)`` and ``diffusion(t, x)``; t is a 0-d tensor, or (B,) where
            each sample has its own times. Parameters may be one a sample, (B, 1...) or (B, D...).
        x0: initial states, shape (B, D...), floating point.
        t0, t1, steps: ``steps`` equal steps from t0 to t1, in the equation's own units. t1 < t0
            only for time reversals and ODEs. Each may be a tensor with one entry a sample.
        times: a grid of N + 1 strictly monotonic times in place of t0, t1, steps, not beside them.
        method: a name in ``sdekit.solvers.SOLVERS``, or "auto": one that is made for the equation,
            or the one of the highest order for its noise and interpretation;
            ``Solution.stats.reason`` says which and why.
        seed: 64-bit. first_sample: number of the first row, below 2^63.
        save_at: times to keep, running the grid's way; one that equals a grid time up to rounding
            (of its dtype, if it is a tensor) is that grid time. Between grid times the Brownian
            path is drawn from its bridge given the step's ends, and the method steps to it from
            the left.
        functionals: running functionals of each path by name, ``TimeIntegral``, ``Maximum``,
            ``Minimum``, ``FirstPassage`` or your own ``Functional``.
        stop: a function of (t, x) that gives one boolean a path, (B,); a path stays where it is
            from the first grid time at which it is true.
        antithetic: samples 2i and 2i + 1 are a pair that shares its noise with opposite signs.
        refine: steps of the Brownian path for each step of a grid of equal steps: steps=100,
            refine=8 sees the path that steps=800 sees. For convergence studies; step by step.
        backend: "auto", "numba", "triton" or "torch".
        fuse: None lets conditions decide; True raises where the trajectory cannot be one kernel;
            False goes step by step.
        max_memory: bytes of working memory (the result apart); a larger batch is solved in pieces,
            with the same bits for an equation that treats each sample by itself. Step by step,
            equations with one parameter a sample cannot be cut.
        progress: show a bar.

    Returns:
        A ``Solution``. A sample that leaves the finite numbers has status NONFINITE and its step in
        ``stats.nonfinite_step``; the others are not touched by it.

    Raises:
        TypeError: x0 no floating tensor, an equation without the two methods, times no numbers.
        ValueError: x0 not finite or 0-d, an impossible grid or ``save_at``, an unknown method or
            backend, a method that does not take this equation, and what ``Equation`` refuses.
        RuntimeError: a backend asked for by name that cannot run on x0's device; ``fuse=True``
            where a step cannot be traced.
    """
    plan = make_plan(
        sde,
        x0,
        t0,
        t1,
        steps,
        times=times,
        method=method,
        seed=seed,
        save_at=save_at,
        functionals=functionals,
        stop=stop,
        antithetic=antithetic,
        refine=refine,
        backend=backend,
        fuse=fuse,
    )
    batch = x0.shape[0]
    first_sample = check_int_range("first_sample", first_sample, 0, (1 << 63) - batch + 1)
    rows = _rows_in(max_memory, x0)
    parts = [slice(r0, min(r0 + rows, batch)) for r0 in range(0, max(batch, 1), rows)]
    pieces = [run_part(plan, x0[p], p, first_sample + p.start, progress) for p in parts]
    x = torch.cat([p.x for p in pieces], dim=1 if plan.run.keep else 0)
    bad = torch.cat([p.bad for p in pieces])
    follow = [torch.cat(parts) for parts in zip(*(p.follow for p in pieces), strict=True)]
    status = torch.where(bad >= 0, NONFINITE, FINISHED).to(torch.int8)
    stop_time: Tensor | None = None
    if stop is not None:
        met, stop_time, *follow = follow
        status = torch.where((met != 0) & (bad < 0), STOPPED, status).to(torch.int8)
    transition = plan.run.transition
    carries = transition.solver.carries
    given = dict(zip((*transition.functionals, *carries), follow, strict=True))
    carried = MappingProxyType({name: given.pop(name) for name in carries})
    values = MappingProxyType(given)
    return Solution(x, plan.t, status, plan.stats(bad), values, stop_time, carried)


def _rows_in(max_memory: int | None, x0: Tensor) -> int:
    """Samples that a piece of the batch may have."""
    batch = max(x0.shape[0], 1)
    if max_memory is None:
        return batch
    budget = check_int_range("max_memory", max_memory, 1, 1 << 63)
    sample = _WORKING_COPIES * x0.element_size() * max(x0[:1].numel(), 1)
    if budget < sample:
        raise ValueError(
            f"max_memory = {budget} bytes is too small: one sample needs about {sample} bytes"
        )
    return min(batch, budget // sample)
