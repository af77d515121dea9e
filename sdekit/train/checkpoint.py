"""Checkpoints: a safetensors file whose header says, in JSON, how to build the network again.

No pickle: reading a file from somebody else runs none of their code.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse
from safetensors.torch import save as serialize
from torch import Tensor

from sdekit.files import write_atomically
from sdekit.likelihood import DataTransform
from sdekit.score import Preconditioned
from sdekit.sde import AffineSDE
from sdekit.train.spec import network_from_dict, network_to_dict, sde_from_dict, sde_to_dict

FORMAT: Final = "sdekit.score"
VERSION: Final = 1
MODEL: Final = "model.safetensors"
"""The name of the model in the folder of a training."""
_KEY: Final = "sdekit"
_MAKERS: Final = {FORMAT: "sdekit train", "sdekit.bridge": "sdekit.bridge.save"}
_HEADER_LIMIT: Final = 100_000_000
"""safetensors' own limit on the length of a header, in bytes."""


class CheckpointError(ValueError):
    """A file that is no checkpoint of sdekit, or a damaged one."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A trained score model with all that sampling and scoring need.

    net: the network, (t, x) -> score. sde: the equation that it was trained for. transform: how
    integer data became x; None for data that are x themselves. info: plain values about the
    training (data, steps, seed ...).
    """

    net: Preconditioned
    sde: AffineSDE
    transform: DataTransform | None = None
    info: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Write a checkpoint; an old file at ``path`` is replaced only by a whole new one.

    Raises TypeError for an equation or a network without a name in ``sdekit.train.spec``,
    ValueError for a network that was made for another equation, TypeError or ValueError for
    ``info`` that is no JSON, OSError, naming ``path``, if it cannot be written.
    """
    header = {
        "format": FORMAT,
        "version": VERSION,
        "network": network_to_dict(checkpoint.net),
        "sde": sde_to_dict(checkpoint.sde),
        "transform": transform_to_dict(checkpoint.transform),
        "info": checkpoint.info,
    }
    check_same_sde(checkpoint.net, checkpoint.sde)
    write_with_header(path, header, checkpoint.net.state_dict())


def write_with_header(
    path: str | os.PathLike[str], header: Mapping[str, Any], state: Mapping[str, Tensor]
) -> None:
    """A safetensors file with our JSON in its header, whole or not at all; raises OSError."""
    text = json.dumps(header, sort_keys=True, allow_nan=False)
    tensors = {k: v.detach().cpu().contiguous() for k, v in state.items()}
    write_atomically(Path(path), serialize(tensors, metadata={_KEY: text}))


def load_checkpoint(
    path: str | os.PathLike[str], *, device: torch.device | str = "cpu"
) -> Checkpoint:
    """Read what ``save_checkpoint`` wrote, or the model in the folder of a training so far.

    The network comes in evaluation mode.

    Raises FileNotFoundError or PermissionError from the system, CheckpointError that says in what
    way the file is not a checkpoint of sdekit, or that a folder has none, and ModuleNotFoundError,
    with what to install, for a network that another package makes.
    """
    if Path(path).is_dir():
        path = Path(path) / MODEL
        if not path.exists():
            raise CheckpointError(
                f"no model was saved in {path.parent} yet: there is no {MODEL}, which sdekit train "
                "writes after its first steps"
            )
    data = Path(path).read_bytes()
    header = read_header(path, data)
    try:
        tensors = parse(data)
    except (SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(
            f"{path} is damaged or cut short ({_one_line(error)}): make it again"
        ) from None
    try:
        sde = sde_from_dict(header["sde"])
        dtype = next(iter(tensors.values())).dtype if tensors else torch.float32
        net = network_from_dict(header["network"], sde=sde, dtype=dtype)
        net.load_state_dict(tensors)
        given = header["transform"]
        transform = None if given is None else DataTransform(**given)
        info = dict(header.get("info", {}))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} does not hold together: {_one_line(error)}") from None
    if not all(bool(torch.isfinite(p).all()) for p in net.parameters()):
        raise CheckpointError(f"{path} has weights that are NaN or infinite: train it again")
    return Checkpoint(net.to(device).eval().requires_grad_(False), sde, transform, info)


def check_same_sde(net: Preconditioned, sde: AffineSDE) -> None:
    """Raises ValueError unless the network was made for ``sde``.

    It is scaled by its own equation's alpha(t) and sigma(t): a checkpoint, which keeps one
    equation, would build another network around the same weights.
    """
    own, other = sde_to_dict(net.sde), sde_to_dict(sde)
    if own != other:
        raise ValueError(
            f"the network was made for another equation, {_short(own)} instead of {_short(other)}: "
            f"write {type(net).__name__}(..., sde=sde) with the sde that it is trained for"
        )


def transform_to_dict(transform: DataTransform | None) -> dict[str, Any] | None:
    """What ``DataTransform(**values)`` needs: plain values."""
    if transform is None:
        return None
    return {
        "levels": transform.levels,
        "low": transform.low,
        "high": transform.high,
        "dequantize": transform.dequantize,
    }


def read_header(path: Any, data: bytes, form: str = FORMAT) -> dict[str, Any]:
    """Our JSON from the safetensors header: 8 bytes of its length, then that much JSON.

    Raises CheckpointError for what has none, or is not of the kind ``form``.
    """
    length = int.from_bytes(data[:8], "little")
    raw = data[8 : 8 + length]
    if len(data) < 9 or length > _HEADER_LIMIT or not raw.startswith(b"{"):
        raise CheckpointError(f"{path} is not a safetensors file")
    if len(raw) < length:
        raise CheckpointError(f"{path} is cut short within its header: make it again")
    try:
        outer = json.loads(raw)
    except (ValueError, RecursionError):
        raise CheckpointError(f"{path} is not a safetensors file: its header is no JSON") from None
    metadata = outer.get("__metadata__")
    text = metadata.get(_KEY) if isinstance(metadata, dict) else None
    if text is None:
        raise CheckpointError(
            f"{path} is a safetensors file, but not a checkpoint of sdekit: make one with "
            f"{_MAKERS.get(form, 'sdekit')}"
        )
    try:
        header = json.loads(text)
        kind, version = header["format"], header["version"]
    except (ValueError, RecursionError, KeyError, TypeError):
        raise CheckpointError(f"{path} has a header that sdekit cannot read") from None
    if kind != form or version != VERSION:
        raise CheckpointError(
            f"{path} is a checkpoint of kind {kind!r}, version {version!r}; this sdekit reads "
            f"{form!r}, version {VERSION}"
        )
    result: dict[str, Any] = header
    return result


def _short(spec: dict[str, Any]) -> str:
    """A name and the numbers; how many of them, where there are many."""
    told = {k: f"[{len(v)} numbers]" if isinstance(v, list) else v for k, v in spec.items()}
    return f"{told.pop('name')}({', '.join(f'{k}={v}' for k, v in told.items())})"


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else text[:197] + "..."
