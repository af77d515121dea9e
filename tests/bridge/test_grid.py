"""One grid: what the network sees in training for step k is what it is asked in sampling step k."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sdekit.bridge import DSB, DSBM, Adam, Cache, time_grid
from sdekit.bridge.grid import DIRECTIONS, GAMMAS
from sdekit.sde import OU, Brownian


@pytest.mark.parametrize("n", [1, 2, 5, 20])
@pytest.mark.parametrize("gammas", GAMMAS)
def test_shapes(gammas: str, n: int) -> None:
    grid = time_grid(n, 2.5, gammas=gammas, ratio=8.0)
    steps = grid.times.diff()
    assert n == grid.N and grid.T == 2.5 and float(grid.times[0]) == 0.0
    assert bool((steps > 0).all())
    if gammas == "ramp":
        assert torch.allclose(steps, steps.flip(0), rtol=1e-10)
        if n > 2:
            assert float(steps.max() / steps[0]) == pytest.approx(8.0)
    elif n > 1:
        assert float(steps[-1] / steps[0]) == pytest.approx(1.0 if gammas == "constant" else 8.0)
    if gammas == "geometric" and n > 2:
        assert float(steps[2] / steps[1]) == pytest.approx(float(steps[1] / steps[0]))


@pytest.mark.parametrize("gammas", GAMMAS)
@pytest.mark.parametrize("n", [1, 2, 7])
def test_the_two_directions(gammas: str, n: int) -> None:
    grid = time_grid(n, 1.0, gammas=gammas)
    t = grid.times.tolist()
    assert grid.asked("forward").tolist() == t[:-1]
    assert grid.asked("backward").tolist() == t[:0:-1]
    assert grid.lengths("backward").tolist() == grid.lengths("forward").flip(0).tolist()
    for direction in ("forward", "backward"):
        asked = grid.asked(direction)  # type: ignore[arg-type]
        near = asked.float() + 1e-7
        assert grid.nearest(direction, near).tolist() == list(range(n))  # type: ignore[arg-type]


class Recorder(torch.nn.Module):
    """A drift of zero that writes down at which times it was asked in training and in sampling."""

    def __init__(self, both: bool = False) -> None:
        super().__init__()
        self.weight, self.both = torch.nn.Parameter(torch.zeros(())), both
        self.seen: dict[str, list[Tensor]] = {"training": [], "sampling": []}

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        # Only the learner calls it with gradients switched on.
        kind = "training" if torch.is_grad_enabled() else "sampling"
        self.seen[kind].append(t.detach().reshape(-1).clone())
        out = self.weight * x
        return torch.stack([out, out], 1) if self.both else out


@pytest.mark.parametrize("algorithm", ["dsb", "dsb score", "dsbm", "dsbm one net"])
@pytest.mark.parametrize("gammas", ["constant", "ramp"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_training_and_sampling_times_are_the_same_bits(
    algorithm: str, gammas: str, dtype: torch.dtype
) -> None:
    steps, x = 7, torch.linspace(-1.0, 1.0, 64, dtype=dtype).view(32, 2)
    common = dict(
        steps=steps,
        gammas=gammas,
        reference=OU(1.0, 0.0, 1.0, T=0.7),
        regression=Adam(steps=steps, batch=32, lr=1e-12),
        cache=Cache(paths=32),
        half_steps=2,
        measure=0,
        fuse=False,
    )
    one = algorithm == "dsbm one net"
    nets = [Recorder(one)] * 2 if one else [Recorder(), Recorder()]
    if algorithm.startswith("dsbm"):
        bridge = DSBM(x, x + 1.0, nets=nets[0] if one else nets, **common)  # type: ignore[arg-type]
    else:
        first = "score" if "score" in algorithm else "paths"
        bridge = DSB(x, x + 1.0, first=first, nets=nets, **common)  # type: ignore[arg-type]
    bridge.fit()
    grid = bridge.grid
    for net, direction in zip(nets, DIRECTIONS, strict=True):
        net.seen["sampling"].clear()
        bridge.sample(x, direction=direction)
        # The solver looks at an equation before it steps, and may ask twice at the first time.
        asked = torch.cat(net.seen["sampling"]).unique()
        trained = torch.cat(net.seen["training"]).unique()
        expected = grid.asked(direction).to(dtype).unique()  # type: ignore[arg-type]
        assert torch.equal(asked, expected)
        # One network of both drifts sees all times of the grid.
        assert torch.equal(trained, grid.times.to(dtype) if one else expected)


def test_each_time_is_seen_as_often_as_the_others() -> None:
    x = torch.linspace(-1.0, 1.0, 60, dtype=torch.float64).view(30, 2)
    nets = (Recorder(), Recorder())
    regression = Adam(steps=10, batch=30, lr=1e-12)
    cache = Cache(paths=30)
    DSB(
        x, x, steps=5, nets=nets, regression=regression, cache=cache, half_steps=1, measure=0,
        fuse=False,
    ).fit()  # fmt: skip
    times, counts = torch.cat(nets[1].seen["training"]).unique(return_counts=True)
    assert len(times) == 5 and counts.tolist() == [60] * 5


def test_bad_grids() -> None:
    with pytest.raises(ValueError, match="steps"):
        time_grid(0, 1.0)
    with pytest.raises(ValueError, match="gammas"):
        time_grid(5, 1.0, gammas="linera")
    with pytest.raises(ValueError, match=r"gammas\[1\] = -0.2"):
        time_grid(None, 1.0, gammas=torch.tensor([1.0, -0.2, 0.2]))
    with pytest.raises(ValueError, match=r"give it T=0\.8"):
        time_grid(None, 1.0, gammas=torch.tensor([0.4, 0.4]))
    with pytest.raises(ValueError, match="2 gammas for steps=3"):
        time_grid(3, 1.0, gammas=torch.tensor([0.5, 0.5]))
    with pytest.raises(ValueError, match="ratio"):
        time_grid(3, 1.0, gammas="ramp", ratio=-1.0)
    x = torch.zeros(4, 1)
    with pytest.raises(ValueError, match="steps"):
        DSB(x, x, reference=Brownian(1.0), steps=0)
