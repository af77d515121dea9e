"""The solvers, by name. A new one adds its file and a row here."""

from __future__ import annotations

from typing import Final

from sdekit.solvers.andersen_qe import AndersenQE
from sdekit.solvers.baoab import BAOAB
from sdekit.solvers.base import Solver
from sdekit.solvers.dri1 import DRI1
from sdekit.solvers.euler_heun import EulerHeun
from sdekit.solvers.euler_maruyama import EulerMaruyama
from sdekit.solvers.exact import Exact
from sdekit.solvers.full_truncation import FullTruncation
from sdekit.solvers.heun import Heun
from sdekit.solvers.implicit_euler import ImplicitEuler
from sdekit.solvers.mala import MALA
from sdekit.solvers.midpoint import Midpoint
from sdekit.solvers.milstein import Milstein
from sdekit.solvers.milstein_area import MilsteinArea
from sdekit.solvers.milstein_free import MilsteinFree
from sdekit.solvers.quicsort import Quicsort
from sdekit.solvers.reversible_heun import ReversibleHeun
from sdekit.solvers.rk4 import RungeKutta4
from sdekit.solvers.sosri import SOSRI
from sdekit.solvers.sra import SRA1, SRA3
from sdekit.solvers.sri import SRIW1
from sdekit.solvers.tamed_euler import TamedEuler
from sdekit.solvers.ula import ULA

__all__ = ["SOLVERS"]

SOLVERS: Final[dict[str, Solver]] = {
    s.name: s
    for s in (
        # Ito
        EulerMaruyama(),
        Milstein(),
        MilsteinFree(),
        SRA1(),
        SRA3(),
        SRIW1(),
        SOSRI(),
        DRI1(),
        TamedEuler(),
        ImplicitEuler(),
        # Stratonovich
        Heun(),
        Midpoint(),
        EulerHeun(),
        ReversibleHeun(),
        MilsteinArea(),
        # Exact laws
        Exact(),
        # At zero or above
        FullTruncation(),
        AndersenQE(),
        # Langevin
        ULA(),
        MALA(),
        BAOAB(),
        Quicsort(),
        # No noise
        RungeKutta4(),
    )
}
