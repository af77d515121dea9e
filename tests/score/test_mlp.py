"""The small network: where it starts, what it depends on, and that it can learn."""

from __future__ import annotations

import pytest
import torch

from sdekit.score import MLP, Gaussian, GaussianMixture
from sdekit.sde import OU, VE, VP, SubVP

SDES = {
    "vp": VP(),
    "subvp": SubVP(),
    "ve": VE(),
    "edm": VE("edm"),
    "ou": OU(1.0, 0.5, 0.8),
    "ou_components": OU([[1.0, 0.5, 2.0]] * 2, 0.1, 0.8),
}


def inputs(n: int, *event: int) -> torch.Tensor:
    return torch.randn(n, *event, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", SDES)
def test_first_score_is_exact_for_gaussian_data(name):
    sde = SDES[name]
    net = MLP((2, 3), 16, 2, sde=sde, data_std=0.5)
    x = inputs(4, 2, 3)
    exact = Gaussian(sde.offset, 0.5, sde)
    for t in (torch.tensor([1e-4, 0.1, 0.5, 1.0]), torch.tensor(0.3)):
        t = t * sde.T
        torch.testing.assert_close(net(t, x), exact(t, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SDES)
def test_one_time_for_all_is_that_time_for_each(name):
    sde = SDES[name]
    net = MLP((2, 3), 16, 2, sde=sde)
    net.outlet.weight.data.normal_(generator=torch.Generator().manual_seed(1))
    x, t = inputs(4, 2, 3), torch.tensor(0.3 * sde.T)
    score = net(t, x)
    assert score.shape == x.shape
    torch.testing.assert_close(net(t.expand(4), x), score)
    torch.testing.assert_close(net(t, x[1:2]), score[1:2])
    assert torch.isfinite(net(torch.tensor(1e-5 * sde.T), x)).all()
    assert not torch.allclose(net(torch.tensor(0.9 * sde.T), x), score)


def test_weights_come_from_the_seed_alone():
    made = []
    for state in (0, 1):
        torch.manual_seed(state)
        before = torch.get_rng_state()
        made.append(MLP((5,), 32, 2, sde=VP(), seed=7))
        assert torch.equal(torch.get_rng_state(), before)
    first, second = (m.state_dict() for m in made)
    assert all(torch.equal(first[k], second[k]) for k in first)
    other = MLP((5,), 32, 2, sde=VP(), seed=8)
    assert not torch.equal(other.inlet.weight, made[0].inlet.weight)
    block = made[0].blocks[0]
    assert not torch.equal(block.first.weight, block.second.weight)
    # 1024 weights N(0, 1/32): the variance has a relative standard error of sqrt(2/1024) = 0.044.
    assert abs(float(block.first.weight.detach().var()) * 32 - 1) < 4 * 0.044


def test_config_and_state_build_it_again():
    net = MLP((2, 3), 16, 1, sde=VP(), features=4, data_std=0.3, seed=5)
    net.outlet.weight.data.fill_(0.1)
    twin = MLP(**net.config(), sde=VP())
    twin.load_state_dict(net.state_dict())
    x, t = inputs(2, 2, 3), torch.tensor(0.4)
    assert torch.equal(net(t, x), twin(t, x))


def test_double_precision_agrees():
    kind = {"sde": VP(), "seed": 3}
    single, double = MLP((4,), 16, 2, **kind), MLP((4,), 16, 2, **kind, dtype=torch.float64)
    double.load_state_dict(single.state_dict())
    for net in (single, double):
        net.outlet.weight.data.fill_(0.05)
    x, t = inputs(3, 4), torch.tensor([0.01, 0.3, 1.0])
    torch.testing.assert_close(
        single(t, x).double(), double(t.double(), x.double()), rtol=1e-4, atol=1e-4
    )


def test_it_learns_a_mixture():
    # Denoising score matching, weight sigma^2; the exact score of the mixture is the best there is.
    sde = VP()
    data = GaussianMixture([[-1.5, 0.0], [1.5, 0.0]], 0.2, None, sde)
    net = MLP((2,), 64, 2, sde=sde, data_std=1.5, seed=0)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    x0 = data.sample(4096, seed=0)

    def excess() -> float:
        """Mean over t of sigma^2 |score - exact|^2, at fresh points of the law."""
        own = torch.Generator().manual_seed(9)
        t = torch.linspace(0.02, 1.0, 1000)
        law = sde.marginal(t, data.sample(1000, seed=1))
        x = law.mean + law.std * torch.randn(1000, 2, generator=own)
        with torch.no_grad():
            return float(((net(t, x) - data(t, x)) * law.std).square().sum(1).mean())

    before = excess()
    for _ in range(300):
        pick = torch.randint(4096, (256,), generator=generator)
        t = 0.02 + 0.98 * torch.rand(256, generator=generator)
        law = sde.marginal(t, x0[pick])
        z = torch.randn(256, 2, generator=generator)
        loss = (law.std * net(t, law.mean + law.std * z) + z).square().sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert excess() < 0.15 * before


def test_bad_input_says_what_is_needed():
    net = MLP((2, 3), 8, 1, sde=VP())
    t = torch.tensor(0.5)
    with pytest.raises(ValueError, match=r"\(B, 2, 3\)"):
        net(t, torch.ones(2, 6))
    with pytest.raises(TypeError, match="weights are"):
        net(t, torch.ones(1, 2, 3, dtype=torch.float64))
    with pytest.raises(TypeError, match="AffineSDE"):
        MLP((2,), sde=None)
    with pytest.raises(ValueError, match="width"):
        MLP((2,), 0, sde=VP())
    for event_shape in (3, ()):
        with pytest.raises(TypeError, match=r"write \(D,\)"):
            MLP(event_shape, sde=VP())
    with pytest.raises(ValueError, match="data_std"):
        MLP((2,), sde=VP(), data_std=0.0)
    assert net(torch.ones(0), torch.ones(0, 2, 3)).shape == (0, 2, 3)
