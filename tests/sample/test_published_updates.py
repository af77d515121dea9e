"""Every predictor with every corrector on every SDE, path by path, against the papers' formulas.

Same noise, float64, so the two differ by rounding alone: no statistics can hide a wrong term. All
combinations go step by step, which needs no compiler; that a kernel of the whole run does the same
is shown by ``test_fused`` for every pair of predictor and corrector, and here for every predictor
on every SDE.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sdekit_kernels import normal

from sdekit.noise import keys
from sdekit.sample import polynomial_times, sample, uniform_times
from sdekit.score import Gaussian
from tests.sample.cases import PREDICTORS, SDES, case, uniform
from tests.sample.published import updates

N, SEED, FIRST = 20, 11, 5
"""20 steps are the fewest for which VP's chain with the linear schedule exists."""


def draw(shape, stream, step=0):
    z = normal(shape, seed=SEED, stream=stream, step=step, first_sample=FIRST, dtype=torch.float64)
    return z.numpy()


def walk(law, run, shape, snr, norm, denoise):
    """The run with the library's own noise, and the largest state on the way."""
    x = law.offset + law.prior_std * draw(shape, keys.PRIOR)
    largest = np.abs(x).max()
    for k, u in enumerate(run):
        stream = keys.PATH if u.kind == "predictor" else keys.CORRECTOR
        z = draw(shape, stream, u.step)
        keep = 0.0 if denoise and k == len(run) - 1 else 1.0
        if u.kind == "langevin":
            s = u.score(x)
            z_norm, s_norm = (np.linalg.norm(v, axis=1, keepdims=True) for v in (z, s))
            if norm == "batch":
                z_norm, s_norm = z_norm.mean(), s_norm.mean()
            eps = 2 * u.alpha * (snr * z_norm / s_norm) ** 2
            x = x + eps * s + keep * np.sqrt(2 * eps) * z
        else:
            x = u.p * x + u.q + keep * u.r * z
        largest = max(largest, np.abs(x).max())
    return x, largest


def compare(
    name,
    predictor,
    corrector,
    *,
    first,
    inner=1,
    norm="sample",
    denoise=True,
    grid=None,
    fuse=None,
    **options,
):
    shape = (7, 5)
    sde, law, mean, std = case(name, shape[1])
    given = uniform(law, N) if grid is None else grid
    run = updates(
        law,
        given,
        mean,
        std,
        predictor_name=predictor,
        corrector_name=corrector,
        snr=0.2,
        inner=inner,
        first=first,
        options=options,
    )
    want, largest = walk(law, run, shape, 0.2, norm, denoise)
    got = sample(
        sde,
        Gaussian(mean, std, sde),
        shape,
        predictor=predictor,
        corrector=corrector,
        snr=0.2,
        corrector_steps=inner,
        corrector_first=first,
        norm=norm,
        denoise=denoise,
        seed=SEED,
        first_sample=FIRST,
        dtype=torch.float64,
        fuse=fuse,
        **options,
        **({"steps": N} if grid is None else {"times": grid}),
    )
    # Rounding: a few hundred operations at 2e-16 of the largest state, each amplified by at most
    # the drop of the state's scale that follows; 1e-10 leaves a factor of about a thousand.
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-8, atol=1e-10 * largest)


@pytest.mark.parametrize("first", [False, True], ids=["predictor_first", "corrector_first"])
@pytest.mark.parametrize("corrector", ["none", "langevin", "annealed", "ou"])
@pytest.mark.parametrize("predictor", PREDICTORS)
@pytest.mark.parametrize("name", [*SDES, "ou_components"])
def test_every_combination(name, predictor, corrector, first):
    compare(name, predictor, corrector, first=first, fuse=False)


@pytest.mark.parametrize("corrector", ["langevin", "annealed"])
@pytest.mark.parametrize("name", ["vp", "ou_components"])
def test_several_corrector_steps_have_noise_of_their_own(name, corrector):
    compare(name, "ancestral", corrector, first=True, inner=3)
    compare(name, "none", corrector, first=False, inner=2, denoise=False)


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("name", SDES)
def test_norms_of_the_batch_by_name(name, first):
    compare(name, "reverse_diffusion", "langevin", first=first, norm="batch")


@pytest.mark.parametrize("predictor", PREDICTORS)
@pytest.mark.parametrize("name", SDES)
def test_a_given_grid_and_the_noisy_end(name, predictor):
    law = case(name, 5)[1]
    # Quadratic spacing, short enough at first for VP's chain (beta(t) dt < 1).
    ramp = np.linspace(1.0, 0.0, 61) ** 2
    grid = law.t_min + (law.T - law.t_min) * ramp
    compare(name, predictor, "annealed", first=False, denoise=False, grid=grid)


@pytest.mark.parametrize("to_data", [False, True])
@pytest.mark.parametrize(
    ("predictor", "option"),
    [
        ("ddim", {"eta": 0.4}),
        ("ddim", {"eta": 1.0}),
        ("ddpm", {"variance": "fixed_small"}),
        ("ddpm", {"variance": "fixed_large"}),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", [*SDES, "ou_components"])
def test_ddim_and_ddpm_on_any_levels(name, predictor, option, to_data):
    # Jumps of very different lengths, and with to_data the last one to t = 0.
    law = case(name, 5)[1]
    shares = np.array([1.0, 0.97, 0.9, 0.6, 0.55, 0.2, 0.05, 0.0])
    grid = law.t_min + (law.T - law.t_min) * shares
    if to_data:
        grid = np.append(grid, 0.0)
    how = {"first": False, "denoise": False, "fuse": False, "grid": grid}
    compare(name, predictor, "none", **how, **option)


def test_grids():
    for sde in SDES.values():
        for times in (uniform_times(sde, 10), polynomial_times(sde, 10)):
            assert times.shape == (11,) and times.dtype == torch.float64
            assert (float(times[0]), float(times[-1])) == (sde.T, sde.t_min)
            assert bool((times.diff() < 0).all())
    times = polynomial_times(SDES["ve_edm"], 4, rho=7.0)
    root = [80 ** (1 / 7) + i / 4 * (0.002 ** (1 / 7) - 80 ** (1 / 7)) for i in range(5)]
    np.testing.assert_allclose(times.numpy(), np.array(root) ** 7, rtol=1e-12)
    edm = polynomial_times(SDES["ve_edm"], 30).numpy()
    compare("ve_edm", "probability_flow", "none", first=False, grid=edm)
