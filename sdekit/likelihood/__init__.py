"""Likelihoods of data under a score model, and the map from integer data to its space."""

from sdekit.likelihood.divergence import field_divergence
from sdekit.likelihood.likelihood import Likelihood, log_likelihood
from sdekit.likelihood.transform import DataTransform

__all__ = ["DataTransform", "Likelihood", "field_divergence", "log_likelihood"]
