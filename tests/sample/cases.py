"""The equations of ``published.LAWS`` as the library names them, and Gaussian data for them."""

from __future__ import annotations

import numpy as np

from sdekit.sde import OU, VE, VP, AffineSDE, Brownian, SubVP
from tests.sample.published import LAWS, Law, ou

SDES: dict[str, AffineSDE] = {
    "vp": VP(),
    "vp_cosine": VP("cosine"),
    "subvp": SubVP(),
    "ve": VE(),
    "ve_edm": VE("edm"),
    "ou": OU(1.3, 0.7, 0.9),
    "brownian": Brownian(1.7),
}
PREDICTORS = (
    "euler_maruyama",
    "reverse_diffusion",
    "ancestral",
    "probability_flow",
    "ddpm",
    "ddim",
    "none",
)
THETA, MU, SIGMA = [0.5, -0.3, 1.1, 2.0, 0.9], [0.7, 0.1, 0.0, -1.0, 2.0], [0.9, 1.2, 0.5, 1.0, 2.0]


def case(name: str, d: int) -> tuple[AffineSDE, Law, np.ndarray, np.ndarray]:
    """The SDE, its law written again, and the data's mean and std (D,)."""
    mean, std = np.linspace(0.4, -1.5, d), np.linspace(0.6, 1.2, d)
    if name == "ou_components":
        given = [np.array(v[:d]) for v in (THETA, MU, SIGMA)]
        return OU(*given), ou(*given), mean, std
    return SDES[name], LAWS[name], mean, std


def uniform(law: Law, n: int) -> np.ndarray:
    """t_0 = T to t_n = t_min in equal steps."""
    return law.T + np.arange(n + 1) / n * (law.t_min - law.T)
