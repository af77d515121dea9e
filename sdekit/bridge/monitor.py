r"""Measures of a bridge while it is fitted.

A half-step's new drift v against the last one u of its direction, both from the same end:

    KL(P_v | P_u) = E_v \sum_k \gamma_k |v - u|^2 / (2 g^2)        (Girsanov),

the divergence of the two chains itself. A forward chain with steps F_k from the source and a
backward one with steps B_k from the target are one process if and only if

    KL(P_f | P_b) + KL(P_b | P_f) = E_f R - E_b R + [ends],   R = \sum_k \log F_k - \log B_k

is zero: densities of source and target cancel but for E_f - E_b of \log source(x_0) and of
\log target(x_N), which are zero where both chains meet both ends. E_f R - E_b R is the residual of
reversibility; of N Euler steps it keeps an O(\gamma) that no drift can remove.
"""

from __future__ import annotations

import math
import warnings
from typing import Final

import torch
from torch import Tensor

from sdekit.bridge.counters import MEASURED, path_number
from sdekit.bridge.drifts import Drift
from sdekit.bridge.ends import End, Samples
from sdekit.bridge.grid import Direction, opposite
from sdekit.bridge.measures import girsanov_kl, sliced_wasserstein
from sdekit.bridge.problems import as_times
from sdekit.bridge.state import EndError, Estimate, Measures
from sdekit.bridge.trajectories import chain_noise
from sdekit.bridge.transport import Transport
from sdekit.quality.mmd import mmd

WORSE: Final = 1.2
"""An end's error that grows by more than this factor, and by its floor beyond that, is worse."""


class BridgeWarning(UserWarning):
    """An iteration made a bridge worse."""


@torch.no_grad()
def measure(
    transport: Transport,
    direction: Direction,
    last: Drift | None,
    before: Measures,
    *,
    paths: int,
    seed: int,
    both: bool = False,
) -> Measures:
    """All measures after a half-step that fitted ``direction``, over so many paths of their own.

    last: the drift of that direction before. before: the measures of the half-step before. both:
    whether the half-step changed both drifts, and so the errors at both ends.
    """
    number = path_number(MEASURED, 0)
    starts = transport.end(direction).draw(seed, MEASURED, 0, paths)
    moved = transport.simulate(starts, direction, seed=seed, first_sample=number)
    error = _end_error(transport, direction, moved[-1], seed)
    change = None if last is None else _change(transport, direction, last, moved)
    other = opposite(direction)
    ends = {"source": before.source, "target": before.target}
    residual = None
    if (transport.forward if other == "forward" else transport.backward) is not None:
        begun = transport.end(other).draw(seed, MEASURED, 0, paths)
        back = transport.simulate(begun, other, seed=seed, first_sample=number + paths)
        if both:
            ends[_arrival(other)] = _end_error(transport, other, back[-1], seed)
        forth, back = (moved, back.flip(0)) if direction == "forward" else (back, moved.flip(0))
        residual = reversibility(transport, forth, back)
    ends[_arrival(direction)] = error
    return Measures(**ends, change=change, reversibility=residual)


def warn_if_worse(half_step: int, direction: Direction, before: Measures, after: Measures) -> None:
    """A ``BridgeWarning`` for an end that is missed by more: one network changes both."""
    for name in (_arrival(direction), _arrival(opposite(direction))):
        old, new = getattr(before, name), getattr(after, name)
        if old is None or new is None or new.sliced <= WORSE * old.sliced + new.floor:
            continue
        warnings.warn(
            f"half-step {half_step} made the bridge worse: the sliced Wasserstein distance at the "
            f"{name} went from {old.sliced:.3g} to {new.sliced:.3g} (floor {new.floor:.2g}); more "
            "steps of the regression, a smaller lr, a larger cache, or shorter steps may help",
            BridgeWarning,
            stacklevel=4,
        )


def reversibility(transport: Transport, forth: Tensor, back: Tensor) -> Estimate:
    """E_f R - E_b R in nats from forward and backward paths (N + 1, B, D...), times rising."""
    of_forth, of_back = log_ratio(transport, forth), log_ratio(transport, back)
    value = float(of_forth.mean() - of_back.mean())
    error = float(of_forth.var() / len(of_forth) + of_back.var() / len(of_back)) ** 0.5
    return Estimate(value, error)


def log_ratio(transport: Transport, paths: Tensor) -> Tensor:
    """R of each path, (B,): the log-density of its steps forward less that of its steps back."""
    shown = paths.double()
    total = torch.zeros(shown.shape[1], dtype=torch.float64, device=paths.device)
    for direction, sign in (("forward", 1.0), ("backward", -1.0)):
        way: Direction = "forward" if direction == "forward" else "backward"
        ordered = paths if way == "forward" else paths.flip(0)
        drift, h = drifts_along(transport, way, transport.drift(way), ordered)
        assert transport.reference is not None
        noise = transport.noise
        g = chain_noise(transport.grid, transport.reference, way, noise, paths[0]).unsqueeze(1)
        steps = ordered.double()
        lengths = h.view(-1, *[1] * (paths.ndim - 1))
        left = steps[1:] - steps[:-1] - lengths * drift
        variance = (g.square() * lengths).expand(left.shape)
        logs = -0.5 * (left.square() / variance + variance.log() + math.log(2 * math.pi))
        total += sign * logs.transpose(0, 1).flatten(1).sum(1)
    return total


def drifts_along(
    transport: Transport, direction: Direction, drift: Drift, paths: Tensor
) -> tuple[Tensor, Tensor]:
    """A drift at the states (N, B, D...) at which it is asked, in float64, and the steps (N,)."""
    grid = transport.grid
    times = as_times(grid.asked(direction), paths)
    found = torch.stack([drift(t, x) for t, x in zip(times, paths[:-1], strict=True)])
    return found.double(), grid.lengths(direction).to(paths.device)


def _change(transport: Transport, direction: Direction, last: Drift, paths: Tensor) -> Estimate:
    assert transport.reference is not None
    new, h = drifts_along(transport, direction, transport.drift(direction), paths)
    old, _ = drifts_along(transport, direction, last, paths)
    g = chain_noise(transport.grid, transport.reference, direction, transport.noise, paths[0])
    return Estimate(*girsanov_kl(new - old, g, h))


def _arrival(direction: Direction) -> str:
    """The end at which a direction arrives."""
    return "target" if direction == "forward" else "source"


def _end_error(transport: Transport, direction: Direction, arrived: Tensor, seed: int) -> EndError:
    end, count = transport.end(opposite(direction)), len(arrived)
    wanted = end.draw(seed, MEASURED, 0, count)
    found = mmd(arrived, wanted)
    return EndError(
        sliced_wasserstein(arrived, wanted, seed=seed),
        _floor(end, count, seed),
        Estimate(found.value, found.std_error),
    )


def _floor(end: End, count: int, seed: int) -> float:
    """The sliced distance of two sets of ``count`` draws of an end.

    Of fewer data than two such sets have, the distance of their halves by the law n^{-1/2}: a
    second pass over the data would find the first one's points, and a floor of zero.
    """
    each = min(count, len(end.data) // 2) if isinstance(end, Samples) else count
    if each == 0:
        return 0.0
    one, other = end.draw(seed, MEASURED, 0, each), end.draw(seed, MEASURED, each, each)
    return sliced_wasserstein(one, other, seed=seed) * (each / count) ** 0.5
