"""diffusers' schedulers and this library's loop, step for step: where the algorithm is the same.

What the benchmark times, at two sizes of grid; differences are those of float32 coefficients.
"""

from __future__ import annotations

import pytest
import sdekit_kernels
import torch

from benchmarks.schedulers import pairs, with_our_noise

pytest.importorskip("diffusers")


@pytest.mark.parametrize("steps", [10, 40])
@pytest.mark.parametrize("k", range(4))
def test_the_same_images(k, steps):
    pair = pairs(steps)[k]
    x = pair.start * sdekit_kernels.normal((3, 1, 8, 8), seed=0)
    mine, want = pair.ours(False)(x), with_our_noise(pair.theirs(False), x, pair.noise)
    torch.testing.assert_close(mine, want, rtol=0.0, atol=1e-4)
    # Two runs that went nowhere would agree as well.
    assert float((mine - x).abs().max()) > 0.5
