r"""A diffusers scheduler's configuration, read as an equation and what its network predicts.

Three families: chains of betas (DDPM, DDIM, PNDM, DPM-Solver, Euler, UniPC ...), which are
``DDPM(betas).sde``; the variance-exploding chain of Song et al. 2021 (``ScoreSdeVeScheduler``),
sigma(t) = sigma_min (sigma_max / sigma_min)^t; that of Karras et al. 2022 (``EDM...Scheduler``),
sigma(t) = t. A scheduler is known by its class: others share keys with these and feed their
networks other times (consistency models, CosineDPMSolver, flow matching), or have networks that are
no scores (LCM, TCD).
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

__all__ = ["PREDICTIONS", "Kind", "betas_of", "check_chain", "read_config", "read_scheduler"]

PREDICTIONS: Final = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
"""diffusers' names of what a network predicts, and ours."""


CHAINS: Final = frozenset(
    f"{name}Scheduler"
    for name in (
        *("CogVideoXDDIM", "CogVideoXDPM", "DDIM", "DDIMInverse", "DDIMParallel", "DDPM"),
        *("DDPMParallel", "DEISMultistep", "DPMSolverMultistep", "DPMSolverMultistepInverse"),
        *("DPMSolverSDE", "DPMSolverSinglestep", "EulerAncestralDiscrete", "EulerDiscrete"),
        *("HeunDiscrete", "KDPM2AncestralDiscrete", "KDPM2Discrete", "LMSDiscrete", "PNDM"),
        *("RePaint", "SASolver", "Sdekit", "UnCLIP", "UniPCMultistep"),
    )
)
"""Classes whose networks are fed levels of a chain of betas, counted from 0."""
EDM: Final = frozenset({"EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"})
"""Classes whose networks are preconditioned as in Karras et al. 2022, table 1."""
SCORE_VE: Final = frozenset({"ScoreSdeVeScheduler"})


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

    Raises TypeError for what is none of these, ValueError for a kind of scheduler, a schedule, a
    time or a prediction type that has no counterpart here, naming it. A configuration that does not
    name its class is taken for a chain's, or refused.
    """
    config = read_config(scheduler)
    classes = _classes(scheduler, config)
    name = classes[0] if classes else "the configuration"
    if classes and not (CHAINS | EDM | SCORE_VE).intersection(classes):
        raise ValueError(
            f"{name} is none of the schedulers that are known, {', '.join(sorted(CHAINS))}, "
            f"{', '.join(sorted(EDM | SCORE_VE))}: another one may feed its network other times, "
            "or one that is no score. If it has a chain of betas and whole levels from 0, give "
            "diffusers.DDPMScheduler(trained_betas=betas, prediction_type=...)"
        )
    if SCORE_VE.intersection(classes):
        sde = VE("geometric", sigma_min=config["sigma_min"], sigma_max=config["sigma_max"])
        return Kind(sde, None, "score_ve", "score")
    predicts = _prediction(config, name)
    if EDM.intersection(classes):
        if predicts == "x0":
            raise ValueError(
                f"{name} predicts {config['prediction_type']!r}: epsilon or v are known"
            )
        sde = VE("edm", sigma_min=config["sigma_min"], sigma_max=config["sigma_max"])
        return Kind(sde, None, "edm", predicts, sigma_data=float(config["sigma_data"]))
    check_chain(config, name)
    chain = DDPM(betas_of(config))
    # Thresholding, where it is set, is done instead of clipping.
    held = config.get("clip_sample") and not config.get("thresholding")
    clip = float(config.get("clip_sample_range", 1.0)) if held else None
    return Kind(
        chain.sde, chain, "chain", predicts, clip=clip, variance=config.get("variance_type")
    )


def check_chain(config: Mapping[str, Any], name: str) -> None:
    """Raises ValueError unless the configuration is that of a chain with levels as times."""
    if "beta_schedule" not in config:
        raise ValueError(
            f"{name} has no betas, but {', '.join(k for k in config if k[0] != '_') or 'nothing'}: "
            "schedulers of other kinds are known by their class, so give the scheduler itself, or "
            "a configuration with its _class_name"
        )
    if config.get("timestep_type", "discrete") != "discrete":
        raise ValueError(
            f"{name} has timestep_type={config['timestep_type']!r}: its network is fed "
            "log(sigma) / 4, which is not known here; discrete levels are"
        )
    if config.get("use_flow_sigmas"):
        raise ValueError(
            f"{name} has use_flow_sigmas=True: its network belongs to the path of flow matching, "
            "not to a chain of betas"
        )
    if "timestep_scaling" in config:
        raise ValueError(
            f"{name} has timestep_scaling, as LCM and TCD: their network is a consistency model, "
            "not a score"
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
    if (shift := float(config.get("snr_shift_scale", 1.0))) != 1.0:
        return _shifted(betas_of({**config, "snr_shift_scale": 1.0}), shift)
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


def _shifted(betas: Tensor, shift: float) -> Tensor:
    """The betas of the chain whose signal-to-noise ratio is 1 / shift of this one's."""
    signal = torch.cat([betas.new_ones(1), (1.0 - betas).cumprod(0)])
    signal = signal / (shift + (1.0 - shift) * signal)
    return 1.0 - signal[1:] / signal[:-1]


def _classes(scheduler: Any, config: Mapping[str, Any]) -> tuple[str, ...]:
    """The scheduler's class and those above it; for a configuration the one it names, if any."""
    if isinstance(scheduler, Mapping | str | Path):
        named = config.get("_class_name")
        return () if named is None else (str(named),)
    return tuple(kind.__name__ for kind in type(scheduler).__mro__)


def _prediction(config: Mapping[str, Any], name: str) -> str:
    """Our name of what the network predicts."""
    given = config.get("prediction_type", "epsilon")
    if given not in PREDICTIONS:
        raise ValueError(
            f"{name} has the prediction type {given!r}, which is unknown: "
            f"{', '.join(PREDICTIONS)} are known"
        )
    return PREDICTIONS[given]
