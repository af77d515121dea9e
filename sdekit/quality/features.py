"""Features of images from a small classifier, trained on the same real images and then kept."""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from sdekit_kernels.cache import cache_folder
from torch import Tensor

from sdekit.data import Dataset
from sdekit.files import write_atomically
from sdekit.quality import recipe as recipe_module
from sdekit.quality.recipe import Classifier, FeatureRecipe, fit_classifier, predict

__all__ = ["DigitFeatures", "digit_features"]

_KEY: Final = "sdekit.features"
_MADE: Final[dict[str, DigitFeatures]] = {}
"""What this process has made or read already, by key."""


@final
@dataclass(frozen=True, slots=True)
class DigitFeatures:
    """Images (N, D...) of grey levels 0..levels - 1 to features (N, F), float32.

    accuracy: share of the data's held-out images that the classifier names rightly. seconds: how
    long its training took. key: hash of the recipe and the data.
    """

    net: Classifier
    levels: int
    accuracy: float
    seconds: float
    key: str

    def __call__(self, images: Tensor) -> Tensor:
        """The last hidden layer, (N, F); raises as ``probabilities``."""
        return predict(self.net, self._checked(images), self.levels)[0]

    def probabilities(self, images: Tensor) -> Tensor:
        """Probabilities of the classes, (N, classes).

        Raises ValueError for images of another shape or with values that are no grey levels,
        TypeError for what is no tensor of integers.
        """
        return predict(self.net, self._checked(images), self.levels)[1].softmax(1)

    def _checked(self, images: Tensor) -> Tensor:
        integers = isinstance(images, Tensor) and not images.is_floating_point()
        if not integers or images.is_complex() or images.dtype == torch.bool:
            raise TypeError(
                "images must be a tensor of integers: write transform.inverse(x) for the grey "
                "levels of x"
            )
        if tuple(images.shape[1:]) != self.net.event_shape:
            raise ValueError(
                f"these features are of images (N, {', '.join(map(str, self.net.event_shape))}), "
                f"got {tuple(images.shape)}"
            )
        if images.numel() and not (int(images.min()) >= 0 and int(images.max()) < self.levels):
            raise ValueError(
                f"images must hold grey levels 0..{self.levels - 1}, got {int(images.min())} to "
                f"{int(images.max())}"
            )
        return images.cpu()


def digit_features(
    data: Dataset,
    recipe: FeatureRecipe | None = None,
    *,
    folder: Path | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> DigitFeatures:
    """Return the features of this data set: from this process, from the cache, or trained now.

    Training takes about a minute for 28 x 28 pixels on two cores. The weights depend on recipe,
    data, and, in their last bits, on the machine. They are kept in ``$SDEKIT_CACHE_DIR`` or
    ~/.cache/sdekit, named after a hash of the recipe's file, its numbers and the training data: a
    change of any makes new ones, and nothing is ever downloaded. A file that is damaged is made
    again; two processes may both train, the file of the last one stays, neither sees half of it.

    folder: another place for the file. on_step: called with (steps done, steps) in training.
    Raises ValueError for data without labels or levels. A disk that is full or read-only is a
    warning: the features then live as long as the process.
    """
    recipe = FeatureRecipe() if recipe is None else recipe
    key = _key(data, recipe)
    if folder is None and key in _MADE:
        return _MADE[key]
    place = cache_folder("features") if folder is None else folder
    path = None if place is None else place / f"{data.name}-{key[:16]}.safetensors"
    made = None if path is None else _read(path, data, recipe, key)
    if made is None:
        made = _train(data, recipe, key, on_step)
        if path is not None:
            _write(path, made)
    if folder is None:
        _MADE[key] = made
    return made


def _key(data: Dataset, recipe: FeatureRecipe) -> str:
    digest = hashlib.sha256(Path(recipe_module.__file__).read_bytes())
    digest.update(json.dumps(asdict(recipe), sort_keys=True).encode())
    for part in (data.train, data.train_labels):
        if part is not None:
            digest.update(repr((part.dtype, tuple(part.shape))).encode())
            digest.update(part.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _train(
    data: Dataset,
    recipe: FeatureRecipe,
    key: str,
    on_step: Callable[[int, int], None] | None,
) -> DigitFeatures:
    start = time.perf_counter()
    net = fit_classifier(data, recipe, on_step=on_step)
    seconds = time.perf_counter() - start
    assert data.transform is not None
    levels, accuracy = data.transform.levels, float("nan")
    if data.test_labels is not None and len(data.test):
        right = predict(net, data.test, levels)[1].argmax(1) == data.test_labels
        accuracy = float(right.double().mean())
    return DigitFeatures(net, levels, accuracy, seconds, key)


def _write(path: Path, made: DigitFeatures) -> None:
    tensors = {name: value.contiguous() for name, value in made.net.state_dict().items()}
    facts = {"key": made.key, "accuracy": made.accuracy, "seconds": made.seconds}
    about = json.dumps({**facts, "sum": _checksum(tensors)})
    try:
        write_atomically(path, serialize(tensors, metadata={_KEY: about}))
    except OSError as error:
        warnings.warn(
            f"the feature network cannot be kept ({error}) and will be trained again by the next "
            "process: set SDEKIT_CACHE_DIR to a folder with space",
            stacklevel=3,
        )


def _checksum(tensors: dict[str, Tensor]) -> str:
    """Of all bits of the weights, by name."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].contiguous().numpy().tobytes())
    return digest.hexdigest()


def _read(path: Path, data: Dataset, recipe: FeatureRecipe, key: str) -> DigitFeatures | None:
    """What ``_write`` wrote; None if there is no such file or not all of it."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()[_KEY])
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        assert data.train_labels is not None and data.transform is not None
        net = Classifier(data.event_shape, int(data.train_labels.max()) + 1, recipe)
        net.load_state_dict(state)
        whole = about["key"] == key and about["sum"] == _checksum(state)
        accuracy, seconds = float(about["accuracy"]), float(about["seconds"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError):
        return None
    if not whole:
        return None
    net.eval().requires_grad_(False)
    return DigitFeatures(net, data.transform.levels, accuracy, seconds, key)
