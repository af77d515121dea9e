"""One step of everything that a solve carries along, written once in torch.

The states of a solve are the equation's own, x, and numbers that follow it: whether and when the
stop condition was met, the values of the functionals, and what the method itself carries from step
to step. ``Transition`` takes all of them from one time to the next. Run as it stands it is the
step-by-step solve; traced, the trajectory kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from sdekit_kernels.dispatch import compute_dtype
from torch import Tensor

from sdekit.noise.increment import Increment, draw_shape
from sdekit.solve.functionals import Functional, beside
from sdekit.solvers import Equation, Solver

__all__ = ["OwnTimes", "Transition"]

Stop = Callable[[Tensor, Tensor], Tensor]


class OwnTimes(NamedTuple):
    """Times of samples that each have their own: sample i makes ``steps[i]`` steps of ``dt[i]``.

    All (B,), in the type that the kernels compute in; root_dt = sqrt|dt|.
    """

    t0: Tensor
    dt: Tensor
    root_dt: Tensor
    steps: Tensor

    def rows(self, r0: int, r1: int) -> OwnTimes:
        """The times of some samples."""
        return OwnTimes(*(v[r0:r1] for v in self))


class Transition:
    """From the states at one time to those at the next.

    own_times: whether each sample has its own, ``OwnTimes`` beside the number k of the step.
    """

    def __init__(
        self,
        sde: Equation,
        solver: Solver,
        functionals: Mapping[str, Functional],
        stop: Stop | None,
        own_times: bool = False,
    ) -> None:
        self.sde, self.solver, self.stop, self.own_times = sde, solver, stop, own_times
        self.functionals = dict(functionals)

    @property
    def plain(self) -> bool:
        """Whether x is all that is carried, on one grid for all samples."""
        alone = not self.functionals and self.stop is None and not self.solver.carries
        return alone and not self.own_times

    @property
    def clock(self) -> tuple[str, ...]:
        """Names of the numbers that change from step to step."""
        return ("k",) if self.own_times else ("t", "t_next", "dt", "root_dt")

    def check(self, t: Tensor, x: Tensor) -> None:
        """Raise ValueError for an equation that is not what it declares, or the solver needs."""
        self.sde.check_additive(t, x)
        obstacle = self.solver.obstacle(self.sde, t, x) if x.numel() else ""
        if obstacle:
            raise ValueError(f"{self.solver.name!r} cannot take {self.sde.name}: {obstacle}")

    def start(self, t: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        """The states at the first time, t 0-d or (B,)."""
        states = [x]
        if self.stop is not None:
            met = self._met(t, x)
            at = torch.where(met, t, torch.inf).to(compute_dtype(x.dtype))
            states += [met.to(at.dtype), at]
        for name, functional in self.functionals.items():
            value = functional.start(t, x)
            if not isinstance(value, Tensor) or value.shape[:1] not in ((), (1,), x.shape[:1]):
                got = tuple(value.shape) if isinstance(value, Tensor) else repr(value)
                raise ValueError(
                    f"functional {name!r} must start with one number a path, shape "
                    f"({x.shape[0]},), or (B, K...), got {got}"
                )
            # One number for all paths is one number a path, so that each may change.
            value = value.to(compute_dtype(x.dtype))
            states.append(value.expand(x.shape[0], *value.shape[1:]).clone())
        return (*states, *self.solver.start(self.sde, t, x))

    def channels(self, t: Tensor, x: Tensor) -> list[tuple[int, ...]]:
        """Shape of one sample's normals, for each of the solver's draws."""
        one = self.sde.channels(t, x)[1:]
        return [draw_shape(draw, one) for draw in self.solver.draws]

    def __call__(
        self,
        now: Mapping[str, Any],
        noise: Tensor | tuple[Tensor, ...] | Increment,
        states: Sequence[Tensor],
    ) -> tuple[Tensor, ...]:
        """The states at the next time; noise: the normals of the step's draws, or the increment."""
        x = states[0]
        carried = states[len(states) - len(self.solver.carries) :]
        t, t_next, dt, root_dt, held = self._times(now, states)
        if not isinstance(noise, Increment):
            normals = (noise,) if isinstance(noise, Tensor) else noise
            step, root = beside(dt, normals[0]), beside(root_dt, normals[0])
            noise = Increment.of(self.solver.draws, normals, step, root)
        made = self.solver.step(self.sde, t, t_next, beside(dt, x), x, noise, *carried)
        x_next, *after = made if isinstance(made, tuple) else (made,)
        # An equation with parameters of another type does not change the state's.
        x_next = x_next.to(x.dtype)
        after = [v.to(old.dtype) for v, old in zip(after, carried, strict=True)]
        if held is not None:
            x_next = torch.where(beside(held, x), x, x_next)
            after = [
                torch.where(beside(held, old), old, v)
                for v, old in zip(after, carried, strict=True)
            ]
        follow: list[Tensor] = [x_next]
        place = 1
        if self.stop is not None:
            met, at = states[1] != 0, states[2]
            newly = self._met(t_next, x_next) & ~met
            if self.own_times and held is not None:
                newly = newly & ~held
            follow += [
                (met | newly).to(at.dtype),
                torch.where(newly, t_next.to(at.dtype), at),
            ]
            place = 3
        values = states[place : place + len(self.functionals)]
        for (name, functional), value in zip(self.functionals.items(), values, strict=True):
            updated = functional.update(value, t, t_next, dt, x, x_next).to(value.dtype)
            if updated.shape != value.shape:
                raise ValueError(
                    f"functional {name!r} starts with shape {tuple(value.shape)}, but its update "
                    f"gives {tuple(updated.shape)}: return the same shape from both"
                )
            if held is not None:
                updated = torch.where(beside(held, value), value, updated)
            follow.append(updated)
        return (*follow, *after)

    def _times(
        self, now: Mapping[str, Any], states: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, Any, Any, Tensor | None]:
        """(t, t_next, dt, sqrt|dt|, which samples stand still or None)."""
        held = states[1] != 0 if self.stop is not None else None
        if not self.own_times:
            return now["t"], now["t_next"], now["dt"], now["root_dt"], held
        t0, dt, k = now["t0"], now["dt"], now["k"]
        ended = k >= now["steps"]
        held = ended if held is None else held | ended
        return t0 + k * dt, t0 + (k + 1.0) * dt, dt, now["root_dt"], held

    def _met(self, t: Tensor, x: Tensor) -> Tensor:
        assert self.stop is not None
        met = self.stop(t, x)
        if not isinstance(met, Tensor) or met.dtype != torch.bool or met.shape != x.shape[:1]:
            got = (
                f"{met.dtype} of shape {tuple(met.shape)}"
                if isinstance(met, Tensor)
                else type(met).__name__
            )
            raise ValueError(
                f"stop must give one boolean a path, shape ({x.shape[0]},), got {got}: write "
                "lambda t, x: x[:, 0] >= level"
            )
        return met
