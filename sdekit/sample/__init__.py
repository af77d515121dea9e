"""Samplers: predictors, correctors, the loop that alternates them, and annealed Langevin dynamics.

``sdekit.sample`` is the function ``sample``: ``sdekit`` re-exports it under the package's own name.
``from sdekit.sample import polynomial_times`` and the like find this package all the same.
"""

from sdekit.sample.annealed_langevin import annealed_langevin
from sdekit.sample.conditional import conditional_score
from sdekit.sample.correctors import CORRECTORS
from sdekit.sample.ddpm_learned import ddpm_learned
from sdekit.sample.edm_heun import edm_heun
from sdekit.sample.flow_map import flow_map
from sdekit.sample.flow_sample import flow_sample
from sdekit.sample.grid import polynomial_times, uniform_times
from sdekit.sample.info import SampleInfo
from sdekit.sample.inpaint import inpaint
from sdekit.sample.interpolate import interpolate
from sdekit.sample.levels import chain_times, edm_sigmas, levels_at, times_of_levels
from sdekit.sample.ncsnv2 import (
    geometric_levels,
    geometric_ratio,
    langevin_step_size,
    largest_distance,
    ncsnv2_levels,
)
from sdekit.sample.predictors import PREDICTORS
from sdekit.sample.progressive import Lossy, Progressive, lossy, progressive
from sdekit.sample.sample import sample
from sdekit.sample.table import SAMPLERS, Sampler

__all__ = [
    "CORRECTORS",
    "PREDICTORS",
    "SAMPLERS",
    "Lossy",
    "Progressive",
    "SampleInfo",
    "Sampler",
    "annealed_langevin",
    "chain_times",
    "conditional_score",
    "ddpm_learned",
    "edm_heun",
    "edm_sigmas",
    "flow_map",
    "flow_sample",
    "geometric_levels",
    "geometric_ratio",
    "inpaint",
    "interpolate",
    "langevin_step_size",
    "largest_distance",
    "levels_at",
    "lossy",
    "ncsnv2_levels",
    "polynomial_times",
    "progressive",
    "sample",
    "times_of_levels",
    "uniform_times",
]
