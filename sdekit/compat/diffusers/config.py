r"""A diffusers scheduler's configuration, read as an equation and what its network predicts.

Three families: chains of betas (DDPM, DDIM, PNDM, DPM-Solver, Euler, UniPC ...), which are
``DDPM(betas).sde``; the variance-exploding chain of Song et al. 2021 (``ScoreSdeVeScheduler``),
sigma(t) = sigma_min (sigma_max / sigma_min)^t; that of Karras et al. 2022 (``EDM...Scheduler``),
sigma(t) = t.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from sdekit.sde import DDPM, VE, AffineSDE

__all__ = ["PREDICTIONS", "Kind", "betas_of", "read_config", "read_scheduler"]

PREDICTIONS: Final = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
"""diffusers' names of what a network predicts, and ours."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a configuration says.

    sde: the equation. chain: the betas as a ``DDPM``, None for VE. family: "chain", "score_ve" or
    "edm". predicts: "eps", "x0" or "v"; "score" for the family "score_ve". sigma_data: of "edm".
    clip: the range x_0 is held in by the scheduler, None for none. variance: the scheduler's
    ``variance_type``, or None.
    """

    sde: AffineSDE
    chain: DDPM | None
    family: str
    predicts: str
    sigma_data: float = 1.0
    clip: float | None = None
    variance: str | None = None


def read_scheduler(scheduler: Any) -> Kind:
    """The meaning of a scheduler, its configuration, or a scheduler_config.json.

    Raises TypeError for what is none of these, ValueError for a kind of scheduler, a schedule or a
    prediction type that has no counterpart here, naming it.
    """
    config = read_config(scheduler)
    name = str(config.get("_class_name", type(scheduler).__name__))
    if "sampling_eps" in config and "sigma_max" in config:
        sde = VE("geometric", sigma_min=config["sigma_min"], sigma_max=config["sigma_max"])
        return Kind(sde, None, "score_ve", "score")
    predicts = _prediction(config, name)
    if "sigma_data" in config and "sigma_max" in config:
        if predicts == "x0":
            raise ValueError(
                f"{name} predicts {config['prediction_type']!r}: epsilon or v are known"
            )
        sde = VE("edm", sigma_min=config["sigma_min"], sigma_max=config["sigma_max"])
        return Kind(sde, None, "edm", predicts, sigma_data=float(config["sigma_data"]))
    if "beta_schedule" not in config:
        raise ValueError(
            f"{name} has neither betas nor sigmas in its configuration: schedulers of chains of "
            "betas (DDPM, DDIM, ...), ScoreSdeVe and EDM are known"
        )
    chain = DDPM(betas_of(config))
    clip = float(config.get("clip_sample_range", 1.0)) if config.get("clip_sample") else None
    return Kind(
        chain.sde, chain, "chain", predicts, clip=clip, variance=config.get("variance_type")
    )


def read_config(scheduler: Any) -> dict[str, Any]:
    """The configuration as a dictionary; raises TypeError or ValueError."""
    given = getattr(scheduler, "config", scheduler)
    if isinstance(given, Mapping):
        return dict(given)
    if isinstance(given, str | Path):
        path = Path(given)
        path = path / "scheduler_config.json" if path.is_dir() else path
        try:
            read = json.loads(path.read_text())
        except (ValueError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is no JSON: {error}") from None
        if not isinstance(read, dict):
            raise ValueError(f"{path} holds no configuration, but a {type(read).__name__}")
        return read
    raise TypeError(
        "scheduler must be a scheduler of diffusers, its configuration or the path of one, got "
        f"{type(scheduler).__name__}"
    )


def betas_of(config: Mapping[str, Any]) -> Tensor:
    """The betas (N,) of a configuration, float64.

    Raises ValueError for an unknown schedule, or one that ends in zero signal.
    """
    n = int(config.get("num_train_timesteps", 1000))
    low, high = float(config.get("beta_start", 1e-4)), float(config.get("beta_end", 0.02))
    kind = config["beta_schedule"]
    if config.get("rescale_betas_zero_snr"):
        raise ValueError(
            "rescale_betas_zero_snr leaves no signal at the last level: the score there does not "
            "determine x_0, and no equation with finite coefficients has that law"
        )
    if config.get("trained_betas") is not None:
        return torch.as_tensor(config["trained_betas"], dtype=torch.float64)
    if kind == "linear":
        return DDPM.linear(n, low, high).betas
    if kind == "scaled_linear":
        return DDPM.scaled_linear(n, low, high).betas
    if kind == "squaredcos_cap_v2":
        return DDPM.cosine(n).betas
    if kind == "sigmoid":
        ramp = torch.sigmoid(torch.linspace(-6.0, 6.0, n, dtype=torch.float64))
        return low + ramp * (high - low)
    raise ValueError(
        f"beta_schedule {kind!r} is unknown: linear, scaled_linear, squaredcos_cap_v2 and sigmoid "
        "are known, or write the betas into trained_betas"
    )


def _prediction(config: Mapping[str, Any], name: str) -> str:
    """Our name of what the network predicts."""
    given = config.get("prediction_type", "epsilon")
    if given not in PREDICTIONS:
        raise ValueError(
            f"{name} has the prediction type {given!r}, which is unknown: "
            f"{', '.join(PREDICTIONS)} are known"
        )
    return PREDICTIONS[given]
