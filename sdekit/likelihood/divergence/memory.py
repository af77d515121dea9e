"""How many directions fit into a stated memory: measured on the field itself, at its first use."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from sdekit_kernels.checks import check_int_range
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["MEMORY", "Chunks", "LiveBytes"]

MEMORY: Final = 256 << 20
"""Bytes that the directions processed together may take, unless the caller says otherwise."""

# The first two chunks are short and are measured: two points of the line "fixed + per direction".
# Two directions, not one, are the shorter: a batch of one lets torch skip copies.
_MEASURED: Final = (2, 4)


class Chunks:
    """The number of directions that are vectorized at a time, so that they stay within ``memory``.

    What is counted: the most bytes that the tensors made while a chunk of directions is multiplied
    with the Jacobian hold at once, the products included. Forward mode evaluates the field again
    with each chunk, and these activations count. What is not: the activations that reverse mode
    stores, whatever the chunk; x, the probes and all else that lives longer than a chunk; the
    allocator's own overhead. A chunk has one direction at least, so a field that needs more for one
    direction goes beyond: split the batch.

    memory: bytes. chunk: a number of directions, which overrides it.
    Raises TypeError or ValueError if one of them is no integer >= 1.
    """

    def __init__(self, memory: int = MEMORY, chunk: int | None = None) -> None:
        self.memory = check_int_range("memory", memory, 1, 1 << 62)
        self.chunk = None if chunk is None else check_int_range("chunk", chunk, 1, 1 << 62)
        # Measured (directions, bytes a sample).
        self._points: list[tuple[int, float]] = []

    def size(self, samples: int) -> int:
        """Directions to take next for this many samples."""
        if self.chunk is not None:
            return self.chunk
        if len(self._points) < len(_MEASURED):
            return _MEASURED[len(self._points)]
        fixed, slope = self.cost()
        room = self.memory / max(1, samples) - fixed
        return max(1, int(room / slope)) if slope > 0.0 else 1 << 62

    def cost(self) -> tuple[float, float]:
        """Bytes a sample, and bytes a sample and direction, as far as measured."""
        if not self._points:
            return 0.0, 0.0
        (n0, b0), (n1, b1) = self._points[0], self._points[-1]
        if n1 <= n0 or b1 <= b0:
            return 0.0, b0 / n0
        slope = (b1 - b0) / (n1 - n0)
        return max(0.0, b0 - n0 * slope), slope

    @contextmanager
    def watching(self, directions: int, samples: int, total: int) -> Iterator[None]:
        """Measures what runs inside, as long as that is needed to choose a size."""
        known = self.chunk is not None or len(self._points) == len(_MEASURED)
        if known or total <= _MEASURED[0] or samples == 0:
            yield
            return
        with LiveBytes() as live:
            yield
        self._points.append((directions, live.peak / samples))


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of tensors made inside it that are alive: ``now``, and their ``peak``."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:  # The signature is torch's.
        """Runs the operation; what only appears as an argument was there before: 0 bytes."""
        kwargs = kwargs or {}
        self._note((args, kwargs), made=False)
        out = func(*args, **kwargs)
        self._note(out, made=True)
        return out

    def _note(self, tree: Any, *, made: bool) -> None:
        for leaf in tree_leaves(tree):
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                key = storage._cdata
                if key not in self._sizes:
                    self._sizes[key] = storage.nbytes() if made else 0
                    self.now += self._sizes[key]
                    self.peak = max(self.peak, self.now)
                    # Views share their storage: it is freed with the last of them.
                    weakref.finalize(storage, self._free, key)

    def _free(self, key: int) -> None:
        self.now -= self._sizes.pop(key)
