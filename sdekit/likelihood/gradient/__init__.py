"""Log-densities of flows with gradients: by the adjoint equation, or through the solver's steps."""

from sdekit.likelihood.gradient.log_prob import log_prob_with_gradient

__all__ = ["log_prob_with_gradient"]
