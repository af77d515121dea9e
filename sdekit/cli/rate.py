"""``sdekit rate-distortion``: what each level of a chain costs in bits, and what it then knows."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from sdekit_kernels.checks import check_choice, check_int_range
from torch import Tensor

from sdekit import viz
from sdekit.cli.commands import check_device, check_seed
from sdekit.cli.errors import InputError, output_folder
from sdekit.cli.model import Model, open_model
from sdekit.cli.report import mean_and_error, table, write_json
from sdekit.likelihood.variational import rate_distortion
from sdekit.sample.progressive import lossy, progressive
from sdekit.sde import DDPM, as_time, expand
from sdekit.train.losses.ddpm import chain_of

VARIANCES: Final = ("fixedlarge", "fixedsmall")
VARIANCE_HELP: Final = f"Of the chain's steps: {' or '.join(VARIANCES)}."

_GRID: Final = 8
_SHARES: Final = (0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, slots=True)
class RateOptions:
    """The options of the command, see ``sdekit rate-distortion --help``."""

    out: Path = Path("rate-distortion")
    data: str = "test"
    n: int = 32
    levels: int = 1000
    variance: str = "fixedlarge"
    steps: int = 100
    device: str = "cpu"
    seed: int = 0


def rate_command(path: Path, options: RateOptions) -> None:
    """The bound term by term, rate against distortion, progressive and lossy pictures, numbers."""
    check_choice("--variance", options.variance, VARIANCES)
    check_int_range("-n", options.n, 1, 1 << 20)
    check_int_range("--levels", options.levels, 2, 1 << 20)
    check_int_range("--steps", options.steps, 1, options.levels + 1)
    check_seed(options.seed)
    model = open_model(path, check_device(options.device))
    model.need_images("rate-distortion")
    try:
        chain = chain_of(model.checkpoint.sde, options.levels)
    except TypeError as error:
        raise InputError(f"{path}: {error}") from None
    out = output_folder(options.out)
    viz.require_matplotlib()
    images = model.part(options.data, options.n)
    start = time.perf_counter()
    curve = rate_distortion(
        chain,
        eps_of(model),
        images.to(model.device),
        transform=model.checkpoint.transform,
        # A model of dequantized data knows nothing of the middles of bins: with the discretized
        # decoder it would pay for finding them, 1.1 bits a pixel on the digits.
        decoder="gaussian" if _dequantizes(model) else "discretized",
        variance=options.variance,
        clip=_range(model),
        draws=1,
        seed=options.seed,
    )
    seconds = time.perf_counter() - start
    names = ["rate_distortion.png", "progressive.png", "lossy.png", "numbers.json"]
    viz.rate_distortion(out / names[0], curve, unit="grey levels")
    _pictures(model, chain, images[:_GRID], out, options)
    bits = curve.bound.bits_per_dim
    numbers = curve.to_dict() | {
        "bits_per_dim": float(bits.mean()),
        "data": options.data,
        "seconds": seconds,
        "seed": options.seed,
    }
    write_json(out / names[3], numbers)
    share = torch.log(torch.tensor(2.0)) * curve.bound.dim
    rate, last = curve.bound.terms[:, 1:-1].sum(1) / share, curve.bound.terms[:, -1] / share
    table(
        f"variational bound of {options.n} images ({options.data}), {options.levels} levels",
        [
            ("bits per dimension", mean_and_error(bits)),
            ("  L_T, the prior's", mean_and_error(last, 5)),
            ("  L_1 .. L_{T-1}, the rate", mean_and_error(rate)),
            ("  L_0, the decoder's", mean_and_error(bits - rate - last)),
            ("distortion at the end", f"{float(curve.distortion[-1]):.3f} grey levels"),
            ("evaluations of the network", f"{curve.bound.nfe} an image"),
            ("seconds", f"{seconds:.1f}"),
        ],
    )
    print(f"\nin {out}/: {', '.join(names)}")


def eps_of(model: Model) -> Callable[[Tensor, Tensor], Tensor]:
    """The noise that the score stands for: eps = -sigma(t) score, (t, x) -> x's shape."""
    sde, net = model.checkpoint.sde, model.checkpoint.net

    def eps(t: Tensor, x: Tensor) -> Tensor:
        return -expand(sde.std(as_time(t, x).double()), x) * net(t, x)

    return eps


def _dequantizes(model: Model) -> bool:
    transform = model.checkpoint.transform
    return transform is not None and transform.dequantize


def _range(model: Model) -> tuple[float, float]:
    transform = model.checkpoint.transform
    assert transform is not None
    return transform.low, transform.high


def _pictures(model: Model, chain: DDPM, images: Tensor, out: Path, options: RateOptions) -> None:
    """x0-hat on the way down, and what is made of images that were sent up to some level."""
    eps = eps_of(model)
    shape = (_GRID, *model.event_shape)
    like: dict[str, Any] = {"steps": options.steps, "seed": options.seed, "device": model.device}
    grown = progressive(chain, eps, shape, levels=9, **like)
    sets = {
        f"{k / chain.steps:.2f}": model.levels(guess)
        for k, guess in zip(grown.levels.tolist(), grown.x0_hat, strict=True)
    }
    viz.columns_of_images(
        out / "progressive.png", sets | {"0": model.levels(grown.sample)}, limits=model.limits
    )
    transform = model.checkpoint.transform
    assert transform is not None
    x = transform.forward(images, seed=options.seed).to(model.device)
    levels = [max(1, round(share * chain.steps)) for share in _SHARES]
    sent = lossy(chain, eps, x, levels=levels, steps=options.steps, seed=options.seed)
    columns = {"image": images}
    for k, guess, samples in zip(sent.levels.tolist(), sent.x0_hat, sent.samples, strict=True):
        columns[f"guess {k / chain.steps:.2f}"] = model.levels(guess)
        columns[f"draw {k / chain.steps:.2f}"] = model.levels(samples[:, 0])
    viz.columns_of_images(out / "lossy.png", columns, limits=model.limits)
