"""Likelihoods of data under a flow, their error budgets, and the map from integer data."""

from sdekit.likelihood.dequantization import DequantizationBound, dequantization_bound
from sdekit.likelihood.divergence import field_divergence, make_divergence
from sdekit.likelihood.draw import FlowSamples, sample_flow
from sdekit.likelihood.flow import Flow
from sdekit.likelihood.gradient import log_prob_with_gradient
from sdekit.likelihood.importance import Importance, importance_weights
from sdekit.likelihood.likelihood import log_likelihood
from sdekit.likelihood.prior_bounds import prior_gap_interval, prior_kl_bound
from sdekit.likelihood.prior_gap import prior_gap
from sdekit.likelihood.result import Likelihood
from sdekit.likelihood.sde_elbo import elbo
from sdekit.likelihood.transform import DataTransform
from sdekit.likelihood.truncation import flow_truncation_error, truncation_error
from sdekit.likelihood.variational import (
    RateDistortion,
    VariationalBound,
    rate_distortion,
    variational_bound,
)

__all__ = [
    "DataTransform",
    "DequantizationBound",
    "Flow",
    "FlowSamples",
    "Importance",
    "Likelihood",
    "RateDistortion",
    "VariationalBound",
    "dequantization_bound",
    "elbo",
    "field_divergence",
    "flow_truncation_error",
    "importance_weights",
    "log_likelihood",
    "log_prob_with_gradient",
    "make_divergence",
    "prior_gap",
    "prior_gap_interval",
    "prior_kl_bound",
    "rate_distortion",
    "sample_flow",
    "truncation_error",
    "variational_bound",
]
