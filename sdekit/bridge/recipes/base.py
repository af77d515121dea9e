"""What every recipe of a bridge is: plain numbers, and the driver that they make."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from sdekit.bridge.cache import Cache
from sdekit.bridge.driver import Driver
from sdekit.bridge.dsb import DSB
from sdekit.bridge.dsbm import DSBM
from sdekit.bridge.regression import Adam, Regression
from sdekit.sde import Brownian

Device = torch.device | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe(ABC):
    r"""Numbers of one fit between two ends that the recipe knows, with sigma dW on [0, 1].

    algorithm: "dsbm" or "dsb". sigma: of the reference. grid: N, gammas, ratio: see ``time_grid``.
    half_steps: of ``fit``. paths, refresh: of the ``Cache``. measure: paths that measure the bridge
    after each half-step. antithetic: examples by pairs, see ``Driver``. seed: of everything. What
    the regression takes, a subclass says.
    """

    name: ClassVar[str]
    titles: ClassVar[tuple[str, str]]
    """What is at source and target, for pictures."""

    algorithm: str = "dsbm"
    sigma: float = 1.0
    grid: int = 20
    gammas: str = "constant"
    ratio: float = 10.0
    half_steps: int = 10
    paths: int = 10_000
    refresh: int | None = None
    measure: int = 1_000
    antithetic: bool | None = None
    seed: int = 0

    @abstractmethod
    def ends(self, device: Device = "cpu") -> tuple[Any, Any]:
        """Source and target, as ``Driver`` takes them."""

    @abstractmethod
    def held_out(self, n: int, device: Device = "cpu") -> tuple[Tensor, Tensor]:
        """Points (n, D...) of both ends, or as many as there are, that no fit has seen."""

    @abstractmethod
    def regression(self, device: Device = "cpu") -> Regression:
        """How a half-step's drift is fitted."""

    @abstractmethod
    def shortened(self, steps: int) -> Recipe:
        """The same with so many steps of each regression.

        Raises ValueError where a regression has no steps.
        """

    def networks(self, device: Device = "cpu") -> dict[str, Any]:
        """``nets`` or ``make_net`` of the driver; {} for its own."""
        return {}

    def driver(self, device: Device = "cpu") -> Driver:
        """The driver, with nothing fitted yet; networks and data on this device."""
        source, target = self.ends(device)
        build: Any = DSB if self.algorithm == "dsb" else DSBM
        made: Driver = build(
            source,
            target,
            reference=Brownian(self.sigma),
            steps=self.grid,
            gammas=self.gammas,
            ratio=self.ratio,
            regression=self.regression(device),
            cache=Cache(paths=self.paths, refresh=self.refresh),
            half_steps=self.half_steps,
            measure=self.measure,
            antithetic=self.antithetic,
            seed=self.seed,
            **self.networks(device),
            **self.options(),
        )
        return made

    def options(self) -> dict[str, Any]:
        """What else the driver is given."""
        return {}

    def fit(self, *, device: Device = "cpu", **options: Any) -> Driver:
        """The driver after its ``fit(**options)``."""
        made = self.driver(device)
        made.fit(**options)
        return made

    def numbers(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {"name": self.name, **asdict(self)}

    def changed(self, **numbers: Any) -> Recipe:
        """The same recipe with other numbers; raises TypeError for an unknown name."""
        return replace(self, **numbers)


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedRecipe(Recipe, ABC):
    """A recipe whose drifts are networks.

    steps, first_steps, batch, lr, ema, clip: of ``Adam``.
    """

    steps: int = 1_000
    first_steps: int | None = None
    batch: int = 512
    lr: float = 2e-3
    ema: float = 0.999
    clip: float | None = None

    def regression(self, device: Device = "cpu") -> Adam:
        """Adam; a network has its own precision."""
        return Adam(
            steps=self.steps,
            first_steps=self.first_steps,
            batch=self.batch,
            lr=self.lr,
            ema=self.ema,
            clip=self.clip,
        )

    def shortened(self, steps: int) -> Self:
        """So many steps in every half-step."""
        return replace(self, steps=steps, first_steps=None)
