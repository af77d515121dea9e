"""Adaptive ordinary differential equations of batches whose samples do not know each other."""

from sdekit.ode.integrate import integrate
from sdekit.ode.solution import OdeSolution
from sdekit.ode.tableau import TABLEAUS

__all__ = ["TABLEAUS", "OdeSolution", "integrate"]
