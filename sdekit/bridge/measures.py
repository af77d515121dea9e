"""How far a process is from a bridge: distances between its ends, energies, divergences.

Points are (n, D...), flattened to D components and taken to float64. ``sdekit.quality.mmd`` has the
maximum mean discrepancy, with its standard error.
"""

from __future__ import annotations

from sdekit.bridge.divergences import fitted_kl, fitted_kl_floor, gaussian_kl, girsanov_kl
from sdekit.bridge.energy import normalized_path_energy, path_energy
from sdekit.bridge.wasserstein import sliced_wasserstein, wasserstein2

__all__ = [
    "fitted_kl",
    "fitted_kl_floor",
    "gaussian_kl",
    "girsanov_kl",
    "normalized_path_energy",
    "path_energy",
    "sliced_wasserstein",
    "wasserstein2",
]
