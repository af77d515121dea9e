"""DDPM with a learned variance of each step (Nichol & Dhariwal 2021), on any subset of levels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from sdekit_kernels import predictor_step
from sdekit_kernels.dispatch import compute_dtype, resolve_backend
from torch import Tensor

from sdekit.noise import keys
from sdekit.sample.draws import check_draws
from sdekit.sample.info import Recorder
from sdekit.sample.plan import first_state, make_grid
from sdekit.sample.predictors import ddpm
from sdekit.sample.start import (
    as_times,
    check_path_points,
    check_shape,
    progress_bar,
    rows,
)
from sdekit.sde import AffineSDE, check_output, expand
from sdekit.sde.parameters import at, shifted

__all__ = ["ddpm_learned"]

EpsAndVariance = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def ddpm_learned(
    sde: AffineSDE,
    model: EpsAndVariance,
    shape: Any,
    *,
    steps: int | None = None,
    t_min: float | None = None,
    times: Any = None,
    x_init: Tensor | None = None,
    denoise: bool = True,
    seed: Any = 0,
    first_sample: int = 0,
    samples: Any = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    backend: str = "auto",
    progress: bool = False,
    return_info: bool = False,
    path_points: int = 0,
) -> Any:
    r"""Draws samples by DDPM's steps whose variance the model chooses, shape (B, D...).

    The predictor "ddpm" with s = -eps / sigma(t) and, in each component, the noise c z of

        log c^2 = v log(large) + (1 - v) log(small)

    between the two fixed variances of ``sdekit.sample.predictors.ddpm`` (Nichol & Dhariwal 2021,
    arXiv 2102.09672, eq. 15): v = 0 and v = 1 are these, bit for bit. The jump to t = 0 adds none.

    Args:
        model: (t, x) -> (eps, v), both of x's shape, t 0-d. A network that gives 2 C channels with
            v in [-1, 1], as the published one does: ``eps, w = net(t, x).chunk(2, 1)``, v = (w + 1)
            / 2.
        steps, t_min, times: the grid, as for ``sample``; ``chain_times(chain, 50)`` for a chain's.
        all others: as for ``sdekit.sample.sample``.

    Returns x (B, D...); with ``return_info`` (x, SampleInfo). Raises as ``sample``; TypeError also
    for a model that does not return two tensors.
    """
    if not isinstance(sde, AffineSDE):
        raise TypeError(f"ddpm_learned needs an AffineSDE, got {type(sde).__name__}")
    if not callable(model):
        raise TypeError(f"model must be callable as model(t, x), got {type(model).__name__}")
    size = check_shape(shape)
    grid = make_grid(sde, steps, t_min, times)
    n, host_t = len(grid) - 1, grid.tolist()
    path_points = check_path_points(path_points, n, return_info)
    draws = check_draws(seed, first_sample, samples, size[0])
    with torch.no_grad():
        x = first_state(sde, grid, draws, size, x_init, dtype, device, backend)
        choice = resolve_backend(backend, x.device)
        recorder = Recorder(x, host_t[0], n, path_points) if return_info else None
        t = as_times(grid, x)
        start, end = grid[:-1], grid[1:]
        a, b, small = (rows(v, n, x) for v in ddpm(sde, start, end))
        large = rows(ddpm(sde, start, end, variance="fixed_large")[2], n, x)
        # In x's own type, as ``from_eps`` has it: the same bits as with that score.
        std = [expand(sde.std(now), x) for now in t[:-1]]
        offset = at(sde.offset, x)
        y = sde.centered(x)
        for i in progress_bar(range(n if size[0] else 0), progress):
            eps, v = _outputs(model, t[i], shifted(y, offset))
            y_next, y_mean = draws.step(
                predictor_step,
                y,
                -eps / std[i],
                a[i],
                b[i],
                _between(small[i], large[i], v),
                stream=keys.PATH,
                step=i,
                want_mean=denoise and i == n - 1,
                backend=backend,
            )
            y = y_next if y_mean is None else y_mean
            if recorder is not None:
                recorder.after(i, host_t[i + 1], shifted(y, offset))
        x = shifted(y, offset)
    return (
        x if recorder is None else (x, recorder.info(n if size[0] else 0, choice, "step by step"))
    )


def _between(small: Tensor, large: Tensor, v: Tensor) -> Tensor:
    """small^{1 - v} large^v, from the nearer end: exact at v = 0 and at v = 1.

    In float64: the last bit of a vectorized power may depend on the place in the batch.
    """
    low, high, share = small.double(), large.double(), v.double()
    ratio = torch.where(low > 0.0, high / torch.where(low > 0.0, low, 1.0), 1.0)
    near = share <= 0.5
    power = torch.pow(ratio, torch.where(near, share, share - 1.0))
    return (torch.where(near, low, high) * power).to(compute_dtype(v.dtype))


def _outputs(model: EpsAndVariance, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """(eps, v), both of x's shape; raises TypeError or ValueError otherwise."""
    out = model(t, x)
    if not isinstance(out, tuple | list) or len(out) != 2:
        raise TypeError(
            f"model must return (eps, v), got {type(out).__name__}: a network of 2 C channels "
            "gives them by net(t, x).chunk(2, 1)"
        )
    return check_output("eps of the model", out[0], x), check_output("v of the model", out[1], x)
