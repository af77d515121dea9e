"""Checkpoints: a safetensors file whose header says, in JSON, how to build the network again.

No pickle: reading a file from somebody else runs none of their code.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse
from safetensors.torch import save as serialize

from sdekit.likelihood import DataTransform
from sdekit.score import MLP
from sdekit.sde import AffineSDE
from sdekit.train.spec import sde_from_dict, sde_to_dict

FORMAT: Final = "sdekit.score"
VERSION: Final = 1
_KEY: Final = "sdekit"
_HEADER_LIMIT: Final = 100_000_000
"""safetensors' own limit on the length of a header, in bytes."""


class CheckpointError(ValueError):
    """A file that is no checkpoint of sdekit, or a damaged one."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A trained score model with all that sampling and scoring need.

    net: the network, (t, x) -> score. sde: the equation that it was trained for. transform: how
    integer data became x. info: plain values about the training (data, steps, seed ...).
    """

    net: MLP
    sde: AffineSDE
    transform: DataTransform
    info: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Write a checkpoint; an old file at ``path`` is replaced only by a whole new one.

    Raises TypeError for an equation that has no name (see ``sdekit.train.spec``), TypeError or
    ValueError for ``info`` that is no JSON, OSError, naming ``path``, if it cannot be written.
    """
    transform = checkpoint.transform
    header = {
        "format": FORMAT,
        "version": VERSION,
        "network": {"name": "MLP", **checkpoint.net.config()},
        "sde": sde_to_dict(checkpoint.sde),
        "transform": {
            "levels": transform.levels,
            "low": transform.low,
            "high": transform.high,
            "dequantize": transform.dequantize,
        },
        "info": checkpoint.info,
    }
    text = json.dumps(header, sort_keys=True, allow_nan=False)
    state = checkpoint.net.state_dict()
    tensors = {k: v.detach().cpu().contiguous() for k, v in state.items()}
    write_atomically(Path(path), serialize(tensors, metadata={_KEY: text}))


def load_checkpoint(
    path: str | os.PathLike[str], *, device: torch.device | str = "cpu"
) -> Checkpoint:
    """Read what ``save_checkpoint`` wrote; the network comes in evaluation mode.

    Raises FileNotFoundError, IsADirectoryError or PermissionError from the system, and
    CheckpointError that says in what way the file is not a checkpoint of sdekit.
    """
    data = Path(path).read_bytes()
    header = _read_header(path, data)
    try:
        tensors = parse(data)
    except (SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(
            f"{path} is damaged or cut short ({_one_line(error)}): make it again"
        ) from None
    try:
        sde = sde_from_dict(header["sde"])
        network = dict(header["network"])
        if network.pop("name") != "MLP":
            raise ValueError("its network is none that this version of sdekit knows")
        network["event_shape"] = tuple(network["event_shape"])
        dtype = next(iter(tensors.values())).dtype if tensors else torch.float32
        net = MLP(**network, sde=sde, dtype=dtype)
        net.load_state_dict(tensors)
        transform = DataTransform(**header["transform"])
        info = dict(header.get("info", {}))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} does not hold together: {_one_line(error)}") from None
    if not all(bool(torch.isfinite(p).all()) for p in net.parameters()):
        raise CheckpointError(f"{path} has weights that are NaN or infinite: train it again")
    return Checkpoint(net.to(device).eval().requires_grad_(False), sde, transform, info)


def write_atomically(path: Path, data: bytes) -> None:
    """Write the whole of ``data`` to ``path`` or leave what was there; raises OSError."""
    if path.is_dir():
        raise IsADirectoryError(21, "is a folder, not a file", str(path))
    try:
        _write_beside(path, data)
    except OSError as error:
        # It names the temporary file, or none: the user knows ``path``.
        raise OSError(error.errno, error.strerror, str(path)) from error


def _write_beside(path: Path, data: bytes) -> None:
    """``data`` into a temporary file in the same folder, which then takes the place of ``path``."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files that only their owner may read: give what a plain open would.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def _read_header(path: Any, data: bytes) -> dict[str, Any]:
    """Our JSON from the safetensors header: 8 bytes of its length, then that much JSON."""
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
            "sdekit train"
        )
    try:
        header = json.loads(text)
        kind, version = header["format"], header["version"]
    except (ValueError, RecursionError, KeyError, TypeError):
        raise CheckpointError(f"{path} has a header that sdekit cannot read") from None
    if kind != FORMAT or version != VERSION:
        raise CheckpointError(
            f"{path} is a checkpoint of kind {kind!r}, version {version!r}; this sdekit reads "
            f"{FORMAT!r}, version {VERSION}"
        )
    result: dict[str, Any] = header
    return result


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else text[:197] + "..."
