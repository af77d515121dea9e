"""Numbers to judge a digit model by: what simple models reach, and whether samples are digits."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from sdekit.likelihood import DataTransform
from sdekit.sde.parameters import log_normal_density

_NEIGHBOURS = 5


def gaussian_bits_per_dim(train: Tensor, test: Tensor, transform: DataTransform) -> Tensor:
    """Bits per dimension of each test image under the Gaussian fitted to the training images, (N,).

    Mean and full covariance of the dequantized images; the same transform, so that the numbers
    compare with a score model's. Dequantization alone gives each pixel the variance of a bin / 12,
    so the covariance is never singular.
    """
    x = transform.forward(train, step=0, dtype=torch.float64).flatten(1)
    y = transform.forward(test, step=1, dtype=torch.float64).flatten(1)
    mean, cov = x.mean(0), torch.cov(x.mT)
    values, vectors = torch.linalg.eigh(cov)
    log_prob = log_normal_density((y - mean) @ vectors, values.sqrt()).sum(1)
    return -(log_prob / y.shape[1] + transform.log_abs_det) / math.log(2.0)


def uniform_bits_per_dim(transform: DataTransform) -> float:
    """Bits of a pixel that has every grey level with the same probability: log2(levels)."""
    return math.log2(transform.levels)


@dataclass(frozen=True, slots=True)
class Quality:
    """How images compare with real digits.

    confidence: mean probability that a classifier trained on real digits gives to its choice.
    nearest: mean over images of the distance to the nearest training image, root mean square over
    pixels, in grey levels; far below that of test images it would mean copies.
    precision: share of the images that lie among the real ones; recall: share of the test images
    that lie among these (Kynkäänniemi et al. 2019, balls to the 5th neighbour, in pixels).
    classes: share of the least common of the ten digits among the images.
    """

    confidence: float
    nearest: float
    precision: float
    recall: float
    classes: float

    def as_dict(self) -> dict[str, float]:
        """Plain values by name."""
        return asdict(self)


class Judge:
    """Scores sets of images (N, 8, 8) of grey levels against real digits.

    The classifier is multinomial logistic regression on pixels, regularized so that its confidence
    on test digits, 0.95, is near its accuracy there; nothing in it is random.
    Raises ModuleNotFoundError if scikit-learn is missing.
    """

    def __init__(self, train: Tensor, labels: Tensor, test: Tensor) -> None:
        from sklearn.linear_model import LogisticRegression

        self._train, self._test = train.double().flatten(1), test.double().flatten(1)
        self._model = LogisticRegression(C=0.02, max_iter=2000)
        self._model.fit(self._train.numpy(), labels.numpy())

    def __call__(self, images: Tensor) -> Quality:
        """The numbers for images (N, 8, 8)."""
        x = images.double().flatten(1)
        chances = torch.from_numpy(self._model.predict_proba(x.numpy()))
        counts = chances.argmax(1).bincount(minlength=10).double()
        scale = math.sqrt(x.shape[1])
        return Quality(
            confidence=float(chances.max(1).values.mean()),
            nearest=float(torch.cdist(x, self._train).min(1).values.mean()) / scale,
            precision=_covered(x, self._train),
            recall=_covered(self._test, x),
            classes=float(counts.min() / counts.sum()),
        )


def _covered(points: Tensor, manifold: Tensor) -> float:
    """Share of the points within a ball around one of ``manifold`` that reaches its 5th other."""
    k = min(_NEIGHBOURS + 1, len(manifold))
    radii = torch.cdist(manifold, manifold).kthvalue(k, dim=1).values
    inside = (torch.cdist(points, manifold) <= radii).any(1)
    return float(inside.double().mean())
