"""Schrödinger bridges: fitted by IPF and IMF, in closed form between Gaussians, and measured."""

from sdekit.bridge import closed_form, measures
from sdekit.bridge.cache import Cache
from sdekit.bridge.drifts import AffineDrift, NetworkDrift
from sdekit.bridge.dsb import DSB
from sdekit.bridge.dsbm import DSBM
from sdekit.bridge.grid import TimeGrid, time_grid
from sdekit.bridge.monitor import BridgeWarning
from sdekit.bridge.network import DriftMLP
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
    "FlowMatching",
    "LeastSquares",
    "NetworkDrift",
    "TimeGrid",
    "bridge_matching",
    "closed_form",
    "flow_matching",
    "measures",
    "ot_cfm",
    "sf2m",
    "time_grid",
    "trajectories",
]
