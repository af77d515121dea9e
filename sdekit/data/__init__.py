"""Data sets that need no download: digits, letters, laws of the plane, any folder, any tensor."""

from sdekit.data.dataset import Dataset
from sdekit.data.digits import digits, noise_images
from sdekit.data.folder import folder
from sdekit.data.jitter import Jitter
from sdekit.data.letters import letters
from sdekit.data.mnist import mnist5k
from sdekit.data.plane import Plane
from sdekit.data.plane_laws import (
    checkerboard,
    eight_gaussians,
    moons,
    pinwheel,
    s_curve,
    swiss_roll,
)
from sdekit.data.split import permutation
from sdekit.data.table import DATASETS, load
from sdekit.data.tensor import tensor

__all__ = [
    "DATASETS",
    "Dataset",
    "Jitter",
    "Plane",
    "checkerboard",
    "digits",
    "eight_gaussians",
    "folder",
    "letters",
    "load",
    "mnist5k",
    "moons",
    "noise_images",
    "permutation",
    "pinwheel",
    "s_curve",
    "swiss_roll",
    "tensor",
]
