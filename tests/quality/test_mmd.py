"""MMD: no bias, and a standard error that is the standard deviation over many draws."""

from __future__ import annotations

import math

import pytest
import torch
from sdekit_kernels import normal
from torch import Tensor

from sdekit.quality import MMD, median_distance, mmd

D, H = 3, 1.3


def exact(shift: float, scale: float) -> float:
    """MMD^2 of N(0, I) and N(shift, scale^2 I), rbf: E k is Gaussian in the difference of means."""

    def mean_kernel(variance: float, distance: float) -> float:
        total = H * H + variance
        return (H * H / total) ** (D / 2) * math.exp(-D * distance**2 / (2 * total))

    cross = mean_kernel(1 + scale**2, shift)
    return mean_kernel(2.0, 0.0) + mean_kernel(2 * scale**2, 0.0) - 2 * cross


def pair(n: int, m: int, seed: int, shift: float, scale: float) -> tuple[Tensor, Tensor]:
    z = normal((n + m, D), seed=seed, dtype=torch.float64)
    return z[:n], shift + scale * z[n:]


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.3, 1.0), (1.0, 0.5)])
def test_unbiased_with_its_error(shift: float, scale: float) -> None:
    runs, n, m = 600, 40, 60
    found = [mmd(*pair(n, m, seed, shift, scale), bandwidths=[H]) for seed in range(runs)]
    values = torch.tensor([f.value for f in found], dtype=torch.float64)
    spread = values.std().item()
    assert abs(values.mean().item() - exact(shift, scale)) < 4.0 * spread / math.sqrt(runs)
    # The std of 600 values is known to 3 %, and to 5 % with the tails of equal laws.
    rms = math.sqrt(sum(f.std_error**2 for f in found) / runs)
    assert rms == pytest.approx(spread, rel=0.15)


def test_slow_sums() -> None:
    x, y = pair(7, 5, 1, 0.2, 1.0)

    def k(a: Tensor, b: Tensor) -> float:
        r2 = float((a - b).square().sum())
        return 0.5 * sum(math.exp(-r2 / (2 * h * h)) for h in (0.5, 2.0))

    def p(a: Tensor, b: Tensor) -> float:
        return float((a @ b) / D + 1) ** 3

    for kernel, options in ((k, {"bandwidths": [0.5, 2.0]}), (p, {"kernel": "polynomial"})):
        want = sum(kernel(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j) / 42
        want += sum(kernel(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j) / 20
        want -= 2 * sum(kernel(a, b) for a in x for b in y) / 35
        assert mmd(x, y, **options).value == pytest.approx(want, abs=1e-12)


def test_median_heuristic() -> None:
    x, y = pair(5, 4, 1, 0.0, 1.0)
    both = torch.cat([x, y])
    distances = sorted(float((both[i] - both[j]).norm()) for i in range(9) for j in range(i))
    assert median_distance(x, y) == pytest.approx(distances[17])
    found = mmd(x.view(5, 3, 1), y.view(4, 3, 1))
    assert isinstance(found, MMD) and found.bandwidths == (pytest.approx(distances[17]),)


def test_bad_input() -> None:
    x = normal((6, 2), seed=1)
    for args, options, text in (
        ((x, x), {"kernel": "rbv"}, "rbf"),
        ((x, x[:3]), {}, "four or more"),
        ((x, x[:, :1]), {}, "cannot be compared"),
        ((x, x / 0), {}, "NaN or infinite"),
        ((x, x), {"bandwidths": [0.0]}, "bandwidths"),
        ((x, x), {"bandwidths": []}, "one number or more"),
        ((x, x), {"bandwidths": [1.0], "kernel": "polynomial"}, "no bandwidths"),
        ((torch.zeros(5, 1), torch.zeros(5, 1)), {}, "no median"),
    ):
        with pytest.raises(ValueError, match=text):
            mmd(*args, **options)
    with pytest.raises(TypeError, match="integers"):
        mmd(x.long(), x)
