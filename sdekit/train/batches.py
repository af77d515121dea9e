"""The batches of a training: which samples, changed how, as what x. Functions of seed and step."""

from __future__ import annotations

import hashlib
from typing import Final, Protocol, final

import torch
from sdekit_kernels.checks import check_int_range
from torch import Tensor

from sdekit.data import permutation
from sdekit.likelihood import DataTransform
from sdekit.noise import keys

SHUFFLE_STREAM: Final = keys.TRAIN


class Augment(Protocol):
    """Changes a batch of data; ``seed`` and ``step`` name the draw, ``way`` is in [0, 1)."""

    def __call__(self, images: Tensor, *, seed: int, step: int, way: float) -> Tensor:
        """The changed batch, of the same shape."""


@final
class Batches:
    """Batches x (B, D...) of data (N, D...): each pass over them in a fresh order.

    data: integers, which ``transform`` dequantizes with fresh noise, or numbers, taken as they are
    where transform is None. batch: N at the most. A pass leaves out the N modulo B last ones of its
    order.
    Raises ValueError for data without samples or with numbers that are not finite, TypeError for
    integers without a transform.
    """

    def __init__(
        self,
        data: Tensor,
        transform: DataTransform | None,
        *,
        batch: int,
        seed: int,
        dtype: torch.dtype,
        device: torch.device,
        augment: Augment | None = None,
    ) -> None:
        n = data.shape[0] if data.ndim else 0
        if n == 0:
            raise ValueError("data has no samples")
        if transform is None and not data.is_floating_point():
            raise TypeError(
                f"data are {data.dtype}: integers need a transform=DataTransform(levels), which "
                "makes x of them; write data.float() for numbers that are x already"
            )
        _check_finite(data)
        self.batch = min(check_int_range("batch", batch, 1, 1 << 31), n)
        self.data, self.transform, self.augment = data, transform, augment
        self.seed = check_int_range("seed", seed, 0, 1 << 64)
        self._dtype, self._device = dtype, device
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)

    def __call__(self, step: int, way: float) -> Tensor:
        """The batch of this step, 0, 1, ..; ``way`` is for the augmentation."""
        per_epoch = len(self.data) // self.batch
        epoch, place = divmod(step, per_epoch)
        if epoch != self._epoch:
            self._order = permutation(
                len(self.data), seed=self.seed, stream=SHUFFLE_STREAM, step=epoch
            )
            self._epoch = epoch
        rows = self._order[place * self.batch : (place + 1) * self.batch]
        chosen = self.data[rows.to(self.data.device)]
        if self.augment is not None:
            chosen = self.augment(chosen, seed=self.seed, step=step, way=way)
        chosen = chosen.to(self._device)
        if self.transform is None:
            return chosen.to(self._dtype)
        # Step 0 of the dequantization noise is left to the data that are scored.
        return self.transform.forward(chosen, seed=self.seed, step=step + 1, dtype=self._dtype)

    def to_unit(self, x: Tensor) -> Tensor:
        """x for a picture, in [0, 1]: from the transform's interval, or that of the data."""
        if self.transform is not None:
            low, high = self.transform.low, self.transform.high
        else:
            low, high = float(self.data.min()), float(self.data.max())
        return ((x - low) / max(high - low, 1e-12)).clamp(0.0, 1.0)

    def fingerprint(self) -> str:
        """A hash of the data: a run is gone on with on the same ones."""
        return fingerprint(self.data)


def fingerprint(data: Tensor) -> str:
    """A hash of shape, type and all bits of a tensor."""
    data = data.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{tuple(data.shape)} {data.dtype} ".encode())
    digest.update(data.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _check_finite(data: Tensor) -> None:
    """Raises ValueError that counts the numbers that are NaN or infinite, and names a sample."""
    if not data.is_floating_point():
        return
    bad = ~data.isfinite().reshape(len(data), -1).all(1)
    if bool(bad.any()):
        raise ValueError(
            f"data has NaN or infinite numbers in {int(bad.sum())} of {len(data)} samples, the "
            f"first of them is sample {int(bad.nonzero()[0])}: leave those out"
        )
