"""A fitted bridge in a file: what sampling and likelihoods need, without data or optimizer."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, final

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse
from torch import Tensor, nn

from sdekit.bridge import counters
from sdekit.bridge.driver import Driver
from sdekit.bridge.ends import End, two_ends
from sdekit.bridge.grid import TimeGrid
from sdekit.bridge.keeper import FORMAT
from sdekit.bridge.nets import BOTH
from sdekit.bridge.relatives import FlowMatching
from sdekit.bridge.snapshot import Facts, Tensors, load_networks, put, take
from sdekit.bridge.spec import network_from_plain, reference_from_plain, reference_to_plain
from sdekit.bridge.transport import Transport
from sdekit.sde import AffineSDE
from sdekit.train import CheckpointError
from sdekit.train.checkpoint import VERSION, read_header, write_with_header
from sdekit.train.state import read_state

_WITHOUT_NOISE: Final = FlowMatching.__name__


def save(bridge: Driver, path: str | os.PathLike[str]) -> None:
    """Write the networks, the grid and the reference of a bridge as it is, one safetensors file.

    An old file at ``path`` is replaced only by a whole new one. ``load`` reads it, and the folder
    of a fit as well. Raises TypeError for drifts that no fit has made, OSError, naming ``path``.
    """
    facts, tensors = take(bridge.transport, bridge.networks.known)
    header = {
        "format": FORMAT,
        "version": VERSION,
        "half_step": bridge.half_step,
        "settings": bridge.settings(),
        **facts,
    }
    write_with_header(path, header, {**tensors, "times": bridge.grid.times})


def load(
    path: str | os.PathLike[str],
    *,
    nets: Sequence[nn.Module] | nn.Module | None = None,
    reference: AffineSDE | None = None,
    source: Any = None,
    target: Any = None,
    device: torch.device | str = "cpu",
    backend: str = "auto",
    fuse: bool | None = None,
) -> Transport:
    """The bridge of a file of ``save``, or of the last half-step that a fit's folder keeps.

    It samples, and has flow and log_likelihood, as the bridge itself did.
    nets: networks of the user's own, as they were given to the fit: (forward, backward) or one for
    both; ``DriftMLP`` and those of ``sdekit.train`` are built here. reference: an equation of the
    user's own. source, target: data or laws, where x is to be drawn there, and as the law of an
    end; without them x must be given. backend, fuse: of simulations, as for ``sk.solve``.
    Raises FileNotFoundError and other errors of the system, CheckpointError that says in what way
    the file is not a bridge's, or damaged, TypeError for a network or a reference that must be
    given.
    """
    facts, tensors = _read(Path(path))
    try:
        settings = facts["settings"]
        made = _transport(settings, tensors["times"], reference, (source, target), device)
        made.backend, made.fuse = backend, fuse
        networks = _networks(facts, nets, device)
        load_networks(facts, tensors, networks)
        for net in networks.values():
            net.requires_grad_(False)
        put(made, facts, tensors, networks)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except (KeyError, AttributeError) as error:
        raise CheckpointError(f"{path} does not hold together: {error}") from None
    return made


@final
class Absent(End):
    """An end of which nothing but the shape is known."""

    def __init__(self, name: str, like: Tensor) -> None:
        self.name, self.like = name, like

    def draw(self, seed: int, half_step: int, first: int, count: int) -> Tensor:
        """Raises RuntimeError."""
        raise RuntimeError(
            f"this bridge was loaded without its {self.name}: give states x (B, "
            f"{', '.join(map(str, self.like.shape[1:]))}), or load(..., {self.name}=...)"
        )


def _read(path: Path) -> tuple[Facts, Tensors]:
    if path.is_dir():
        found = read_state(path, FORMAT)
        if found is None:
            raise CheckpointError(f"no bridge was saved in {path} yet")
        return found
    data = path.read_bytes()
    header = read_header(path, data, FORMAT)
    try:
        return header, parse(data)
    except (SafetensorError, KeyError, ValueError) as error:
        text = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path} is damaged or cut short ({text}): make it again") from None


def _transport(
    settings: Facts,
    times: Tensor,
    reference: AffineSDE | None,
    ends: tuple[Any, Any],
    device: torch.device | str,
) -> Transport:
    """Without its drifts yet."""
    algorithm, plain = settings["algorithm"], settings["reference"]
    sde = None
    if algorithm["name"] != _WITHOUT_NOISE:
        sde = reference_from_plain(plain) if reference is None else reference
        if reference is not None and reference_to_plain(reference) != plain:
            raise CheckpointError(f"it was fitted with another reference: {plain}")
    dtype = getattr(torch, settings["dtype"].removeprefix("torch."))
    like = torch.zeros(1, *settings["shape"], dtype=dtype, device=device)
    orders = (counters.SOURCE_ORDER, counters.TARGET_ORDER)
    # Where one end is missing, the other one says nothing about it but its shape.
    first, last = (like if end is None else end for end in ends)
    given = two_ends(first, last, orders, dtype)
    own: tuple[End, End] = (
        Absent("source", like[:0]) if ends[0] is None else given[0],
        Absent("target", like[:0]) if ends[1] is None else given[1],
    )
    return Transport(TimeGrid(times), sde, own, noise=algorithm["noise"])


def _networks(
    facts: Facts, nets: Sequence[nn.Module] | nn.Module | None, device: torch.device | str
) -> dict[str, nn.Module]:
    """The networks by name, built or given."""
    if nets is None:
        return {
            name: network_from_plain(spec).to(device) for name, spec in facts["networks"].items()
        }
    if isinstance(nets, nn.Module):
        given = {BOTH: nets}
    else:
        given = dict(zip(("forward", "backward"), nets, strict=True))
    missing = set(facts["networks"]) - set(given)
    if missing:
        raise TypeError(f"the networks that are needed are {sorted(facts['networks'])}: nets=")
    return {name: given[name].to(device) for name in facts["networks"]}
