"""Samples against held-out images, beside what real images reach."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sdekit.data import Dataset, permutation
from sdekit.noise import keys
from sdekit.quality.features import DigitFeatures, digit_features
from sdekit.quality.frechet import frechet_distance, frechet_infinity
from sdekit.quality.mmd import median_distance, mmd

__all__ = ["image_quality"]


def image_quality(
    samples: Tensor,
    data: Dataset,
    *,
    features: DigitFeatures | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Return numbers of samples (N, D...) against the held-out part, and the same of real images.

    samples: grey levels, or x in the space of ``data.transform``, which are rounded to them.
    features: by default ``digit_features(data)``, trained or read from the cache.

    Every set is cut to one number n of images, the smallest of N and the held-out part, because a
    Fréchet distance grows as n shrinks: compare values of equal ``n`` only. "real" is a random
    part of the training images in the place of the samples: what a perfect model would reach, or
    a little more, since the features were trained on them.

        n              images in each set
        accuracy       of the classifier on held-out images
        frechet        distance in its features, F of them (``frechet_distance``)
        frechet_infinity  extrapolated to n without bound; None if n < 3 (F + 2)
        mmd, mmd_std_error  squared, in the same features; the kernel's width is the median distance
                       between real images
        confidence     mean probability of the classifier's choice; no proof of digits, since
                       uniform noise has 0.99 on mnist5k
        classes        share of the least common class

    Each of the last six in "samples" and "real". Raises ValueError for less than 4 images, samples
    of another shape, values that are no grey levels, or data without labels, levels, or a held-out
    part; ValueError for NaN.
    """
    if data.transform is None:
        raise ValueError(f"{data.name} has no grey levels: use mmd(samples, data.test)")
    if samples.is_floating_point():
        samples = data.transform.inverse(samples)
    n = min(len(samples), len(data.test), len(data.train))
    if n < 4:
        raise ValueError(
            f"{len(samples)} samples against {len(data.test)} held-out images of {data.name}: "
            "four of each are the least"
        )
    features = digit_features(data) if features is None else features
    chosen = permutation(len(data.train), seed=seed, stream=keys.DATA)[:n]
    held = features(data.test[:n])
    rest = data.train[chosen]
    width = median_distance(features(rest), held)
    return {
        "n": n,
        "accuracy": features.accuracy,
        "samples": _compare(samples[:n], held, features, width),
        "real": _compare(rest, held, features, width),
    }


def _compare(
    images: Tensor, held: Tensor, features: DigitFeatures, width: float
) -> dict[str, float | None]:
    found, chances = features(images), features.probabilities(images)
    distance = mmd(found, held, bandwidths=[width])
    enough = len(found) >= 3 * (found.shape[1] + 2)
    counts = torch.bincount(chances.argmax(1), minlength=chances.shape[1]).double()
    return {
        "frechet": frechet_distance(found, held),
        "frechet_infinity": frechet_infinity(found, held) if enough else None,
        "mmd": distance.value,
        "mmd_std_error": distance.std_error,
        "confidence": float(chances.max(1).values.mean()),
        "classes": float(counts.min() / counts.sum()),
    }
