r"""Masses through time, with coefficients that may depend on it.

Over a step in which the chain Q does not change, e^{\tau Q} m has no error of time. Where it does,
Q is taken in the middle of the step (Magnus 1954, order two; e^{\tau Q} keeps masses positive), and
one step is compared with two of half the length. A chain brings no two densities further apart, so
that errors of steps add up and never grow: they are held below tolerance * step / whole time.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from sdekit.fokker_planck.field import Field

__all__ = ["Evolution", "Propagator"]

Propagator = Callable[[Tensor, float], Tensor]

_HALVES = (0.25, 0.75)
_OTHERS = (1e-6, 1.0 - 1e-6, *((0.6180339887498949 * k) % 1.0 for k in range(1, 6)))
"""Where else in a step coefficients are looked at. No period fits the golden section."""
_FIRST = 1.0 / 64.0
"""Of an interval: the first step once its coefficients are seen to change."""
_LEAST = 1e-3
"""Of the tolerance: what any step may add, or a jump in time would be halved without end."""
_SHORTEST = 1e-6
"""Of the whole time: a step that is not shortened further. A jump in it does no harm."""


class Evolution:
    """Steps from time to time; ``steps`` counts them."""

    def __init__(
        self,
        field: Callable[[float], Field],
        propagator: Callable[[Field], Propagator],
        tolerance: float,
        max_step: float,
        whole: float,
    ) -> None:
        self.field, self.make = field, propagator
        self.tolerance, self.max_step, self.whole = tolerance, max_step, whole
        self.trial = max_step
        self.steps = 0
        self._known: tuple[Field, Propagator] | None = None

    def run(self, m: Tensor, t: float, end: float) -> Tensor:
        """The masses at ``end`` of those at t."""
        while t < end:
            rest = end - t
            tau = rest if self.trial > 0.99 * rest else min(self.trial, 0.5 * rest)
            middle = self.field(t + 0.5 * tau)
            halves = [self.field(t + part * tau) for part in _HALVES]
            alike = all(middle.equals(field) for field in halves)
            if alike and all(middle.equals(self.field(t + part * tau)) for part in _OTHERS):
                after: Tensor | None = self._propagator(middle)(m, tau)
                self.trial = self.max_step
            else:
                after = self._compared(m, tau, middle, halves, alike)
            if after is not None:
                m, t = after, t + tau if tau < rest else end
                self.steps += 1
        return m

    def _compared(
        self, m: Tensor, tau: float, middle: Field, halves: list[Field], alike: bool
    ) -> Tensor | None:
        """Two half steps, if they are near enough to one step; else None, and a shorter trial."""
        adaptive, shortest = self.tolerance < math.inf, tau <= _SHORTEST * self.whole
        if adaptive and self.trial == math.inf:
            self.trial = _FIRST * tau
            return None
        if adaptive and alike and not shortest:
            # A jump in time near one end, of which the comparison would know nothing.
            self.trial = 0.5 * tau
            return None
        fine = m
        for field in halves:
            fine = self.make(field)(fine, 0.5 * tau)
        if not adaptive:
            return fine
        # Half the l1 norm is total variation; the error of order two is a third of this.
        error = float((fine - self.make(middle)(m, tau)).abs().sum()) / 6.0
        allowed = self.tolerance * max(tau / self.whole, _LEAST)
        factor = 0.9 * (allowed / error) ** 0.5 if error > 0 else 4.0
        self.trial = min(self.max_step, tau * min(4.0, max(0.2, factor)))
        return fine if error <= allowed or shortest else None

    def _propagator(self, field: Field) -> Propagator:
        """One that has been made before, and what it has computed, if the field is the same."""
        if self._known is None or not self._known[0].equals(field):
            self._known = field, self.make(field)
        return self._known[1]
