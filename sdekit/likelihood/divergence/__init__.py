r"""Divergences of a field F: (B, D...) -> (B, D...) whose samples do not see each other.

All are traces of each sample's Jacobian J = dF/dx, made of products of J with directions:

- exact: div F = \sum_j e_j^T J e_j over the D basis vectors;
- Hutchinson 1990: v^T J v has the mean div F if E[v v^T] = 1, so each of n probes v gives one
  unbiased estimate; independent entries, or orthogonal probes;
- Hutch++ (Meyer, Musco, Musco & Woodruff 2021) and XTrace (Epperly, Tropp & Webber 2024): the part
  of J within a sketch exactly, the rest by probes.
"""

from sdekit.likelihood.divergence.derivative import check_derivative
from sdekit.likelihood.divergence.estimator import Divergence
from sdekit.likelihood.divergence.make import KINDS, field_divergence, make_divergence
from sdekit.likelihood.divergence.memory import MEMORY, Chunks
from sdekit.likelihood.divergence.probes import PROBES, draw_probes
from sdekit.likelihood.divergence.products import DERIVATIVES

__all__ = [
    "DERIVATIVES",
    "KINDS",
    "MEMORY",
    "PROBES",
    "Chunks",
    "Divergence",
    "check_derivative",
    "draw_probes",
    "field_divergence",
    "make_divergence",
]
