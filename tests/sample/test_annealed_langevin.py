"""NCSN's sampler: Algorithm 1 of Song & Ermon 2019 path by path, its moments, and its errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sdekit_kernels import normal

from sdekit.noise import keys
from sdekit.sample import annealed_langevin

SIGMAS = np.geomspace(2.0, 0.1, 6)
MEAN, STD = 0.4, 0.3


def score(sigma, x):
    """Of N(MEAN, STD^2) data with noise of std sigma."""
    return (MEAN - x) / (STD**2 + sigma**2)


@pytest.mark.parametrize("denoise", [True, False])
@pytest.mark.parametrize("d", [1, 5])
def test_algorithm_1(d, denoise):
    shape, seed, first, each, eps = (7, d), 3, 2, 9, 2e-3
    draw = {"seed": seed, "first_sample": first, "dtype": torch.float64}
    x = SIGMAS[0] * normal(shape, stream=keys.PRIOR, **draw).numpy()
    k = 0
    for sigma in SIGMAS:
        alpha = eps * sigma**2 / SIGMAS[-1] ** 2
        for _ in range(each):
            z = normal(shape, stream=keys.CORRECTOR, step=k, **draw).numpy()
            x = x + alpha / 2 * score(sigma, x) + np.sqrt(alpha) * z
            k += 1
    if denoise:
        x = x + SIGMAS[-1] ** 2 * score(SIGMAS[-1], x)
    got, info = annealed_langevin(
        score,
        SIGMAS,
        shape,
        steps_each=each,
        eps=eps,
        denoise=denoise,
        return_info=True,
        path_points=4,
        **draw,
    )
    np.testing.assert_allclose(got.numpy(), x, rtol=1e-10, atol=1e-12)
    assert info.nfe == 54 + denoise
    assert info.path.shape == (4, *shape) and bool((info.path[-1] == got).all())
    assert info.path_t[0] == SIGMAS[0] and info.path_t[-1] == pytest.approx(SIGMAS[-1])


def test_moments_within_five_standard_errors():
    n, each, eps = 20000, 30, 2e-3
    mean, var = 0.0, SIGMAS[0] ** 2
    for sigma in SIGMAS:
        alpha, total = eps * sigma**2 / SIGMAS[-1] ** 2, STD**2 + sigma**2
        for _ in range(each):
            shrink = 1 - alpha / 2 / total
            mean, var = shrink * mean + (1 - shrink) * MEAN, shrink**2 * var + alpha
    shrink = 1 - SIGMAS[-1] ** 2 / total
    mean, var = shrink * mean + (1 - shrink) * MEAN, shrink**2 * var
    x = annealed_langevin(score, SIGMAS, (n, 2), steps_each=each, eps=eps, seed=8).double()
    for column in x.unbind(1):
        assert abs(float(column.mean()) - mean) < 5 * np.sqrt(var / n)
        assert abs(float(column.var()) / var - 1) < 5 * np.sqrt(2 / n)


def test_chunks_and_start():
    whole = annealed_langevin(score, SIGMAS, (9, 3), steps_each=5, eps=1e-3, seed=4)
    parts = [
        annealed_langevin(score, SIGMAS, (n, 3), steps_each=5, eps=1e-3, seed=4, first_sample=at)
        for at, n in ((0, 4), (4, 5))
    ]
    assert torch.equal(torch.cat(parts), whole)
    x_init = torch.full((9, 3), 0.5)
    kept = x_init.clone()
    started = annealed_langevin(score, SIGMAS, (9, 3), steps_each=5, x_init=x_init)
    assert torch.equal(x_init, kept) and not torch.equal(started, whole)
    assert annealed_langevin(score, SIGMAS, (0, 3)).shape == (0, 3)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"sigmas": [0.1, 1.0]}, ValueError, "strictly decreasing"),
        ({"sigmas": [1.0, 0.0]}, ValueError, "above zero"),
        ({"sigmas": [1.0, float("nan")]}, ValueError, "finite"),
        ({"sigmas": []}, ValueError, "one level or more"),
        ({"sigmas": "many"}, TypeError, "sequence of numbers"),
        ({"steps_each": 0}, ValueError, "steps_each"),
        ({"eps": 0.0}, ValueError, "eps"),
        ({"shape": (3,)}, ValueError, r"write \(3, 1\)"),
        ({"score": 1.0}, TypeError, "callable"),
        ({"x_init": torch.zeros(2, 2)}, ValueError, "x_init has shape"),
        ({"path_points": 3}, ValueError, "return_info=True"),
        ({"backend": "numbra"}, ValueError, "Did you mean 'numba'"),
    ],
)
def test_bad_input(change, error, text):
    given = {"score": score, "sigmas": SIGMAS, "shape": (4, 3)} | change
    with pytest.raises(error, match=text):
        annealed_langevin(given.pop("score"), given.pop("sigmas"), given.pop("shape"), **given)
