"""Bits per dimension are refused for data without noise, in its usual forms, and for no other."""

from __future__ import annotations

import pytest
import torch

from sdekit.likelihood import DataTransform


def levels_of(levels: int, shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.randint(0, levels, shape, generator=torch.Generator().manual_seed(seed))


RAW = {
    "k / 255": (256, lambda k: k / 255.0 * 2.0 - 1.0),
    "k / 256": (256, lambda k: k / 256.0 * 2.0 - 1.0),
    "midpoints": (256, lambda k: (k + 0.5) / 128.0 - 1.0),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("form", RAW)
def test_images_of_eight_bits_without_noise(form, dtype):
    levels, mapped = RAW[form]
    x = mapped(levels_of(levels, (10, 1, 8, 8)).to(dtype))
    with pytest.raises(ValueError, match="never dequantized"):
        DataTransform(levels).check_dequantized(x)


@pytest.mark.parametrize("levels", [17, 256])
def test_digits_without_noise_whatever_levels_are_said(levels):
    x = levels_of(17, (10, 8, 8)) / 8.0 - 1.0
    with pytest.raises(ValueError, match="sample 0"):
        DataTransform(levels).check_dequantized(x)


def test_sixteen_bits_of_one_level_without_noise():
    with pytest.raises(ValueError, match="sample 0"):
        DataTransform(65536).check_dequantized(torch.full((1, 784), -0.7))


def test_each_sample_is_looked_at_by_itself():
    transform = DataTransform(17)
    k = levels_of(17, (10, 8, 8))
    x = transform.forward(k)
    x[7] = k[7] / 8.0 - 1.0
    with pytest.raises(ValueError, match="sample 7 repeats its numbers"):
        transform.check_dequantized(x)
    x = transform.forward(k)
    x[1:] = (k[1:] + 0.5) / 8.5 - 1.0
    with pytest.raises(ValueError, match="sample 1 has all numbers at one place"):
        transform.check_dequantized(x)
    # A number that is not finite hides nothing.
    x[:, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="sample 1"):
        transform.check_dequantized(x)


def test_samples_of_few_numbers_are_looked_at_together():
    x = levels_of(17, (200, 2)) / 8.0 - 1.0
    with pytest.raises(ValueError, match="the samples have one number in each bin"):
        DataTransform(17).check_dequantized(x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("levels", [2, 3, 17, 256, 1024, 65536])
@pytest.mark.parametrize(
    "shape", [(1, 1), (500, 1), (300, 2), (100, 2, 3), (40, 8, 8), (6, 3, 32, 32)]
)
def test_no_alarm_on_noise(shape, levels, dtype):
    transform = DataTransform(levels)
    random = levels_of(levels, shape)
    background = torch.where(levels_of(10, shape) == 0, random, levels - 1)
    for seed, k in enumerate((random, background, torch.zeros_like(random))):
        transform.check_dequantized(transform.forward(k, seed=seed, dtype=dtype))
    # Somebody's own noise, in 24 bits.
    noise = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    x = (2.0 * ((background + noise.to(dtype)) / levels) - 1.0).clamp(max=1.0)
    transform.check_dequantized(x)


def test_no_alarm_on_copies_mirror_images_and_nothing():
    transform = DataTransform(256)
    x = transform.forward(levels_of(256, (3, 8, 8)))
    transform.check_dequantized(x[:1].expand(20, 8, 8))
    transform.check_dequantized(torch.cat([x, x.flip(2)]))
    transform.check_dequantized(x[:0])
    transform.check_dequantized(torch.full((2, 64), float("nan")))
