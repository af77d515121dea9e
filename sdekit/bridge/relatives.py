r"""One-shot relatives: one coupling, one regression a direction, no iteration.

                      coupling       between the ends          what is fitted
    bridge_matching   independent    the reference's bridges   v_f, v_b
    sf2m              entropic plan  the reference's bridges   v_f, v_b: a Schrödinger bridge
    flow_matching     independent    straight lines            the velocity
    ot_cfm            optimal plan   straight lines            the velocity

Bridge matching: Peluchetti 2021; Liu et al. 2022. SF2M (Tong et al. 2023, arXiv 2307.03672) fits
the flow and the score, which are (v_f - v_b) / 2 and (v_f + v_b) / g^2: the same regression in
other coordinates. Flow matching: Lipman et al. 2022, arXiv 2210.02747. OT-CFM: Tong et al. 2023,
arXiv 2302.00482. Plans are those of minibatches, so that their bias falls with the batch.
"""

from __future__ import annotations

from typing import Any, final

from sdekit_kernels.checks import check_choice

from sdekit.bridge.couplings import COUPLINGS, Coupled
from sdekit.bridge.driver import Driver
from sdekit.bridge.grid import Direction
from sdekit.bridge.matching_problems import BridgeProblem, FlowProblem
from sdekit.bridge.problems import Problem
from sdekit.bridge.regression import LeastSquares


@final
class BridgeMatching(Driver):
    """Both drifts of the reference's bridges mixed over one coupling: half-steps 1 and 2.

    start: the coupling, as for ``DSBM``. One network for both drifts is done after half-step 1.
    Other arguments: see ``Driver``.
    """

    takes_one_net = True
    noise = "own"
    options = ("start", "uniform")

    def __init__(
        self,
        source: Any,
        target: Any,
        *,
        start: str = "independent",
        times: str = "grid",
        **options: Any,
    ) -> None:
        _one_shot(options)
        super().__init__(source, target, half_steps=2, **options)
        self.start = check_choice("start", start, COUPLINGS)
        self.uniform = check_choice("times", times, ("grid", "uniform")) == "uniform"
        if self.one_net:
            self.half_steps = 1

    def direction(self, half_step: int) -> Direction:
        """Forward, then backward."""
        return "forward" if half_step % 2 else "backward"

    def problem(self, half_step: int) -> Problem:
        """The same coupling for both, by pairs of their own."""
        ends = self.transport.ends
        pairs = Coupled(self.start, ends, self.reference, self.seed, half_step, self.points)
        both: tuple[Direction, ...] = ("forward", "backward")
        way = both if self.one_net else (self.direction(half_step),)
        return BridgeProblem(
            pairs,
            self.grid,
            self.reference,
            way,
            uniform=self.uniform,
            antithetic=self.antithetic,
        )


@final
class FlowMatching(Driver):
    """The velocity of straight lines between the pairs of one coupling: one half-step.

    It samples with method="flow" alone, in both directions. start: "independent" or "ot".
    Other arguments: see ``Driver``; the reference gives T alone.
    """

    options = ("start",)
    noisy = False

    def __init__(
        self, source: Any, target: Any, *, start: str = "independent", **options: Any
    ) -> None:
        # There is no SDE that could be measured: 0 is what the argument of all algorithms may be.
        if options.pop("measure", 0):
            raise TypeError("a flow has no noise, which the measures need: leave measure away")
        if options.get("antithetic"):
            raise TypeError("straight lines have no noise to turn round: leave antithetic away")
        _one_shot(options)
        super().__init__(source, target, half_steps=1, measure=0, **options)
        self.start = check_choice("start", start, ("independent", "ot"))
        self.transport.reference, self.networks.noisy = None, False

    def direction(self, half_step: int) -> Direction:
        """Forward; the other way is the same field."""
        return "forward"

    def problem(self, half_step: int) -> Problem:
        """Straight lines."""
        ends = self.transport.ends
        pairs = Coupled(self.start, ends, None, self.seed, half_step, self.points)
        return FlowProblem(pairs, self.grid, uniform=not isinstance(self.regression, LeastSquares))


def _one_shot(options: dict[str, Any]) -> None:
    if "half_steps" in options:
        raise TypeError("one-shot fits have no iteration: leave half_steps away, or take DSBM")


def bridge_matching(source: Any, target: Any, **options: Any) -> BridgeMatching:
    """Bridge matching from independent pairs."""
    return BridgeMatching(source, target, start="independent", **options)


def sf2m(source: Any, target: Any, **options: Any) -> BridgeMatching:
    """The simulation-free Schrödinger bridge: bridge matching from entropic minibatch plans."""
    return BridgeMatching(source, target, start="entropic", **options)


def flow_matching(source: Any, target: Any, **options: Any) -> FlowMatching:
    """Flow matching from independent pairs."""
    return FlowMatching(source, target, start="independent", **options)


def ot_cfm(source: Any, target: Any, **options: Any) -> FlowMatching:
    """Flow matching from optimal minibatch plans."""
    return FlowMatching(source, target, start="ot", **options)
