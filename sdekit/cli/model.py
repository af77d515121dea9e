"""A trained model as the commands use it: with its data set, and the pictures of its samples."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from sdekit import viz
from sdekit.cli.errors import InputError
from sdekit.data import Dataset, load
from sdekit.train import Checkpoint, load_checkpoint

__all__ = ["Model", "open_model", "take"]


@final
@dataclass(frozen=True)
class Model:
    """A checkpoint, where it came from, and what its samples are.

    Samples are images where the events are (H, W), (1, H, W) or (3, H, W) and a transform makes
    grey levels of them; points of the plane where the events are (2,).
    """

    path: Path
    checkpoint: Checkpoint

    @property
    def event_shape(self) -> tuple[int, ...]:
        """D...: the shape of one sample."""
        return self.checkpoint.net.event_shape

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.checkpoint.net.parameters()).device

    @property
    def is_images(self) -> bool:
        """Whether samples can be drawn as images of grey levels or colours."""
        shape = self.event_shape
        flat = len(shape) == 2 or (len(shape) == 3 and shape[0] in (1, 3))
        return flat and self.checkpoint.transform is not None

    @property
    def limits(self) -> tuple[int, int]:
        """The smallest and the largest grey level."""
        assert self.checkpoint.transform is not None
        return 0, self.checkpoint.transform.levels - 1

    @cached_property
    def data(self) -> Dataset:
        """The data set that it was trained on; raises InputError if the checkpoint names none."""
        source = self.checkpoint.info.get("data")
        if not isinstance(source, (str, dict)):
            raise InputError(f"{self.path} does not say what data it was trained on")
        name = source if isinstance(source, str) else source.get("path")
        with warnings.catch_warnings():
            # That files of the folder were left out was said when it was trained on.
            warnings.simplefilter("ignore", UserWarning)
            try:
                data = load(source)
            except TypeError as error:
                raise InputError(
                    f"{self.path} says in a way that this sdekit does not know what data it was "
                    f"trained on: {error}"
                ) from None
            except FileNotFoundError as error:
                raise InputError(
                    f"{self.path} was trained on the images in {name}, which is not there any more"
                ) from error
        if data.event_shape != self.event_shape:
            raise InputError(
                f"{self.path} is a model of data of shape {self.event_shape}, but {name} has "
                f"{data.event_shape}"
            )
        return data

    def need_images(self, command: str) -> None:
        """Raise InputError unless samples are images."""
        if not self.is_images:
            raise InputError(
                f"sdekit {command} is for models of images, and {self.path} is one of data of "
                f"shape {self.event_shape}"
            )

    def part(self, name: str, n: int) -> Tensor:
        """The first n of the "test" or "train" part; raises InputError if there are less."""
        if name not in ("test", "train"):
            raise InputError(f"unknown part {name!r}: write test or train")
        return take(getattr(self.data, name), n, f"{name} images of {self.data.name}")

    def levels(self, x: Tensor) -> Tensor:
        """Samples x as what is drawn, on the CPU: grey levels, or x itself without a transform."""
        transform, x = self.checkpoint.transform, x.cpu()
        return x if transform is None else transform.inverse(x)

    def picture(self, out: Path, sets: Mapping[str, Tensor], columns: int | None = None) -> None:
        """Sets of samples (N, D...), as ``levels`` gives them, side by side under their titles.

        Raises InputError for samples that are neither images nor points of the plane.
        """
        if self.is_images:
            most = max(len(x) for x in sets.values())
            across = max(10, math.ceil(most**0.5)) if columns is None else columns
            viz.image_grids(out, sets, columns=across, limits=self.limits)
        elif self.event_shape == (2,):
            viz.clouds(out, sets)
        else:
            raise InputError(
                f"samples of shape {self.event_shape} have no picture: write --out FILE.npy"
            )


def open_model(path: Path, device: torch.device | str = "cpu") -> Model:
    """The model of a checkpoint, or of the folder of a training so far, on this device."""
    return Model(path, load_checkpoint(path, device=device))


def take(images: Tensor, n: int, what: str) -> Tensor:
    """The first n images; raises InputError unless there are so many."""
    if not 1 <= n <= len(images):
        raise InputError(f"there are {len(images)} {what}: write a number from 1 to {len(images)}")
    return images[:n]
