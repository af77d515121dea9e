"""Schrödinger bridges: fitted by IPF and IMF, in closed form between Gaussians, and measured."""

from sdekit.bridge import closed_form, measures, recipes
from sdekit.bridge.cache import Cache
from sdekit.bridge.drifts import AffineDrift, NetworkDrift
from sdekit.bridge.dsb import DSB
from sdekit.bridge.dsbm import DSBM
from sdekit.bridge.grid import TimeGrid, time_grid
from sdekit.bridge.latent import latent_film, latent_path
from sdekit.bridge.model import load, save
from sdekit.bridge.monitor import BridgeWarning
from sdekit.bridge.network import DriftMLP
from sdekit.bridge.recipes import recipe
from sdekit.bridge.regression import Adam, LeastSquares
from sdekit.bridge.relatives import (
    BridgeMatching,
    FlowMatching,
    bridge_matching,
    flow_matching,
    ot_cfm,
    sf2m,
)
from sdekit.bridge.state import BridgeState
from sdekit.bridge.trajectories import trajectories
from sdekit.bridge.unet import DriftUNet

__all__ = [
    "DSB",
    "DSBM",
    "Adam",
    "AffineDrift",
    "BridgeMatching",
    "BridgeState",
    "BridgeWarning",
    "Cache",
    "DriftMLP",
    "DriftUNet",
    "FlowMatching",
    "LeastSquares",
    "NetworkDrift",
    "TimeGrid",
    "bridge_matching",
    "closed_form",
    "flow_matching",
    "latent_film",
    "latent_path",
    "load",
    "measures",
    "ot_cfm",
    "recipe",
    "recipes",
    "save",
    "sf2m",
    "time_grid",
    "trajectories",
]
