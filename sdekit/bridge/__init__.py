"""Schrödinger bridges: closed forms between Gaussians, and measures of a bridge's error."""

from sdekit.bridge import closed_form, measures

__all__ = ["closed_form", "measures"]
