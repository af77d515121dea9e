"""Solvers: one method a file, their table, and the choice among them."""

from sdekit.solvers.base import Solver
from sdekit.solvers.choice import get_solver
from sdekit.solvers.equation import Equation
from sdekit.solvers.table import SOLVERS

__all__ = ["SOLVERS", "Equation", "Solver", "get_solver"]
