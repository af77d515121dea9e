"""The networks of a fit: one for each direction, or one for both; warm or fresh."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, final

from torch import Tensor, nn

from sdekit.bridge.check_net import check_net
from sdekit.bridge.grid import Direction
from sdekit.bridge.network import DriftMLP
from sdekit.train import CheckpointError

MakeNet = Callable[[Direction], nn.Module]

BOTH: Final = "both"
"""The name of a network that has both drifts; others are called by their direction."""


@final
class Networks:
    """Which network a half-step fits: that of the last one of its direction, or a new one.

    nets, make_net, fresh: as for ``Driver``. like: (0, D...), of the events. takes_one: whether one
    network of both drifts is taken. Raises TypeError for nets that do not fit.
    """

    def __init__(
        self,
        nets: Any,
        make_net: MakeNet | None,
        fresh: bool,
        *,
        takes_one: bool,
        like: Tensor,
        T: float,
        seed: int,
    ) -> None:
        if nets is not None and (make_net is not None or fresh):
            raise TypeError("give nets, or make_net (which fresh=True needs), not both")
        self._make, self.fresh, self._like, self._T, self._seed = make_net, fresh, like, T, seed
        self.noisy = True  # False: they are of a flow's velocity
        self.one: nn.Module | None = None
        self._own: dict[Direction, nn.Module] = {}
        self._given = nets is not None
        if isinstance(nets, nn.Module):
            if not takes_one:
                raise TypeError("this algorithm needs two networks: nets=(forward, backward)")
            self.one = nets
        elif nets is not None:
            pair = list(nets)
            if len(pair) != 2 or not all(isinstance(net, nn.Module) for net in pair):
                raise TypeError("nets must be (forward, backward), two torch modules")
            if pair[0] is pair[1]:
                raise TypeError("nets are one and the same network: it would forget one direction")
            self._own = {"forward": pair[0], "backward": pair[1]}
        if self.one is not None:
            check_net("the network of both drifts", self.one, like, drifts=2)
        for name, net in self._own.items():
            check_net(f"the {name} network", net, like)

    def of(self, way: Direction, half_step: int) -> nn.Module:
        """The network that this half-step fits."""
        if self.one is not None:
            return self.one
        if way not in self._own or self.fresh:
            self._own[way] = self._new(way, half_step)
        return self._own[way]

    @property
    def known(self) -> dict[str, nn.Module]:
        """Those that there are so far, by direction or as ``BOTH``."""
        if self.one is not None:
            return {BOTH: self.one}
        return {way: net for way, net in self._own.items()}

    def like_those(self, names: Iterable[str], half_step: int) -> dict[str, nn.Module]:
        """Those of these names, made where they are not there yet: to be given other weights.

        Others that were made here are forgotten: a half-step that begins makes them anew. Raises
        CheckpointError for a name that this fit does not have.
        """
        names = list(names)
        if not self._given:
            self._own = {way: made for way, made in self._own.items() if way in names}
        for name in names:
            if (name == BOTH) != (self.one is not None):
                kinds = "one network for both drifts", "two networks"
                theirs, own = kinds if self.one is None else kinds[::-1]
                raise CheckpointError(f"{theirs} there, {own} asked for: give the same nets")
            if name in ("forward", "backward") and name not in self._own:
                way: Direction = "forward" if name == "forward" else "backward"
                self._own[way] = self._new(way, half_step)
        return self.known

    def _new(self, way: Direction, half_step: int) -> nn.Module:
        if self._make is not None:
            made = self._make(way)
            check_net(f"the {way} network of make_net", made, self._like)
            return made
        # Directions, and half-steps that begin anew, have initial weights of their own.
        seed = (self._seed + half_step * 0x9E3779B97F4A7C15) % (1 << 64)
        like = self._like
        return DriftMLP(
            tuple(like.shape[1:]),
            T=self._T,
            noisy=self.noisy,
            seed=seed,
            dtype=like.dtype,
            device=like.device,
        )
