"""Measured orders of convergence, of any method on any equation."""

from sdekit.convergence.estimate import Order
from sdekit.convergence.grid import Gaussian, Grid, Periodic
from sdekit.convergence.kolmogorov import expectations
from sdekit.convergence.operator import operator_error
from sdekit.convergence.strong import strong_error
from sdekit.convergence.weak import weak_error

__all__ = [
    "Gaussian",
    "Grid",
    "Order",
    "Periodic",
    "expectations",
    "operator_error",
    "strong_error",
    "weak_error",
]
