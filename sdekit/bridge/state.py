"""What a half-step leaves: its losses, its measures, and where its time went."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

from sdekit.bridge.grid import Direction, check_direction


class Estimate(NamedTuple):
    """A number and its standard error."""

    value: float
    std_error: float


class EndError(NamedTuple):
    """How far samples that arrive at an end are from it.

    sliced: the sliced 2-Wasserstein distance; floor: that of two sets of draws of the end itself,
    of the same size. mmd: the squared maximum mean discrepancy.
    """

    sliced: float
    floor: float
    mmd: Estimate


@dataclass(frozen=True, slots=True)
class Measures:
    r"""How far from a bridge, after a half-step.

    source, target: errors of the paths that arrive there, backward and forward, each as of the last
    half-step that changed it. change: KL in nats of the fitted half-bridge from the last one of its
    direction (Girsanov). reversibility: the symmetric divergence of the forward and the backward
    process, KL(P_f | P_b) + KL(P_b | P_f) in nats where both ends are met, see
    ``sdekit.bridge.monitor``. None: there is nothing to compare with yet.
    """

    source: EndError | None = None
    target: EndError | None = None
    change: Estimate | None = None
    reversibility: Estimate | None = None


@dataclass(frozen=True, slots=True)
class BridgeState:
    """After half-step ``half_step``, 1, 2, .., which fitted the drift of ``direction``.

    losses: of each step of the regression, or of each time where least squares fitted them.
    seconds: by part, "simulation", "regression" and "measures".
    """

    half_step: int
    direction: Direction
    losses: tuple[float, ...]
    measures: Measures = field(default_factory=Measures)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def loss(self) -> float:
        """The mean loss of the last tenth."""
        tail = self.losses[-max(1, len(self.losses) // 10) :]
        return sum(tail) / len(tail)


def to_plain(state: BridgeState) -> dict[str, Any]:
    """A state in JSON's values, exactly, without its losses."""
    measures = {f.name: _plain(getattr(state.measures, f.name)) for f in fields(Measures)}
    seconds = {k: round(v, 3) for k, v in state.seconds.items()}
    kept = {"half_step": state.half_step, "direction": state.direction, "seconds": seconds}
    return {**kept, "measures": measures}


def from_plain(plain: dict[str, Any], losses: tuple[float, ...]) -> BridgeState:
    """The inverse of ``to_plain``; raises KeyError or TypeError for what is none."""
    found = plain["measures"]
    measures = Measures(
        source=_end(found["source"]),
        target=_end(found["target"]),
        change=_estimate(found["change"]),
        reversibility=_estimate(found["reversibility"]),
    )
    direction = check_direction(plain["direction"])
    return BridgeState(plain["half_step"], direction, losses, measures, dict(plain["seconds"]))


def _plain(value: Any) -> Any:
    """Tuples as lists, numbers that JSON does not have as words."""
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return repr(value) if isinstance(value, float) and not math.isfinite(value) else value


def _end(plain: list[Any] | None) -> EndError | None:
    if plain is None:
        return None
    sliced, floor, (value, error) = plain
    return EndError(float(sliced), float(floor), Estimate(float(value), float(error)))


def _estimate(plain: list[Any] | None) -> Estimate | None:
    return None if plain is None else Estimate(*map(float, plain))
