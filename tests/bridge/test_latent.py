"""Films: latents whose law is known at every frame, and images that move because they do."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from sdekit.bridge import AffineDrift, FlowMatching, latent_film, latent_path, time_grid
from sdekit.bridge.closed_form import gaussian_bridge
from sdekit.bridge.drifts import ReferenceDrift
from sdekit.bridge.ends import two_ends
from sdekit.bridge.transport import Transport
from sdekit.sde import OU, Brownian

H = 0.2


def test_every_frame_has_the_stated_law_and_correlation() -> None:
    n, mean = 8_000, torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    std = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    z = latent_path((n, 3), 25, h=H, mean=mean, std=std, seed=3, dtype=torch.float64)
    assert z.shape == (25, n, 3)
    unit = (z - mean) / std
    # 150 means and variances: of so many, none is beyond 4.5 standard errors with p = 0.999.
    assert float(unit.mean(1).abs().max()) < 4.5 / math.sqrt(n)
    assert float((unit.square().mean(1) - 1.0).abs().max()) < 4.5 * math.sqrt(2.0 / n)
    for lag in (1, 3, 10, 24):
        rho = math.exp(-lag * H)
        found = (unit[lag:] * unit[:-lag]).mean(1)
        # Var(xy) = 1 + rho^2 for two normals of that correlation.
        assert float((found - rho).abs().max()) < 4.5 * math.sqrt((1.0 + rho**2) / n)
    # Components and samples know nothing of each other.
    assert abs(float((unit[:, :, 0] * unit[:, :, 1]).mean(1).max())) < 4.5 / math.sqrt(n)
    assert abs(float((unit[5, 1:] * unit[5, :-1]).mean())) < 4.5 / math.sqrt(3 * n)
    # Markov: the innovation of a frame knows nothing of the frame before the last.
    fresh = unit[2:] - math.exp(-H) * unit[1:-1]
    size = math.sqrt(-math.expm1(-2.0 * H))
    assert float((fresh * unit[:-2]).mean(1).abs().max()) < 4.5 * size / math.sqrt(n)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_splits_of_the_batch_have_the_same_bits(dtype: torch.dtype) -> None:
    options: dict[str, Any] = dict(h=0.1, seed=5, dtype=dtype)
    whole = latent_path((7, 3, 5), 6, **options)
    assert whole.dtype == dtype
    parts = [latent_path((2, 3, 5), 6, first_sample=0, **options)]
    parts.append(latent_path((5, 3, 5), 6, first_sample=2, **options))
    assert torch.equal(torch.cat(parts, 1), whole)
    # A longer film begins as the shorter one; another seed is another film.
    assert torch.equal(latent_path((7, 3, 5), 9, **options)[:6], whole)
    assert not torch.equal(latent_path((7, 3, 5), 6, **(options | dict(seed=6))), whole)


def exact_bridge() -> tuple[Transport, Tensor, Tensor]:
    """N(0, 1) to a Gaussian of the plane: the Schrödinger bridge's own drifts on 20 steps."""
    zero, one = torch.zeros(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64)
    mean = torch.tensor([1.0, -0.5], dtype=torch.float64)
    cov = torch.tensor([[0.6, 0.3], [0.3, 0.4]], dtype=torch.float64)
    law, grid = gaussian_bridge(zero, one, mean, cov, sigma=1.0), time_grid(20, 1.0)
    ahead = law.forward_drift(grid.asked("forward"))
    back = law.backward_drift(grid.asked("backward"))
    made = Transport(
        grid,
        Brownian(1.0),
        two_ends(torch.zeros(4, 2).double(), torch.zeros(4, 2).double(), (0, 1)),
        AffineDrift(ahead.matrix, ahead.shift, grid, "forward"),
        AffineDrift(-back.matrix, -back.shift, grid, "backward"),
        fuse=False,
    )
    return made, mean, cov


def test_images_follow_their_latents_along_the_flow() -> None:
    bridge, mean, cov = exact_bridge()
    n, h = 400, 0.05
    z = latent_path((n, 2), 4, h=h, seed=1, dtype=torch.float64)
    x = latent_film(bridge, z)
    assert x.shape == z.shape and torch.equal(latent_film(bridge, z), x)
    # Each frame has the target's law: the drifts are held in the first and last of 20 steps, which
    # costs some 0.02; besides that 4.5 standard errors.
    error = 4.5 / math.sqrt(n)
    assert float((x.mean(1) - mean).abs().max()) < 0.02 + error
    for frame in x:
        assert float((torch.cov(frame.mT) - cov).abs().max()) < 0.02 + 1.5 * error
    # The flow between Gaussians is affine: neighbours are as near as those of the latents are.
    rows = torch.cat([z.flatten(0, 1), torch.ones(4 * n, 1, dtype=torch.float64)], 1)
    matrix = torch.linalg.lstsq(rows, x.flatten(0, 1)).solution
    assert float((rows @ matrix - x.flatten(0, 1)).abs().max()) < 1e-3
    moved = (x[1:] - x[:-1]).square().sum(2).mean(1)
    expected = 2.0 * -math.expm1(-h) * float(cov.trace())
    assert float((moved / expected - 1.0).abs().max()) < 0.05 + 4.5 * math.sqrt(2.0 / n)
    # One after the other, as all together.
    one = torch.cat([latent_film(bridge, frame[None]) for frame in z])
    assert float((one - x).abs().max()) < 1e-9
    # And back to the latents.
    back = latent_film(bridge, x, direction="backward", rtol=1e-6, atol=1e-6)
    assert float((back - z).abs().max()) < 5e-3


def test_an_sde_with_its_noise_held_fixed() -> None:
    reference = OU(0.7, 0.4, 0.9)
    x0 = torch.zeros(4, 3, 2)
    bridge = Transport(
        time_grid(8, 1.0),
        reference,
        two_ends(x0, x0, (0, 1)),
        ReferenceDrift(reference),
        fuse=False,
    )
    z = latent_path((5, 3, 2), 4, h=0.05, seed=2)
    z = torch.cat([z, z[-1:]])
    x = latent_film(bridge, z, method="sde", seed=6)
    # What does not move stays where it is; all frames have the same noise, so that images differ
    # by what the latents differ, times what Euler's steps leave of it.
    assert torch.equal(x[3], x[4]) and not torch.equal(x[2], x[3])
    shrink = (1.0 - 0.7 / 8) ** 8
    assert torch.allclose(x[1] - x[0], shrink * (z[1] - z[0]), atol=1e-6)
    assert torch.equal(bridge.sample(z[2], seed=6), x[2])
    # Splits of the batch have the same bits.
    parts = [latent_film(bridge, z[:, :2], method="sde", seed=6)]
    parts.append(latent_film(bridge, z[:, 2:], method="sde", seed=6, first_sample=2))
    assert torch.equal(torch.cat(parts, 1), x)
    assert not torch.equal(latent_film(bridge, z, method="sde", seed=7), x)


def test_states_at_given_times_of_the_sde() -> None:
    x = torch.zeros(4_000, 1, dtype=torch.float64)
    reference = Brownian(1.0)
    bridge = Transport(
        time_grid(4, 1.0),
        reference,
        two_ends(x, x, (0, 1)),
        ReferenceDrift(reference),
        lambda t, x: torch.zeros_like(x),
        fuse=False,
    )
    for direction, times in (("forward", [0.0, 0.375, 0.5, 1.0]), ("backward", [1.0, 0.625, 0.0])):
        shown = bridge.sample(x, direction=direction, times=times)
        whole = bridge.sample(x, direction=direction, paths=True)
        on_grid = [i for i, t in enumerate(times) if t in (0.0, 0.5, 1.0)]
        steps = [round(4 * (times[i] if direction == "forward" else 1 - times[i])) for i in on_grid]
        assert torch.equal(shown[on_grid], whole[steps])
        assert torch.equal(bridge.sample(x, direction=direction), whole[-1])
        # Between two grid times 1/4 apart, halfway: the mean of both ends, and a variance of 1/16.
        z = (shown[1] - 0.5 * (whole[1] + whole[2])) / 0.25
        assert abs(float(z.mean())) < 4.5 / math.sqrt(4_000)
        assert abs(float(z.square().mean()) - 1.0) < 4.5 * math.sqrt(2.0 / 4_000)


def test_states_at_given_times_of_the_flow() -> None:
    x = torch.linspace(-1.0, 1.0, 6, dtype=torch.float64).view(6, 1)
    bridge = FlowMatching(x, x, steps=5)
    bridge.transport.forward = lambda t, x: x * (2.0 * t.view(-1, 1) if t.ndim else 2.0 * t)
    exact = {"rtol": 1e-8, "atol": 1e-8}
    # dx/dt = 2 t x: x(t) = x(0) e^{t^2}.
    times = [0.1, 0.55, 0.9, 1.0]
    shown = bridge.sample(x, times=times, **exact)
    assert torch.allclose(shown, torch.stack([x * math.exp(t * t) for t in times]), rtol=1e-6)
    back = bridge.sample(x, direction="backward", times=[1.0, 0.3, 0.0], **exact)
    expected = torch.stack([x, x * math.exp(0.09 - 1.0), x * math.exp(-1.0)])
    assert torch.allclose(back, expected, rtol=1e-6)
    whole = bridge.sample(x, paths=True, **exact)
    assert len(whole) == 6 and torch.equal(whole[-1], bridge.sample(x, **exact))
    assert torch.equal(whole[0], x)


def test_bad_input() -> None:
    bridge, _, _ = exact_bridge()
    z = latent_path((2, 2), 3, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"shape must be \(B, D...\).*got 5"):
        latent_path(5, 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"shape must be \(B, D...\)"):
        latent_path((5,), 3)
    with pytest.raises(ValueError, match="frames"):
        latent_path((5, 2), 0)
    with pytest.raises(ValueError, match="h must be finite and above zero"):
        latent_path((5, 2), 3, h=-0.1)
    with pytest.raises(ValueError, match="std"):
        latent_path((5, 2), 3, std=-1.0)
    with pytest.raises(ValueError, match=r"write latent_path\(\(B, D...\), frames\)"):
        latent_film(bridge, z[0])
    with pytest.raises(ValueError, match="unknown method"):
        latent_film(bridge, z, method="ode")
    with pytest.raises(ValueError, match="unknown direction"):
        latent_film(bridge, z, direction="up")
    with pytest.raises(ValueError, match="x has shape"):
        latent_film(bridge, z[:, :, :1])
    with pytest.raises(TypeError, match="not both"):
        bridge.sample(z[0], paths=True, times=[0.5])
    for method in ("sde", "flow"):
        with pytest.raises(ValueError, match=r"^times\[1\] = 1.5 lies outside the solved interval"):
            bridge.sample(z[0], times=[0.5, 1.5], method=method)
        with pytest.raises(ValueError, match=r"^times must run strictly the way .*times\[1\] = "):
            bridge.sample(z[0], times=[0.5, 0.25], method=method)
        with pytest.raises(TypeError, match=r"^times must be a sequence of numbers"):
            bridge.sample(z[0], times="half", method=method)
