"""Draws through the probability flow by an adaptive solver: as many steps as a tolerance needs."""

from __future__ import annotations

from typing import Any

import torch
from sdekit_kernels.dispatch import resolve_backend
from torch import Tensor

from sdekit.sample.draws import check_draws
from sdekit.sample.flow_map import flow_map
from sdekit.sample.info import Recorder
from sdekit.sample.start import Score, check_score, check_shape, evaluate
from sdekit.sde import AffineSDE

__all__ = ["flow_sample"]


def flow_sample(
    sde: AffineSDE,
    score: Score,
    shape: Any,
    *,
    seed: Any = 0,
    first_sample: int = 0,
    samples: Any = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    backend: str = "auto",
    return_info: bool = False,
    t_min: float | None = None,
    rtol: float = 1e-4,
    atol: float = 1e-4,
    denoise: bool = True,
) -> Any:
    r"""Draws samples of the data, (B, D...): the flow from the prior at T to t_min, then Tweedie.

    dx/dt = a(t) (x - offset) - g(t)^2 / 2 s(t, x) (Song et al. 2021, section 4.3), each sample with
    its own steps, see ``sdekit.sample.flow_map``; with ``denoise`` the mean of the data given the
    state at t_min ends it.

    Args:
        score: (t, x) -> score with t (m,) for the m samples that are still on their way.
        t_min: ``sde.t_min`` if None.
        rtol, atol: tolerances of a step.
        seed, first_sample, samples, dtype, device, backend, return_info: as for ``sample``;
            ``SampleInfo.nfe`` counts calls of the score, on fewer and fewer samples.

    Raises TypeError, ValueError: as ``sample``; ArithmeticError if a sample does not arrive.
    """
    if not isinstance(sde, AffineSDE):
        raise TypeError(f"flow_sample needs an AffineSDE, got {type(sde).__name__}")
    check_score(score)
    size = check_shape(shape)
    draws = check_draws(seed, first_sample, samples, size[0])
    like = {
        "dtype": torch.float32 if dtype is None else dtype,
        "device": "cpu" if device is None else device,
        "backend": backend,
    }
    calls = 0

    def counted(t: Tensor, x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return evaluate(score, t, x)

    x = draws.prior(sde, size, **like)
    end = float(sde.t_min if t_min is None else t_min)
    recorder = Recorder(x, sde.T, 1, 0)
    x = flow_map(sde, counted, x, sde.T, end, rtol=rtol, atol=atol, backend=backend)
    if denoise and end > 0.0 and len(x):
        with torch.no_grad():
            t = torch.tensor(end, dtype=torch.float64, device=x.device).to(x.dtype)
            x = sde.tweedie(t, x, counted(t, x))
    recorder.after(0, end, x)
    info = recorder.info(calls, resolve_backend(backend, x.device), "adaptive steps")
    return (x, info) if return_info else x
