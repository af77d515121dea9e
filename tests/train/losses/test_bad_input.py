"""Every loss by its name: what it refuses, and what it says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sdekit.sde import DDPM, OU, VE, VP, Langevin
from sdekit.train import (
    LOSSES,
    as_score,
    ddpm_bound,
    ddpm_simple,
    denoising_score_matching,
    edm,
    get_loss,
    ncsn,
    sliced_score_matching,
)

CHAIN = DDPM.linear(10)
X0 = torch.linspace(-1, 1, 24).view(8, 3)


def score(_t: Tensor, x: Tensor) -> Tensor:
    return -x


def short(_t: Tensor, x: Tensor) -> Tensor:
    return x[:, :1]


def every(net: Any, x0: Tensor) -> dict[str, Any]:
    """Each loss as a call without arguments."""
    calls: dict[str, Any] = {
        name: lambda loss=loss: loss(VP(), net, x0, seed=0) for name, loss in LOSSES.items()
    }
    calls["ncsn, sigmas"] = lambda: ncsn([1.0, 0.1], net, x0, seed=0)
    calls["ddpm_simple, chain"] = lambda: ddpm_simple(CHAIN, net, x0, seed=0)
    calls["ddpm_bound, chain"] = lambda: ddpm_bound(CHAIN, net, x0, seed=0, decoder="gaussian")
    denoiser = (lambda x, t: net(t, x)) if callable(net) else net
    calls["edm, denoiser"] = lambda: edm(denoiser, x0, seed=0)
    return calls


NAMES = list(every(score, X0))


@pytest.mark.parametrize("name", NAMES)
def test_outputs_of_another_shape_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"shape \(8, 1\)"):
        every(short, X0)[name]()
    with pytest.raises(TypeError, match="must return a tensor"):
        every(lambda _t, x: 3.0, X0)[name]()
    with pytest.raises(TypeError, match="must be callable"):
        every("net", X0)[name]()


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_without_samples_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no samples"):
        every(score, X0[:0])[name]()
    with pytest.raises(ValueError, match="D >= 1"):
        every(score, X0[:, 0])[name]()
    with pytest.raises(TypeError, match="floating-point"):
        every(score, X0.long())[name]()


@pytest.mark.parametrize("name", NAMES)
def test_nan_stays_in_its_sample(name: str) -> None:
    bad = X0.clone()
    bad[3, 1] = float("nan")
    found, clean = every(score, bad)[name](), every(score, X0)[name]()
    others = torch.arange(8) != 3
    assert bool(found[3].isnan()) and torch.equal(found[others], clean[others])
    assert found.shape == (8,) and found.dtype == torch.float32 and bool(clean.isfinite().all())


@pytest.mark.parametrize("name", NAMES)
def test_steps_and_seeds_name_the_draw(name: str) -> None:
    first, again = every(score, X0)[name](), every(score, X0)[name]()
    assert torch.equal(first, again)
    if name in LOSSES:
        given = [LOSSES[name](VP(), score, X0, seed=s, step=k) for s, k in ((0, 1), (1, 0))]
        assert torch.equal(LOSSES[name](VP(), score, X0, seed=0, step=0), first)
        assert not torch.equal(first, given[0]) and not torch.equal(first, given[1])


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown loss 'dms': known are 'dsm', 'ism'"):
        get_loss("dms")
    with pytest.raises(TypeError, match="must be a name or a function"):
        get_loss(3)  # type: ignore[arg-type]
    assert get_loss("edm") is LOSSES["edm"] and get_loss(score) is score
    with pytest.raises(ValueError, match="unknown target 'epsilon'"):
        denoising_score_matching(VP(), score, X0, seed=0, target="epsilon")
    with pytest.raises(ValueError, match="Did you mean 'min_snr'"):
        denoising_score_matching(VP(), score, X0, seed=0, weighting="minsnr")
    with pytest.raises(ValueError, match="unknown projections"):
        sliced_score_matching(VP(), score, X0, seed=0, projections="normal")
    with pytest.raises(ValueError, match="n_projections"):
        sliced_score_matching(VP(), score, X0, seed=0, n_projections=0)
    with pytest.raises(ValueError, match="Did you mean 'fixedlarge'"):
        ddpm_bound(CHAIN, score, X0, seed=0, variance="fixed_large", decoder="gaussian")
    with pytest.raises(ValueError, match="unknown decoder"):
        ddpm_bound(CHAIN, score, X0, seed=0, decoder="exact")


def test_values_out_of_place_are_refused() -> None:
    with pytest.raises(ValueError, match="target='posterior_mean'"):
        denoising_score_matching(VP(), score, X0, seed=0, gap=0.1)
    with pytest.raises(ValueError, match="gap must be"):
        denoising_score_matching(VP(), score, X0, seed=0, target="posterior_mean", gap=-0.1)
    with pytest.raises(TypeError, match="net must be callable"):
        as_score(3, VP())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="AffineSDE"):
        as_score(score, object())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="chain must be a DDPM"):
        ddpm_simple(VP(), score, X0, seed=0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs integer data"):
        ddpm_bound(CHAIN, score, X0, seed=0)
    for sigmas, error in (
        ([], ValueError),
        ([1.0, 0.0], ValueError),
        ([[1.0]], ValueError),
        (["a"], TypeError),
    ):
        with pytest.raises(error, match="sigmas must be"):
            ncsn(sigmas, score, X0, seed=0)
    with pytest.raises(ValueError, match="data_std"):
        edm(score, X0, seed=0, data_std=0.0)
    with pytest.raises(ValueError, match="use 'uniform'"):
        LOSSES["edm"](OU(theta=[1.0, 2.0, 3.0]), score, X0, seed=0)
    with pytest.raises(TypeError, match="VP equation"):
        LOSSES["ddpm_bound"](VE(), score, X0, seed=0)
    for name, loss in LOSSES.items():
        with pytest.raises(TypeError):
            loss(Langevin(lambda x: x.square().sum(1)), score, X0, seed=0)
        assert name


def test_a_score_without_a_derivative_is_refused() -> None:
    for name in ("ism", "ssm"):
        with pytest.raises(RuntimeError, match="derivative"):
            LOSSES[name](VP(), lambda _t, x: -x.detach(), X0, seed=0)
