"""Densities of SDEs in one and two dimensions, from the Fokker-Planck equation."""

from sdekit.fokker_planck.density import Density
from sdekit.fokker_planck.fokker_planck import fokker_planck

__all__ = ["Density", "fokker_planck"]
