"""One solve by one scheme, and what was seen on the way."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import Tensor

from sdekit.fokker_planck.cells import Cells
from sdekit.fokker_planck.evolve import Evolution, Propagator
from sdekit.fokker_planck.exponential import Exponential
from sdekit.fokker_planck.field import Field, make_field
from sdekit.fokker_planck.generator import Generator
from sdekit.fokker_planck.limited import Limited
from sdekit.fokker_planck.rates import Rates
from sdekit.solvers import Equation

__all__ = ["Run"]


class Run:
    """The masses at each of the times.

    dominated: the largest mass that stood beside edges at which drift dominates, at any of the
    times but the first. added: likewise the diffusion that was added to the equation's, relative
    to it, averaged over the mass.
    """

    def __init__(self, equation: Equation, cells: Cells, scheme: str, start: Tensor) -> None:
        self.equation, self.cells, self.scheme = equation, cells, scheme
        self.rates = Rates(cells, on_axes=scheme == "limited")
        self.masses = [start]
        self.dominated = self.added = 0.0
        self.steps = 0
        self._chain: Generator | None = None

    def through(self, times: Sequence[float], tolerance: float, max_step: float) -> None:
        """Fill ``masses`` for the times, the first of which is that of the start."""
        whole = times[-1] - times[0]
        evolution = Evolution(self._field, self._propagator, tolerance, max_step, whole)
        for t, end in itertools.pairwise(times):
            self.masses.append(evolution.run(self.masses[-1], t, end))
            self._look(self.masses[-1])
        self.steps = evolution.steps

    def _field(self, t: float) -> Field:
        return make_field(self.equation, t, self.cells)

    def _propagator(self, field: Field) -> Propagator:
        self._chain = self.rates.generator(field)
        return Limited(self._chain) if self.rates.on_axes else Exponential(self._chain)

    def _look(self, m: Tensor) -> None:
        if self._chain is not None:
            self.dominated = max(self.dominated, float(m[self._chain.dominated].sum()))
            self.added = max(self.added, float((m * self._chain.added).sum()))
