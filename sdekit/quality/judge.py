"""Whether images are digits: a classifier's confidence, nearest neighbours, precision, recall."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from sdekit.data import Dataset

__all__ = ["Judge", "Quality"]

_NEIGHBOURS = 5


@dataclass(frozen=True, slots=True)
class Quality:
    """How images compare with real digits.

    confidence: mean probability that a classifier trained on real digits gives to its choice.
    nearest: mean over images of the distance to the nearest training image, root mean square over
    pixels, in grey levels; far below that of test images it would mean copies.
    precision: share of the images that lie among the real ones; recall: share of the test images
    that lie among these (Kynkäänniemi et al. 2019, balls to the 5th neighbour, in pixels).
    classes: share of the least common class among the images.
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
    """Scores sets of images (N, D...) of grey levels against the images of a labelled data set.

    The classifier is multinomial logistic regression on pixels, regularized so that its confidence
    on test digits, 0.95, is near its accuracy there; nothing in it is random.
    Raises ValueError for data without labels, ModuleNotFoundError if scikit-learn is missing.
    """

    def __init__(self, data: Dataset) -> None:
        if data.train_labels is None:
            raise ValueError(f"{data.name} has no labels to train a classifier on")
        from sklearn.linear_model import LogisticRegression

        self._train, self._test = data.train.double().flatten(1), data.test.double().flatten(1)
        self._model = LogisticRegression(C=0.02, max_iter=2000)
        self._model.fit(self._train.numpy(), data.train_labels.numpy())
        self._classes = int(data.train_labels.max()) + 1

    def __call__(self, images: Tensor) -> Quality:
        """The numbers for images (N, D...)."""
        x = images.double().flatten(1)
        chances = torch.from_numpy(self._model.predict_proba(x.numpy()))
        counts = chances.argmax(1).bincount(minlength=self._classes).double()
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
