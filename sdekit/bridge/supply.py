"""What a regression's examples come from, and what it costs: asked through all layers at once."""

from __future__ import annotations

from typing import Protocol


class Supply(Protocol):
    """Where paths or points come from."""

    @property
    def seconds(self) -> float:
        """Of simulation so far."""

    @property
    def most(self) -> int:
        """The largest batch."""


class Supplied:
    """What draws from a ``supply``, whose time and size it tells on; None: without any limit."""

    def __init__(self, supply: Supply | None = None) -> None:
        self.supply = supply

    @property
    def seconds(self) -> float:
        """Of simulation so far."""
        return 0.0 if self.supply is None else self.supply.seconds

    @property
    def most(self) -> int:
        """The largest batch."""
        return 1 << 31 if self.supply is None else self.supply.most
