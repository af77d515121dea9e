"""DDPM's view of likelihoods: the bound term by term, bits per dimension, rate and distortion."""

from sdekit.likelihood.variational.bound import variational_bound
from sdekit.likelihood.variational.rate_distortion import RateDistortion, rate_distortion
from sdekit.likelihood.variational.result import VariationalBound

__all__ = ["RateDistortion", "VariationalBound", "rate_distortion", "variational_bound"]
