"""The data sets by name."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from sdekit_kernels.checks import check_choice

from sdekit.data.dataset import Dataset
from sdekit.data.digits import digits
from sdekit.data.folder import folder
from sdekit.data.letters import letters
from sdekit.data.mnist import mnist5k
from sdekit.data.plane_laws import (
    checkerboard,
    eight_gaussians,
    moons,
    pinwheel,
    s_curve,
    swiss_roll,
)

__all__ = ["DATASETS", "load"]

DATASETS: Final[dict[str, Callable[..., Dataset]]] = {
    "mnist5k": mnist5k,
    "digits": digits,
    "letters": letters,
    "moons": moons,
    "s_curve": s_curve,
    "swiss_roll": swiss_roll,
    "eight_gaussians": eight_gaussians,
    "pinwheel": pinwheel,
    "checkerboard": checkerboard,
}
"""What the command line offers, besides the path of a folder of images."""


def load(name_or_path: str | os.PathLike[str] | Mapping[str, Any], **options: Any) -> Dataset:
    """Return the data set of this name in ``DATASETS``, or the images of this folder.

    options: those of the function in the table or of ``folder``. A name goes before a folder of
    the same name: write ./name for the folder. The ``source`` of a ``Dataset`` is the arguments of
    ``folder``, which make it again. Raises ValueError that lists the names, and what
    the function raises.
    """
    if isinstance(name_or_path, Mapping):
        return folder(**{**name_or_path, **options})
    name = os.fspath(name_or_path)
    if name in DATASETS:
        return DATASETS[name](**options)
    if os.sep in name or Path(name).is_dir():
        return folder(name, **options)
    return DATASETS[check_choice("data set (nor is it a folder)", name, DATASETS)](**options)
