"""Drifts and networks of a bridge as facts and tensors, and back.

facts["networks"]: {"forward": .., "backward": ..} or {"both": ..}, each as ``spec`` has it.
facts["drifts"]: what each direction's drift is: a network, affine, the reference, or none yet.
net/NETWORK/NAME: weights and buffers. drift/DIRECTION/..: matrices and shifts of an affine drift.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn

from sdekit.bridge.drifts import AffineDrift, Drift, NetworkDrift, ReferenceDrift
from sdekit.bridge.grid import Direction
from sdekit.bridge.nets import BOTH
from sdekit.bridge.spec import network_to_plain
from sdekit.bridge.transport import Transport
from sdekit.train import CheckpointError

WAYS: Final[tuple[Direction, Direction]] = ("forward", "backward")

Facts = dict[str, Any]
Tensors = dict[str, Tensor]


def take(transport: Transport, networks: Mapping[str, nn.Module]) -> tuple[Facts, Tensors]:
    """Facts, and copies on the CPU of all tensors; networks: as ``Networks.known`` has them.

    Raises TypeError for a drift that no fit has made.
    """
    facts: Facts = {"networks": {}, "drifts": {}}
    tensors: Tensors = {}
    for name, net in networks.items():
        facts["networks"][name] = network_to_plain(net)
        tensors |= {f"net/{name}/{k}": _copy(v) for k, v in net.state_dict().items()}
    for way in WAYS:
        drift = transport.forward if way == "forward" else transport.backward
        facts["drifts"][way] = _facts_of(drift, way, networks)
        if isinstance(drift, AffineDrift):
            tensors[f"drift/{way}/matrices"] = _copy(drift.matrices)
            tensors[f"drift/{way}/shifts"] = _copy(drift.shifts)
    return facts, tensors


def load_networks(facts: Facts, tensors: Tensors, networks: Mapping[str, nn.Module]) -> None:
    """Put the weights into the networks, each of which is one of ``facts``.

    Raises CheckpointError for a network of another kind.
    """
    for name, theirs in facts["networks"].items():
        net = networks[name]
        own = json.loads(json.dumps(network_to_plain(net)))
        if theirs != own:
            raise CheckpointError(f"its network ({name}) is {_short(theirs)}, not {_short(own)}")
        try:
            prefix, known = f"net/{name}/", net.state_dict()
            # What is missing is the module's own matter.
            net.load_state_dict({k: tensors[prefix + k] for k in known if prefix + k in tensors})
        except (KeyError, RuntimeError) as error:
            text = " ".join(str(error).split())[:200]
            raise CheckpointError(f"its weights are not those of its network: {text}") from None


def put(
    transport: Transport, facts: Facts, tensors: Tensors, networks: Mapping[str, nn.Module]
) -> None:
    """Give the transport the drifts; networks: with the weights in them already."""
    like = transport.ends[0].like
    for way in WAYS:
        drift = facts["drifts"][way]
        found: Drift | None = None
        kind = None if drift is None else drift["kind"]
        if kind == "reference":
            assert transport.reference is not None
            found = ReferenceDrift(transport.reference)
        elif kind == "affine":
            A, c = (tensors[f"drift/{way}/{k}"].to(like.device) for k in ("matrices", "shifts"))
            found = AffineDrift(A, c, transport.grid, way)
        elif kind == "network":
            net = networks[drift["network"]].eval()
            found = NetworkDrift(net, transport.grid, way, drift["matching"], drift["row"])
        elif kind is not None:
            raise CheckpointError(f"its {way} drift is of kind {kind!r}")
        if way == "forward":
            transport.forward = found
        else:
            transport.backward = found


def _facts_of(
    drift: Drift | None, way: Direction, networks: Mapping[str, nn.Module]
) -> Facts | None:
    if drift is None:
        return None
    if isinstance(drift, ReferenceDrift):
        return {"kind": "reference"}
    if isinstance(drift, AffineDrift):
        return {"kind": "affine"}
    name = BOTH if BOTH in networks else way
    if isinstance(drift, NetworkDrift) and networks.get(name) is drift.net:
        fixed = {"matching": drift.matching, "row": drift.row}
        return {"kind": "network", "network": name, **fixed}
    raise TypeError(
        f"the {way} drift is {type(drift).__name__}, which no half-step has fitted: a checkpoint "
        "keeps drifts of this fit's networks, and affine ones"
    )


def _copy(value: Tensor) -> Tensor:
    return value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else text[:197] + "..."
