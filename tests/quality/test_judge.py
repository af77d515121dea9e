"""Baselines in bits, and the judge of digits."""

from __future__ import annotations

import pytest
import torch

from sdekit.data import Dataset, load, noise_images
from sdekit.likelihood import DataTransform
from sdekit.quality import Judge, gaussian_bits_per_dim


def test_baselines_and_judge() -> None:
    digits = load("digits")
    bits = gaussian_bits_per_dim(digits.train, digits.test, DataTransform(17))
    assert bits.shape == (297,)
    # Measured 2.96: better than 4.09 for uniform pixels.
    assert 2.8 < bits.mean().item() < 3.1
    judge = Judge(digits)
    real, noise, copies = (
        judge(digits.test),
        judge(noise_images(100)),
        judge(digits.train[:100]),
    )
    assert real.confidence > 0.9 > noise.confidence
    assert real.precision > 0.9 and noise.precision == 0.0
    assert copies.nearest == pytest.approx(0.0, abs=1e-6) and real.nearest > 1.0
    with pytest.raises(ValueError, match="no labels"):
        Judge(Dataset("bare", torch.zeros(4, 2), torch.zeros(4, 2)))
