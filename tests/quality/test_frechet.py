"""The Fréchet distance: closed forms, scipy's matrix root, small samples and their limit."""

from __future__ import annotations

import math

import pytest
import torch
from sdekit_kernels import normal
from torch import Tensor

from sdekit.quality import frechet_distance, frechet_infinity, gaussian_frechet


def draw(n: int, d: int, seed: int) -> Tensor:
    return normal((n, d), seed=seed, dtype=torch.float64)


def spd(d: int, seed: int, rank: int | None = None) -> Tensor:
    a = draw(d, rank or d, seed)
    return a @ a.mT / d


def test_one_dimension() -> None:
    # (mu_1 - mu_2)^2 + (s_1 - s_2)^2.
    one = torch.ones(1, dtype=torch.float64)
    got = gaussian_frechet(2 * one, 9 * one.view(1, 1), -one, 4 * one.view(1, 1))
    assert got == pytest.approx(9.0 + 1.0, rel=1e-14)


def test_equal_and_commuting_covariances() -> None:
    zero, shift = torch.zeros(5, dtype=torch.float64), draw(1, 5, 3)[0]
    cov = spd(5, 1)
    want = shift.square().sum().item()
    assert gaussian_frechet(zero, cov, shift, cov) == pytest.approx(want, rel=1e-12)
    values, vectors = torch.linalg.eigh(cov)
    other = values.flip(0) + 0.3
    commuting = vectors @ other.diag() @ vectors.mT
    want = (values.sqrt() - other.sqrt()).square().sum().item()
    assert gaussian_frechet(zero, cov, zero, commuting) == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize("rank", [None, 3])
def test_against_scipy(rank: int | None) -> None:
    linalg = pytest.importorskip("scipy.linalg")
    a, b, zero = spd(8, 1, rank), spd(8, 2), torch.zeros(8, dtype=torch.float64)
    root = linalg.sqrtm((a @ b).numpy()).real
    want = float(a.trace() + b.trace()) - 2.0 * float(root.trace())
    # scipy's root of a singular product is good to about sqrt(1e-16); ours is exact there.
    error = 1e-11 if rank is None else 1e-6
    assert gaussian_frechet(zero, a, zero, b) == pytest.approx(want, abs=error)


def test_features_and_their_moments_agree() -> None:
    x, y = draw(40, 6, 1), 0.7 * draw(25, 6, 2) + 0.2
    want = gaussian_frechet(x.mean(0), torch.cov(x.mT), y.mean(0), torch.cov(y.mT))
    assert frechet_distance(x, y) == pytest.approx(want, rel=1e-10)
    assert frechet_distance(x.float(), y.float()) == pytest.approx(want, rel=1e-5)
    # Fewer samples than features: nothing is inverted.
    few = draw(4, 6, 5)
    want = gaussian_frechet(few.mean(0), torch.cov(few.mT), y.mean(0), torch.cov(y.mT))
    assert frechet_distance(few, y) == pytest.approx(want, rel=1e-6)


def test_small_differences_are_not_lost() -> None:
    # d^2 of laws that differ by a shift of 1e-6: a root of C_x C_y would leave 1e-8 of noise.
    x = draw(100, 6, 1)
    assert frechet_distance(x, x) < 1e-13
    y = x + 1e-6
    assert frechet_distance(x, y) == pytest.approx(6e-12, rel=0.05)


def test_extrapolation_removes_the_bias() -> None:
    d, n = 16, 500
    x, y = draw(n, d, 1), draw(n, d, 2)
    plain = frechet_distance(x, y)
    # Equal laws: 2 d / n from the means and about d^2 / (2 n) from the covariances.
    assert plain == pytest.approx((2 * d + d * d / 2) / n, rel=0.25)
    assert abs(frechet_infinity(x, y)) < 0.2 * plain
    # N(0, 1) against N(1/2, (3/2)^2) in each of 16 directions: d^2 = 16 (1/4 + 1/4).
    z = 0.5 + 1.5 * y
    # The std over seeds of the estimate is about 0.2.
    assert frechet_infinity(x, z) == pytest.approx(8.0, abs=0.8)
    assert frechet_infinity(x, z) == frechet_infinity(x, z)
    with pytest.raises(ValueError, match="too few"):
        frechet_infinity(x[:50], y)


def test_bad_input() -> None:
    x = draw(10, 3, 1)
    bad = x.clone()
    bad[4, 1] = math.nan
    for wrong, text in ((bad, "row 4"), (x[:1], "two or more"), (x[:, :2], "cannot be compared")):
        with pytest.raises(ValueError, match=text):
            frechet_distance(x, wrong)
    with pytest.raises(TypeError, match="floating-point"):
        frechet_distance(x, x.long())
    zero, eye = torch.zeros(2), torch.eye(2)
    with pytest.raises(ValueError, match="cannot be negative"):
        gaussian_frechet(zero, -eye, zero, eye)
    with pytest.raises(ValueError, match="shapes"):
        gaussian_frechet(zero, eye, zero, torch.eye(3))
