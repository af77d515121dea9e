"""Samplers: predictors, correctors, the loop that alternates them, and annealed Langevin dynamics.

``sdekit.sample`` is the function ``sample``: ``sdekit`` re-exports it under the package's own name.
``from sdekit.sample import polynomial_times`` and the like find this package all the same.
"""

from sdekit.sample.annealed_langevin import annealed_langevin
from sdekit.sample.conditional import conditional_score
from sdekit.sample.correctors import CORRECTORS
from sdekit.sample.flow_map import flow_map
from sdekit.sample.grid import polynomial_times, uniform_times
from sdekit.sample.info import SampleInfo
from sdekit.sample.inpaint import inpaint
from sdekit.sample.interpolate import interpolate
from sdekit.sample.predictors import PREDICTORS
from sdekit.sample.sample import sample

__all__ = [
    "CORRECTORS",
    "PREDICTORS",
    "SampleInfo",
    "annealed_langevin",
    "conditional_score",
    "flow_map",
    "inpaint",
    "interpolate",
    "polynomial_times",
    "sample",
    "uniform_times",
]
