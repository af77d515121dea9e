"""The U-Net: where it starts, what it depends on, its derivatives, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from sdekit.score import Gaussian, UNet
from sdekit.score.unet import SIZES
from sdekit.sde import VE, VP

pytest.importorskip("diffusers")

SMALL = {"channels": (8, 16), "layers": 1}


def inputs(n: int, *event: int) -> torch.Tensor:
    return torch.randn(n, *event, generator=torch.Generator().manual_seed(0))


def make(*event: int, **options: object) -> UNet:
    return UNet(event, **{"sde": VP(), "data_std": 0.5, **SMALL, **options})


def stirred(net: UNet) -> UNet:
    """With weights that are nowhere zero: at first the last layers are."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return net


@pytest.mark.parametrize("event", [(1, 8, 8), (3, 8, 4), (8, 8)])
@pytest.mark.parametrize("sde", [VP(), VE("edm")], ids=["vp", "edm"])
def test_first_score_is_exact_for_gaussian_data(event, sde):
    net, x = make(*event, sde=sde), inputs(4, *event)
    exact = Gaussian(0.0, 0.5, sde)
    for t in (torch.tensor([1e-4, 0.1, 0.5, 1.0]), torch.tensor(0.3)):
        torch.testing.assert_close(net(t * sde.T, x), exact(t * sde.T, x), rtol=1e-4, atol=1e-5)


def test_time_and_batch():
    net, x, t = stirred(make(8, 8)), inputs(4, 8, 8), torch.tensor(0.3)
    score = net(t, x)
    torch.testing.assert_close(net(t.expand(4), x), score)
    # A sample does not depend on its batch: group norms look at one image.
    torch.testing.assert_close(net(t, x[1:2]), score[1:2])
    torch.testing.assert_close(make_with_channel(net)(t, x[:, None]), score[:, None])
    for other in (0.01, 0.29, 0.9):
        assert not torch.allclose(net(torch.tensor(other), x), score, rtol=1e-3)


def make_with_channel(net: UNet) -> UNet:
    twin = make(1, *net.event_shape)
    twin.load_state_dict(net.state_dict())
    return twin


def test_weights_come_from_the_seed_alone():
    made = []
    for state in (0, 1):
        torch.manual_seed(state)
        before = torch.get_rng_state()
        made.append(make(8, 8, seed=7).state_dict())
        assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(made[0][k], made[1][k]) for k in made[0])
    other = make(8, 8, seed=8).state_dict()
    drawn = [k for k, v in made[0].items() if v.ndim > 1 and float(v.abs().max()) > 0]
    assert len(drawn) > 20 and not any(torch.equal(made[0][k], other[k]) for k in drawn)
    for name in drawn:
        weight = made[0][name]
        # N(0, 1 / inputs): the variance of n normals has a relative error of sqrt(2 / n).
        ratio = float(weight.square().mean()) * weight[0].numel()
        assert abs(ratio - 1) < 5 * (2 / weight.numel()) ** 0.5, name


def test_config_and_state_build_it_again():
    net = stirred(make(3, 8, 8, seed=5))
    twin = UNet(**net.config(), sde=VP())
    twin.load_state_dict(net.state_dict())
    x, t = inputs(2, 3, 8, 8), torch.tensor(0.4)
    assert torch.equal(net(t, x), twin(t, x))


def test_sizes():
    # Images of 28 x 28 are halved twice.
    assert all(len(size.channels) == 3 for size in SIZES.values())
    net = UNet((1, 28, 28), sde=VP(), size="tiny")
    assert (net.channels, net.layers) == (SIZES["tiny"].channels, SIZES["tiny"].layers)
    assert net(torch.tensor(0.5), inputs(1, 1, 28, 28)).shape == (1, 1, 28, 28)


def test_derivatives_that_divergences_and_losses_take():
    net = stirred(make(8, 8, dtype=torch.float64))
    x, v, t = inputs(2, 8, 8).double(), inputs(3, 8, 8)[1:].double(), torch.tensor(0.3).double()

    def score(x: torch.Tensor) -> torch.Tensor:
        return net(t, x)

    _, forward = torch.func.jvp(score, (x,), (v,))
    step = 1e-5
    difference = (score(x + step * v) - score(x - step * v)) / (2 * step)
    torch.testing.assert_close(forward, difference, rtol=1e-6, atol=1e-7)
    back = torch.func.vjp(score, x)[1](v)[0]
    torch.testing.assert_close((back * v).sum(), (forward * v).sum())
    many = torch.func.vmap(lambda v: torch.func.jvp(score, (x,), (v,))[1])(torch.stack([v, -v]))
    torch.testing.assert_close(many, torch.stack([forward, -forward]))
    # Sliced score matching takes the gradient of v . J v.
    (v * torch.func.jvp(score, (x,), (v,))[1]).sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in net.parameters() if p.grad is not None)
    assert float(net.unet.conv_in.weight.grad.abs().max()) > 0


def test_bad_input_says_what_is_needed():
    with pytest.raises(ValueError, match="use MLP for vectors"):
        make(5)
    with pytest.raises(ValueError, match="cannot be halved 1 times: both sides must be multiples"):
        make(1, 8, 7)
    with pytest.raises(ValueError, match="multiples of 8"):
        make(8, 8, channels=(12, 16))
    with pytest.raises(ValueError, match="Did you mean 'small'"):
        make(8, 8, size="smal")
    net, t = make(1, 8, 8), torch.tensor(0.5)
    with pytest.raises(ValueError, match=r"\(B, 1, 8, 8\)"):
        net(t, torch.ones(2, 8, 8))
    with pytest.raises(TypeError, match="weights are"):
        net(t, torch.ones(1, 1, 8, 8, dtype=torch.float64))
    assert net(torch.ones(0), torch.ones(0, 1, 8, 8)).shape == (0, 1, 8, 8)


def test_without_diffusers_it_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "sdekit\[images\]"'):
        make(8, 8)
