"""Who solves the problems, with which methods."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import NamedTuple

from torch import Tensor

import sdekit as sk
from benchmarks.precision.path import Path
from benchmarks.precision.problems import (
    GBM,
    Additive,
    Arctangent,
    DoubleWell,
    Heston,
    Problem,
)

__all__ = ["CONTENDERS", "Contender"]

Solve = Callable[[Path], Tensor]
"""From a Brownian path to the last states (B, D); from 0 to span in the path's steps."""


class Contender(NamedTuple):
    """A method of a library, and the form of the equation that it takes."""

    library: str
    method: str
    interpretation: str = "ito"

    @property
    def name(self) -> str:
        """What tables and pictures call it."""
        return f"{self.library} {self.method}"

    def missing(self) -> str:
        """Why it cannot run here, or "" if it can."""
        if self.library == "sdekit":
            return "" if self.method in sk.SOLVERS else "no such method in this version"
        return "" if find_spec(self.library) else f"not installed: pip install {self.library}"

    def prepare(self, kind: type[Problem]) -> tuple[Solve, Solve]:
        """(the solve that is timed, the solve whose error is measured): the same where they can be.

        The timed one makes its noise as it goes; it follows the path only if it is also the other.
        """
        problem = kind(self.interpretation)
        if self.library == "diffrax":
            from benchmarks.precision.diffrax_methods import prepare

            return prepare(problem, self.method)
        if self.library == "torchsde":
            from benchmarks.precision.torchsde_path import solve

            def run(path: Path) -> Tensor:
                return solve(problem, self.method, path)

            return run, run
        equation = problem.equation()

        def ours(path: Path) -> Tensor:
            solution = sk.solve(
                equation,
                problem.x0(path.paths),
                t1=path.span,
                steps=path.steps,
                method=self.method,
                seed=path.seed,
                refine=path.refine,
            )
            return solution.x

        return ours, ours


def _ours(*methods: str, interpretation: str = "ito") -> tuple[Contender, ...]:
    return tuple(Contender("sdekit", method, interpretation) for method in methods)


_ITO = (
    *_ours("euler_maruyama", "milstein", "sriw1", "sosri"),
    *_ours("heun", interpretation="stratonovich"),
    Contender("torchsde", "euler"),
    Contender("torchsde", "milstein"),
    Contender("torchsde", "srk"),
    Contender("torchsde", "heun", "stratonovich"),
    Contender("diffrax", "ItoMilstein"),
    Contender("diffrax", "EulerHeun", "stratonovich"),
    Contender("diffrax", "SlowRK", "stratonovich"),
)

CONTENDERS: dict[type[Problem], tuple[Contender, ...]] = {
    GBM: _ITO,
    Arctangent: _ITO,
    # Of additive noise torchsde's milstein is its euler.
    Additive: (
        *_ours("euler_maruyama", "heun", "sra1", "sra3"),
        Contender("torchsde", "euler"),
        Contender("torchsde", "srk"),
        Contender("torchsde", "heun", "stratonovich"),
        Contender("diffrax", "EulerHeun"),
        Contender("diffrax", "SRA1"),
        Contender("diffrax", "ShARK"),
    ),
    DoubleWell: (
        *_ours("euler_maruyama", "sra1", "baoab", "quicsort"),
        Contender("torchsde", "euler"),
        Contender("torchsde", "srk"),
        Contender("torchsde", "heun", "stratonovich"),
        Contender("diffrax", "ShARK"),
        Contender("diffrax", "QUICSORT"),
    ),
    # Of general noise torchsde's milstein and srk take none.
    Heston: (
        *_ours("full_truncation", "andersen_qe", "dri1"),
        Contender("torchsde", "euler"),
        Contender("torchsde", "heun", "stratonovich"),
        Contender("diffrax", "Euler"),
        Contender("diffrax", "SPaRK", "stratonovich"),
    ),
}
