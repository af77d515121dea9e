"""What every data set is: a part to train on, a part held out, and the way to the space of x."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from torch import Tensor

from sdekit.likelihood import DataTransform

__all__ = ["Dataset"]


@final
@dataclass(frozen=True, slots=True)
class Dataset:
    """Two parts of one law, (N, D...) and (M, D...), that share no sample.

    name: what it is called in files and errors. train, test: integers, which ``transform`` takes to
    x, or floating-point x themselves with transform None. train_labels, test_labels: int64, (N,)
    and (M,), numbers of ``classes``, or None. skipped: files that were left out, on request.
    source: what ``sdekit.data.load`` makes it from again, in plain values, where ``name`` is not
    enough.

    Raises ValueError for an empty training part, parts of different event shapes or types, labels
    without their other half or of another number, and floating-point data with a transform.
    """

    name: str
    train: Tensor
    test: Tensor
    train_labels: Tensor | None = None
    test_labels: Tensor | None = None
    transform: DataTransform | None = None
    classes: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    source: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.train.ndim < 2 or len(self.train) == 0:
            raise ValueError(
                f"{self.name}: the training part must have shape (N, D...) with N > 0, got "
                f"{tuple(self.train.shape)}"
            )
        if self.train.shape[1:] != self.test.shape[1:] or self.train.dtype != self.test.dtype:
            raise ValueError(
                f"{self.name}: train {tuple(self.train.shape)}, {self.train.dtype}, and test "
                f"{tuple(self.test.shape)}, {self.test.dtype}, must hold events of one shape and "
                "type"
            )
        if (self.train_labels is None) != (self.test_labels is None):
            raise ValueError(f"{self.name}: give labels for both parts or for neither")
        for part, labels in ((self.train, self.train_labels), (self.test, self.test_labels)):
            if labels is not None and labels.shape != part.shape[:1]:
                raise ValueError(
                    f"{self.name}: labels of shape {tuple(labels.shape)} for {len(part)} samples"
                )
        if self.transform is not None and self.train.is_floating_point():
            raise ValueError(f"{self.name}: a transform is for integers, got {self.train.dtype}")

    @property
    def event_shape(self) -> tuple[int, ...]:
        """D...: the shape of one sample."""
        return tuple(self.train.shape[1:])

    @property
    def labels(self) -> Tensor | None:
        """The labels of the training part."""
        return self.train_labels
