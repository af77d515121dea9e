r"""What a chain knows of the data on its way: progressive generation, and lossy reconstruction.

Ho, Jain & Abbeel 2020 (arXiv 2006.11239), section 4.3: from x_k the data are guessed as

    x0_hat = (x_k - s_k eps_hat(x_k, k)) / a_k,    a_k = sqrt(abar_k), s_k = sqrt(1 - abar_k),

while samples are made (eq. 15, figure 6), or from data that were sent up to level k (figure 7).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sdekit_kernels
import torch
from sdekit_kernels.checks import check_choice, check_float_tensor, check_int_range
from torch import Tensor

from sdekit.noise import keys
from sdekit.sample.predictors import PREDICTORS
from sdekit.sample.sample import sample
from sdekit.sde import DDPM, check_output

__all__ = ["Lossy", "Progressive", "lossy", "progressive"]

EpsModel = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Progressive:
    """levels: (K,) int64, falling. noisy, x0_hat: (K, B, D...), x_k and the guess from it there.

    sample: (B, D...), what came out.
    """

    levels: Tensor
    noisy: Tensor
    x0_hat: Tensor
    sample: Tensor


@dataclass(frozen=True, slots=True)
class Lossy:
    """levels: (K,) int64. noisy, x0_hat: (K, B, D...), x_k of the data and the guess from it.

    samples: (K, B, copies, D...), what the chain makes from x_k, with new noise for each copy.
    """

    levels: Tensor
    noisy: Tensor
    x0_hat: Tensor
    samples: Tensor


def progressive(
    process: DDPM,
    eps_model: EpsModel,
    shape: Any,
    *,
    levels: Any = 10,
    steps: int | None = None,
    predictor: str = "ancestral",
    **options: Any,
) -> Progressive:
    """Draws samples and keeps x0_hat at some levels; no evaluation of the network beyond the run's.

    Args:
        eps_model: (t, x) -> eps_hat of x's shape, t (B,) = k / N in the dtype of the state.
        shape: (B, D...). levels: a number of levels evenly spaced from N to the last one visited,
            or the levels themselves.
        steps: how many of the N levels are visited, evenly spaced; all if None.
        predictor, options (seed, dtype, variance...): as for ``sdekit.sample.sample``, which makes
            the run step by step; without a corrector.

    Raises TypeError for a process that is no DDPM; ValueError for levels that are not visited; and
    as ``sample``.
    """
    path = _descent(_check(process), process.steps, steps)
    visited = path[:-1]
    if isinstance(levels, int) and not isinstance(levels, bool):
        count = min(check_int_range("levels", levels, 1, 1 << 31), len(visited))
        marks = torch.linspace(0, len(visited) - 1, count, dtype=torch.float64)
        wanted = visited[marks.round().long()]
    else:
        wanted = _levels(process, levels)
        missing = [k for k in wanted.tolist() if k not in set(visited.tolist())]
        if missing:
            raise ValueError(
                f"levels {missing} are not visited with steps={steps}: leave steps away, which "
                "visits all, or ask for a number of levels"
            )
    watch = _Watch(process, eps_model, set(wanted.tolist()))
    x = _run(process, watch, shape, path, predictor, options)
    order = sorted(watch.seen, reverse=True)
    seen = [watch.seen[k] for k in order]
    empty = x.new_empty(0, *x.shape)
    return Progressive(
        levels=torch.tensor(order, dtype=torch.int64),
        noisy=torch.stack([noisy for noisy, _ in seen]) if seen else empty,
        x0_hat=torch.stack([guess for _, guess in seen]) if seen else empty,
        sample=x,
    )


@torch.no_grad()
def lossy(
    process: DDPM,
    eps_model: EpsModel,
    x0: Tensor,
    *,
    levels: Any,
    copies: int = 1,
    steps: int | None = None,
    predictor: str = "ancestral",
    seed: int = 0,
    first_sample: int = 0,
    **options: Any,
) -> Lossy:
    """Data sent up to level k, for each of ``levels``, and what the chain makes of them from there.

    x_k = a_k x_0 + s_k z is drawn once for each sample and level, the way back ``copies`` times.

    Args:
        eps_model: as for ``progressive``. x0: (B, D...), floating point. levels: integers in 1..N.
        steps: how many steps lead from level k to the data, at most; k if None.
        predictor, options: as for ``sdekit.sample.sample``.
        seed, first_sample: name the noise, stream START at step k for z, PATH for the way back:
            copy c of sample i is sample copies (first_sample + i) + c there, for all levels alike.

    Raises TypeError or ValueError for arguments out of their range, and as ``sample``.
    """
    x0 = check_float_tensor("x0", x0)
    if x0.ndim < 2:
        raise ValueError(f"x0 must have the shape (B, D...), got {tuple(x0.shape)}")
    wanted = _levels(_check(process), levels)
    copies = check_int_range("copies", copies, 1, 1 << 31)
    first = check_int_range("first_sample", first_sample, 0, (1 << 62) // copies)
    noisy, guesses, samples = [], [], []
    for k in wanted.tolist():
        z = sdekit_kernels.normal(
            tuple(x0.shape),
            seed=seed,
            stream=keys.START,
            step=k,
            first_sample=first,
            dtype=x0.dtype,
            device=x0.device,
        )
        mean, std = (float(v) for v in process.coefficients(k))
        start = mean * x0 + std * z
        watch = _Watch(process, eps_model, {k})
        many = start.repeat_interleave(copies, 0)
        named = {"seed": seed, "first_sample": first * copies, "x_init": many, **options}
        path = _descent(process, k, steps)
        x = _run(process, watch, tuple(many.shape), path, predictor, named)
        noisy.append(start)
        guesses.append(watch.seen[k][1][::copies] if len(x0) else start)
        samples.append(x.view(len(x0), copies, *x0.shape[1:]))
    return Lossy(wanted, torch.stack(noisy), torch.stack(guesses), torch.stack(samples))


class _Watch:
    """The score of an eps model, which remembers x_k and x0_hat at the wanted levels."""

    def __init__(self, process: DDPM, eps_model: EpsModel, wanted: set[int]) -> None:
        if not callable(eps_model):
            raise TypeError(
                f"eps_model must be callable as eps_model(t, x), got {type(eps_model).__name__}"
            )
        self.process, self.eps_model, self.wanted = process, eps_model, wanted
        self.seen: dict[int, tuple[Tensor, Tensor]] = {}
        # Levels in the order of the run, so that no time is read back from the device.
        self.path: list[int] = []

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        k = self.path.pop(0)
        mean, std = (float(v) for v in self.process.coefficients(k))
        eps = check_output("eps_model", self.eps_model(t.expand(len(x)), x), x)
        if k in self.wanted:
            self.seen[k] = (x.clone(), (x - std * eps) / mean)
        return -eps / std


def _run(
    process: DDPM,
    watch: _Watch,
    shape: Any,
    path: Tensor,
    predictor: str,
    options: dict[str, Any],
) -> Tensor:
    check_choice("predictor", predictor, [k for k, v in PREDICTORS.items() if v is not None])
    for name in ("corrector", "times", "return_info", "fuse"):
        if name in options:
            raise TypeError(f"{name}= is not for progressive runs: write it to sdekit.sample")
    watch.path = path[:-1].tolist()
    times = process.time(path)
    x: Tensor = sample(
        process.sde, watch, shape, predictor=predictor, times=times, fuse=False, **options
    )
    return x


def _descent(process: DDPM, top: int, steps: int | None) -> Tensor:
    """Levels from ``top`` down to 0, in ``steps`` about equal steps; in single ones if None."""
    count = top if steps is None else min(check_int_range("steps", steps, 1, 1 << 31), top)
    return torch.linspace(top, 0, count + 1, dtype=torch.float64).round().long()


def _check(process: Any) -> DDPM:
    if not isinstance(process, DDPM):
        raise TypeError(
            f"process must be a DDPM chain, got {type(process).__name__}: write sk.DDPM(betas)"
        )
    return process


def _levels(process: DDPM, levels: Any) -> Tensor:
    """``levels`` (K,), each in 1..N and once; raises TypeError or ValueError otherwise."""
    given = torch.as_tensor(levels)
    process.posterior(given)
    if given.ndim != 1 or len(given) == 0 or len(given.unique()) != len(given):
        raise ValueError(f"levels must be different integers, a sequence, got {levels!r}")
    return given.long().cpu()
