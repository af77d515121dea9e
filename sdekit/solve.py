"""Solve an SDE: the one time loop."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from sdekit_kernels.checks import check_float_tensor, check_int_range
from sdekit_kernels.dispatch import compute_dtype, resolve_backend
from torch import Tensor

from sdekit.grid import Saves, as_times, locate_saves, make_grid, time_rounding
from sdekit.noise.brownian import Brownian
from sdekit.solvers import Equation, Solver, get_solver

__all__ = ["FINISHED", "NONFINITE", "Path", "Solution", "SolveStats", "explain", "solve"]

FINISHED = 0
"""Status of a sample that stayed finite to the end."""
NONFINITE = 1
"""Status of a sample that left the finite numbers."""

_WORKING_COPIES = 8
"""States that a step holds at once, at the most: what ``max_memory`` is divided by."""


class Path(NamedTuple):
    """Which way a solve goes.

    name: "step_kernel" (the network or drift in torch, the update and its noise in one kernel) or
    "torch" (every operation in torch, the noise from a kernel). backend: who makes the noise.
    """

    name: str
    backend: str
    reason: str


@dataclass(frozen=True, slots=True)
class SolveStats:
    """What a solve did.

    path, backend, reason: see ``Path``. steps: of the grid. drift_evaluations: for each sample.
    nonfinite_step: (B,) int64, the first step after which a sample was not finite, -1 if never.
    """

    method: str
    path: str
    backend: str
    reason: str
    steps: int
    drift_evaluations: int
    nonfinite_step: Tensor


@dataclass(frozen=True, slots=True)
class Solution:
    """What a solve gives.

    x: (B, D...) at the last time, or (len(t), B, D...) at the saved times ``t`` (float64, 1-d).
    status: (B,) int8, FINISHED or NONFINITE.
    """

    x: Tensor
    t: Tensor
    status: Tensor
    stats: SolveStats


def explain(
    sde: Any,
    method: str = "euler_maruyama",
    *,
    device: torch.device | str = "cpu",
    backend: str = "auto",
) -> Path:
    """Which path a solve of this equation will take, and why.

    Raises as ``solve`` for an unknown method, equation or backend.
    """
    equation = Equation(sde)
    return _choose_path(equation, get_solver(method, equation), torch.device(device), backend)


def _choose_path(sde: Equation, solver: Solver, device: torch.device, backend: str) -> Path:
    choice = resolve_backend(backend, device)
    why = f"{choice.backend}: {choice.reason}"
    if sde.deterministic:
        return Path("torch", choice.backend, f"{why}; an ODE has no noise to fuse")
    if not solver.em_kernel:
        return Path("torch", choice.backend, f"{why}; {solver.name} has no step kernel")
    if sde.noise_type not in ("additive", "diagonal"):
        reason = f"{why}; the step kernel takes elementwise noise, this is {sde.noise_type}"
        return Path("torch", choice.backend, reason)
    if choice.backend == "torch":
        return Path("torch", "torch", why)
    return Path("step_kernel", choice.backend, why)


def solve(
    sde: Any,
    x0: Tensor,
    t0: float = 0.0,
    t1: float = 1.0,
    steps: int = 100,
    *,
    times: Sequence[float] | Tensor | None = None,
    method: str = "euler_maruyama",
    seed: int = 0,
    first_sample: int = 0,
    save_at: Sequence[float] | Tensor | None = None,
    backend: str = "auto",
    max_memory: int | None = None,
    progress: bool = False,
) -> Solution:
    """Simulate dx = f(t, x) dt + G(t, x) dW from x0 at t0 to t1.

    The noise of a sample is a pure function of (seed, first_sample + its row, step, component): a
    batch solved in pieces, on another device or with another ``save_at`` has the same paths at the
    grid's times.

    Args:
        sde: anything with ``drift(t, x)`` and ``diffusion(t, x)``; t is a 0-d tensor.
        x0: initial states, shape (B, D...), floating point.
        t0, t1, steps: ``steps`` equal steps from t0 to t1, in the equation's own units. t1 < t0
            only for time reversals and ODEs.
        times: a grid of N + 1 strictly monotonic times in place of t0, t1, steps.
        method: a name in ``sdekit.solvers.SOLVERS``.
        seed: 64-bit. first_sample: number of the first row, below 2^63.
        save_at: times to keep, running the grid's way; one that equals a grid time up to rounding
            (of its dtype, if it is a tensor) is that grid time. Between grid times the Brownian
            path is drawn from its bridge given the step's ends, and the method steps to it from
            the left.
        backend: "auto", "numba", "triton" or "torch".
        max_memory: bytes of working memory (the result apart); a larger batch is solved in pieces,
            with the same bits for an equation that treats each sample by itself. Equations with one
            parameter a sample cannot be cut.
        progress: show a bar.

    Returns:
        A ``Solution``. A sample that leaves the finite numbers has status NONFINITE and its step in
        ``stats.nonfinite_step``; the others are not touched by it.

    Raises:
        TypeError: x0 no floating tensor, an equation without the two methods, times no numbers.
        ValueError: x0 not finite or 0-d, an impossible grid or ``save_at``, an unknown method or
            backend, a method that does not take this equation, and what ``Equation`` refuses.
        RuntimeError: a backend asked for by name that cannot run on x0's device.
    """
    equation = Equation(sde)
    solver = get_solver(method, equation)
    check_float_tensor("x0", x0)
    compute_dtype(x0.dtype)
    if x0.ndim == 0:
        raise ValueError("x0 must have shape (B, D...), got a 0-d tensor: write x0[None]")
    path = _choose_path(equation, solver, x0.device, backend)
    grid = make_grid(t0, t1, steps, times, equation.time_direction)
    saved = None if save_at is None else as_times("save_at", save_at)
    saves = locate_saves(saved or (), grid, time_rounding(save_at, times))
    _check_finite(x0)
    check_int_range("first_sample", first_sample, 0, (1 << 63) - x0.shape[0] + 1)
    rows = _rows_in(max_memory, x0)
    loop = _Loop(equation, solver, path, grid, saves, saved is not None, seed)
    parts = [
        loop.run(x0[r0 : r0 + rows], first_sample + r0, progress)
        for r0 in range(0, max(x0.shape[0], 1), rows)
    ]
    x = torch.cat([p[0] for p in parts], dim=0 if saved is None else 1)
    bad = torch.cat([p[1] for p in parts])
    n = len(grid) - 1
    stats = SolveStats(
        method=solver.name,
        path=path.name,
        backend=path.backend,
        reason=path.reason,
        steps=n,
        drift_evaluations=solver.drift_evaluations
        * (n + sum(len(inside) for inside in saves.inside.values())),
        nonfinite_step=bad,
    )
    t = torch.tensor([grid[-1]] if saved is None else saved, dtype=torch.float64)
    return Solution(x, t if saved is not None else t[0], (bad >= 0).to(torch.int8), stats)


def _check_finite(x0: Tensor) -> None:
    finite = torch.isfinite(x0).reshape(x0.shape[0], -1).all(1) if x0.numel() else None
    if finite is not None and not bool(finite.all()):
        row = int((~finite).nonzero()[0, 0])
        raise ValueError(f"x0 must be finite, but sample {row} is not: drop it, or mend the data")


def _mark_nonfinite(bad: Tensor, k: int, x: Tensor) -> Tensor:
    """``bad`` with k where a sample is not finite for the first time."""
    if x.device.type == "cpu" and math.isfinite(float(x.sum(dtype=compute_dtype(x.dtype)))):
        return bad  # one pass; a GPU would have to wait for the answer, so it looks at each sample
    finite = torch.isfinite(x).reshape(x.shape[0], -1).all(1)
    return torch.where(finite | (bad >= 0), bad, k)


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


class _Loop(NamedTuple):
    """Everything that a run over one piece of the batch needs to know."""

    sde: Equation
    solver: Solver
    path: Path
    grid: list[float]
    saves: Saves
    keep: bool
    seed: int

    def run(self, x: Tensor, first_sample: int, progress: bool) -> tuple[Tensor, Tensor]:
        """(saved or last states, first non-finite step of each sample)."""
        kept: list[Tensor] = []
        n = len(self.grid) - 1
        bad = torch.full((x.shape[0],), -1, dtype=torch.int64, device=x.device)
        if x.numel() == 0:
            count = len(self.saves.at_grid) + sum(map(len, self.saves.inside.values()))
            return (x.new_empty((count, *x.shape)) if self.keep else x.clone()), bad
        # Times keep float32 at least: bfloat16 tells 256 times apart.
        times = torch.tensor(self.grid, dtype=compute_dtype(x.dtype), device=x.device)
        self.sde.check_additive(times[0], x)
        path = Brownian(
            self.sde.channels(times[0], x),
            seed=self.seed,
            first_sample=first_sample,
            dtype=x.dtype,
            device=x.device,
            backend=self.path.backend,
        )
        if 0 in self.saves.at_grid:
            kept.append(x)
        for k in _steps(n, progress):
            dt = self.grid[k + 1] - self.grid[k]
            if k in self.saves.inside:
                kept.extend(self._between(k, dt, times, x, path))
            x = self._step(k, dt, times, x, path)
            bad = _mark_nonfinite(bad, k, x.detach())
            if k + 1 in self.saves.at_grid:
                kept.append(x)
        return (torch.stack(kept) if kept else x.new_empty((0, *x.shape))) if self.keep else x, bad

    def _step(self, k: int, dt: float, times: Tensor, x: Tensor, path: Brownian) -> Tensor:
        if self.path.name == "step_kernel":
            return self.solver.kernel_step(
                self.sde,
                times[k],
                dt,
                x,
                seed=self.seed,
                step=k,
                first_sample=path.first_sample,
                backend=self.path.backend,
            )
        dw = x.new_zeros(()) if self.sde.deterministic else path.increment(k, dt)
        # An equation with parameters of another type does not change the state's.
        return self.solver.step(self.sde, times[k], times[k + 1], dt, x, dw).to(x.dtype)

    def _between(
        self, k: int, dt: float, times: Tensor, x: Tensor, path: Brownian
    ) -> Iterator[Tensor]:
        """The states at the saved times inside step k, from the step's left end."""
        t = self.saves.inside[k]
        elapsed = [abs(s - self.grid[k]) for s in t]
        zero = x.new_zeros(())
        brownian = (zero for _ in t) if self.sde.deterministic else path.inside(k, dt, elapsed)
        for s, dw in zip(t, brownian, strict=True):
            t_save = torch.full_like(times[0], s)
            state = self.solver.step(self.sde, times[k], t_save, s - self.grid[k], x, dw)
            yield state.to(x.dtype)


def _steps(n: int, progress: bool) -> Iterator[int]:
    """0, ..., n - 1, with a bar if asked for."""
    if not progress:
        yield from range(n)
        return
    from tqdm.auto import tqdm

    yield from tqdm(range(n), desc="solve", unit="step")
