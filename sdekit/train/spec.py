"""Equations and networks by name, and as the plain values that a checkpoint keeps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from sdekit_kernels.checks import check_choice
from torch import nn

from sdekit.score import MLP, Preconditioned, UNet
from sdekit.sde import (
    DDPM,
    VE,
    VP,
    AffineSDE,
    ChainBeta,
    CosineBeta,
    GeometricSigma,
    IdentitySigma,
    LinearBeta,
    SubVP,
)

SDES: Final[dict[str, Callable[[], AffineSDE]]] = {
    "vp": lambda: VP("linear"),
    "vp-cosine": lambda: VP("cosine"),
    "subvp": lambda: SubVP("linear"),
    "subvp-cosine": lambda: SubVP("cosine"),
    # The largest distance of two images in [-1, 1)^64 is 16: sigma_max above it forgets the data
    # (Song & Ermon 2020, "technique 1").
    "ve": lambda: VE("geometric", sigma_min=0.01, sigma_max=20.0),
    "ve-edm": lambda: VE("edm", sigma_min=0.002, sigma_max=20.0),
    # The equation through Ho et al. 2020's chain of 1000 levels, and through Nichol & Dhariwal's.
    "ddpm": lambda: DDPM.linear().sde,
    "ddpm-cosine": lambda: DDPM.cosine().sde,
}
"""The equations that the command line offers."""

NETWORKS: Final[dict[str, type[Preconditioned]]] = {"MLP": MLP, "UNet": UNet}
"""The networks that a checkpoint can name."""

_FAMILIES: Final[dict[str, Any]] = {"VP": VP, "SubVP": SubVP, "VE": VE}
_SCHEDULES: Final[dict[str, tuple[Any, tuple[str, ...]]]] = {
    "LinearBeta": (LinearBeta, ("beta_min", "beta_max")),
    "CosineBeta": (CosineBeta, ("s", "beta_clip")),
    "GeometricSigma": (GeometricSigma, ("sigma_min", "sigma_max")),
    "IdentitySigma": (IdentitySigma, ("sigma_min", "sigma_max")),
    "ChainBeta": (ChainBeta, ("betas",)),
}


def make_sde(name: str) -> AffineSDE:
    """Return the equation of this name in ``SDES``; raises ValueError that lists the names."""
    return SDES[check_choice("sde", name, SDES)]()


def sde_to_dict(sde: AffineSDE) -> dict[str, Any]:
    """VP, SubVP or VE as plain values: {"name", "schedule", and the schedule's numbers}.

    A chain's equation has the schedule "ChainBeta", with its list of betas.

    Raises TypeError for another equation or a schedule of the user's own.
    """
    family, schedule = type(sde).__name__, getattr(sde, "schedule", None)
    known = _SCHEDULES.get(type(schedule).__name__)
    if _FAMILIES.get(family) is not type(sde) or known is None or known[0] is not type(schedule):
        raise TypeError(
            f"a checkpoint can name VP, SubVP and VE with sdekit's own schedules, got {family} "
            f"with {type(schedule).__name__}: save the network's state_dict yourself"
        )
    numbers = {key: _plain(getattr(schedule, key)) for key in known[1]}
    return {"name": family, "schedule": type(schedule).__name__, **numbers}


def sde_from_dict(spec: dict[str, Any]) -> AffineSDE:
    """The inverse of ``sde_to_dict``; raises TypeError, KeyError or ValueError for bad values."""
    values = dict(spec)
    family = _FAMILIES[check_choice("SDE", values.pop("name"), _FAMILIES)]
    schedule = _SCHEDULES[check_choice("schedule", values.pop("schedule"), _SCHEDULES)][0]
    made: AffineSDE = family(schedule(**values))
    return made


def network_to_dict(net: nn.Module) -> dict[str, Any]:
    """A network of ``NETWORKS`` as plain values: {"name", and its configuration}.

    Raises TypeError for another one.
    """
    name = type(net).__name__
    if not isinstance(net, Preconditioned) or NETWORKS.get(name) is not type(net):
        raise TypeError(
            f"a checkpoint can name the networks {', '.join(NETWORKS)}, got {name}: save its "
            "state_dict yourself"
        )
    return {"name": name, **net.config()}


def network_from_dict(
    spec: dict[str, Any], *, sde: AffineSDE, dtype: torch.dtype
) -> Preconditioned:
    """The inverse of ``network_to_dict``, with initial weights.

    Raises TypeError, KeyError or ValueError for bad values, ModuleNotFoundError, with what to
    install, for a network that another package makes.
    """
    values = dict(spec)
    name = values.pop("name")
    if name not in NETWORKS:
        raise ValueError(f"its network {name!r} is none that this version of sdekit knows")
    make: Any = NETWORKS[name]
    net: Preconditioned = make(**values, sde=sde, dtype=dtype)
    return net


def _plain(value: Any) -> Any:
    """A number, or a tensor of them as a list."""
    return value.tolist() if isinstance(value, torch.Tensor) else float(value)
