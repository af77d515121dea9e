"""A folder that ``pipeline.save_pretrained`` wrote, as (sde, score)."""

from __future__ import annotations

import json
from os import PathLike
from pathlib import Path
from typing import Any, Final

import torch

from sdekit.compat.diffusers.network import DiffusersScore, from_diffusers
from sdekit.sde import AffineSDE

__all__ = ["load_pipeline"]

_NETWORKS: Final = ("unet", "transformer")


def load_pipeline(
    folder: str | PathLike[str],
    *,
    labels: Any = None,
    clip: Any = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> tuple[AffineSDE, DiffusersScore]:
    """(sde, score) of a diffusers pipeline on disk; nothing is downloaded.

    Its model_index.json names a ``unet`` or ``transformer`` and a ``scheduler``, each in a folder
    of that name. labels, clip: see ``from_diffusers``. The network comes in evaluation mode, its
    weights without gradients.
    Raises FileNotFoundError for a file that is missing, ValueError for a folder that is no
    pipeline, ModuleNotFoundError, with what to install, without diffusers.
    """
    try:
        import diffusers
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "a pipeline's network is built by diffusers, which is not installed: write pip install "
            '"sdekit[images]"'
        ) from error
    root = Path(folder)
    index_file = root / "model_index.json"
    if not index_file.is_file():
        raise FileNotFoundError(
            2, "no pipeline of diffusers: it has no model_index.json", str(index_file)
        )
    try:
        index = json.loads(index_file.read_text())
        parts = {name: index[name][1] for name in (*_NETWORKS, "scheduler") if index.get(name)}
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(f"{index_file} is no index of a pipeline: {error}") from None
    names = [name for name in _NETWORKS if name in parts]
    if len(names) != 1 or "scheduler" not in parts:
        raise ValueError(
            f"{index_file} must name one network ({' or '.join(_NETWORKS)}) and a scheduler, it "
            f"has {', '.join(parts) or 'neither'}"
        )
    kind = getattr(diffusers, parts[names[0]], None)
    if kind is None:
        raise ValueError(f"{index_file} names the network {parts[names[0]]!r}: no such model")
    try:
        network = kind.from_pretrained(
            root / names[0], local_files_only=True, torch_dtype=dtype, low_cpu_mem_usage=False
        )
    except OSError as error:
        raise FileNotFoundError(2, " ".join(str(error).split()), str(root / names[0])) from None
    network = network.to(device).eval().requires_grad_(False)
    return from_diffusers(network, root / "scheduler", labels=labels, clip=clip)
