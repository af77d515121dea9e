"""Schrödinger bridges between Gaussians, and the iterates of IPF and IMF, in closed form."""

from sdekit.bridge.closed_form.affine_map import AffineEquation, AffineMap
from sdekit.bridge.closed_form.imf import imf_iterates
from sdekit.bridge.closed_form.ipf import ipf_iterates
from sdekit.bridge.closed_form.joint import Joint
from sdekit.bridge.closed_form.mixture import BridgeMixture
from sdekit.bridge.closed_form.schrodinger import gaussian_bridge
from sdekit.bridge.closed_form.sinkhorn import Plan, sinkhorn

__all__ = [
    "AffineEquation",
    "AffineMap",
    "BridgeMixture",
    "Joint",
    "Plan",
    "gaussian_bridge",
    "imf_iterates",
    "ipf_iterates",
    "sinkhorn",
]
