r"""Examples by pairs: one with noise z, one with -z.

A target has the noise of its state: z g / \sqrt{\gamma} of a step, z / std of a point between two
ends. The gradient of the squares has therefore a noise of order 1 / \sqrt{\gamma}, though the drift
that is fitted has none. z and -z are as likely as each other, whatever came before them; seen one
beside the other, at states x + s z and x - s z, what is left of their noises is the difference of
the network's gradients at two near states, of order s: the 1 / \sqrt{\gamma} is gone. What the
squares are smallest at stays as it was. (Antithetic variates: Hammersley & Morton 1956. That score
matching is the limit of such a difference: Vincent 2011, Song et al. 2019.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor


@final
@dataclass(frozen=True, slots=True)
class Pairing:
    """Whether examples come by pairs; rows 2 i and 2 i + 1 are then those of draw i."""

    antithetic: bool

    def draws(self, size: int) -> int:
        """How many draws make so many examples; of an odd number the last pair has one alone."""
        return (size + 1) // 2 if self.antithetic else size

    def of(self, rows: slice, size: int) -> tuple[slice, slice]:
        """The draws behind these rows of a batch, and where the rows are among their examples."""
        start, stop, _ = rows.indices(size)
        if not self.antithetic:
            return slice(start, stop), slice(0, stop - start)
        first = start // 2
        return slice(first, (stop + 1) // 2), slice(start - 2 * first, stop - 2 * first)

    def twice(self, v: Tensor, size: int | None = None) -> Tensor:
        """What the rows of a pair share, (draws, ...) -> (size, ...)."""
        return v.repeat_interleave(2, 0)[:size] if self.antithetic else v

    def signs(self, z: Tensor, size: int | None = None) -> Tensor:
        """The noises of so many examples: z_0, -z_0, z_1, -z_1, .."""
        return self.mixed(z, -z, size) if self.antithetic else z

    def mixed(self, first: Tensor, second: Tensor, size: int | None = None) -> Tensor:
        """Row i of the one, row i of the other, and so on; the first ones alone without pairs."""
        if not self.antithetic:
            return first
        return torch.stack([first, second], 1).flatten(0, 1)[:size]
