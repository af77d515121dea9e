"""Networks and references of a bridge as plain values, from which they can be built again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn

from sdekit.bridge.network import DriftMLP
from sdekit.bridge.unet import DriftUNet
from sdekit.score import Preconditioned
from sdekit.sde import OU, AffineSDE, Brownian
from sdekit.train.describe import describe_network, describe_sde
from sdekit.train.spec import (
    NETWORKS,
    network_from_dict,
    network_to_dict,
    sde_from_dict,
    sde_to_dict,
)

DRIFTS: Final[dict[str, Any]] = {"DriftMLP": DriftMLP, "DriftUNet": DriftUNet}
"""Networks for drifts that a checkpoint can name: ``make(**config(), dtype=)`` builds one."""

_PARAMETERS: Final[dict[str, tuple[Any, tuple[str, ...]]]] = {
    "Brownian": (Brownian, ("sigma", "T")),
    "OU": (OU, ("theta", "mu", "sigma", "T")),
}


def network_to_plain(net: nn.Module) -> dict[str, Any]:
    """A network by its name and configuration; one of the user's own by class and shapes.

    "built": whether ``network_from_plain`` can build it.
    """
    name = type(net).__name__
    dtype = str(next(net.parameters()).dtype) if any(True for _ in net.parameters()) else "none"
    if DRIFTS.get(name) is type(net):
        made: Any = net
        return {"name": name, **made.config(), "dtype": dtype, "built": True}
    try:
        known = network_to_dict(net)
    except TypeError:
        return {**describe_network(net), "dtype": dtype, "built": False}
    assert isinstance(net, Preconditioned)
    sde = net.sde
    try:
        return {**known, "sde": sde_to_dict(sde), "dtype": dtype, "built": True}
    except TypeError:
        return {**known, "sde": describe_sde(sde), "dtype": dtype, "built": False}


def network_from_plain(spec: Mapping[str, Any]) -> nn.Module:
    """The inverse of ``network_to_plain``, with initial weights.

    Raises TypeError for a network that only its user can build; TypeError, KeyError or ValueError
    for bad values.
    """
    values = dict(spec)
    name, built = values["name"], values.pop("built")
    if not built:
        raise TypeError(
            f"its network {name} is none that sdekit can build ({', '.join([*DRIFTS, *NETWORKS])}):"
            " give nets=, the forward and the backward one, or one for both"
        )
    dtype: torch.dtype = getattr(torch, values.pop("dtype").removeprefix("torch."))
    if name in DRIFTS:
        del values["name"]
        made: nn.Module = DRIFTS[name](**values, dtype=dtype)
        return made
    return network_from_dict(values, sde=sde_from_dict(values.pop("sde")), dtype=dtype)


def reference_to_plain(sde: AffineSDE) -> dict[str, Any]:
    """A reference by its name and numbers; one of the user's own by its class and attributes."""
    name = type(sde).__name__
    known = _PARAMETERS.get(name)
    if known is not None and known[0] is type(sde):
        return {"name": name, **{k: _plain(getattr(sde, k)) for k in known[1]}, "built": True}
    try:
        return {**sde_to_dict(sde), "built": True}
    except TypeError:
        return {"sde": describe_sde(sde), "name": name, "built": False}


def reference_from_plain(spec: Mapping[str, Any]) -> AffineSDE:
    """The inverse of ``reference_to_plain``; raises TypeError for one of the user's own."""
    values = dict(spec)
    name = values["name"]
    if not values.pop("built"):
        raise TypeError(
            f"its reference {name} is none that sdekit can build: give reference=, the equation "
            "that it was fitted with"
        )
    if name not in _PARAMETERS:
        return sde_from_dict(values)
    del values["name"]
    made: AffineSDE = _PARAMETERS[name][0](**{k: _value(v) for k, v in values.items()})
    return made


def _plain(value: Any) -> Any:
    """A number; or a tensor as its numbers, exactly, and its type."""
    if not isinstance(value, Tensor):
        return float(value)
    # An equation puts an axis for the batch before one entry a component.
    own = value[0] if value.ndim else value
    return {"numbers": own.detach().cpu().tolist(), "dtype": str(value.dtype)}


def _value(plain: Any) -> Any:
    if not isinstance(plain, Mapping):
        return plain
    dtype: torch.dtype = getattr(torch, plain["dtype"].removeprefix("torch."))
    return torch.tensor(plain["numbers"], dtype=dtype)
