"""Fields that are no flow of single samples: random ones, and those whose rows see each other."""

from __future__ import annotations

import pytest
import torch

import sdekit as sk


class Normal:
    def log_prob(self, x):
        return torch.distributions.Normal(torch.tensor(0.0).to(x), 1.0).log_prob(x).sum(1)


def network(*layers):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(3, 16), *layers, torch.nn.Linear(16, 3))


DROPOUT = network(torch.nn.Tanh(), torch.nn.Dropout(0.3))
BATCH_NORM = network(torch.nn.BatchNorm1d(16), torch.nn.Tanh())
REFUSED = {
    "dropout": (lambda t, x: DROPOUT(x), r"again: write net\.eval\(\) if a network has dropout"),
    "batch_norm": (lambda t, x: BATCH_NORM(x), r"write net\.eval\(\) if a network has batch norm"),
    "mean": (lambda t, x: x - x.mean(0), "depends on the other rows"),
    "softmax": (lambda t, x: -x + 0.3 * x.softmax(0), "depends on the other rows"),
    "first_row": (lambda t, x: -x[:1].expand_as(x), "depends on the other rows"),
    "one_time": (lambda t, x: (x - x.mean(0)) / (1 + t), "depends on the other rows"),
}


def points(n):
    return torch.linspace(-1.0, 1.0, 3 * n).view(n, 3)


@pytest.mark.parametrize("ode", ["sdekit", "torchdiffeq"])
@pytest.mark.parametrize("batch", [1, 3, 5])
@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_the_reason(name, batch, ode):
    field, says = REFUSED[name]
    with pytest.raises(ValueError, match=says):
        sk.log_likelihood(sk.Flow(field, Normal()), points(batch), ode=ode)


def test_equal_rows_do_not_hide_it():
    with pytest.raises(ValueError, match="depends on the other rows"):
        sk.log_likelihood(sk.Flow(REFUSED["mean"][0], Normal()), points(1).expand(4, 3).clone())


@pytest.mark.parametrize("ode", ["sdekit", "torchdiffeq"])
def test_the_same_networks_after_eval(ode):
    for net in (DROPOUT, BATCH_NORM):
        try:
            net.eval()
            flow = sk.Flow(lambda t, x, net=net: net(x), Normal())
            assert sk.log_likelihood(flow, points(3), ode=ode).log_prob.isfinite().all()
        finally:
            net.train()


def test_one_time_in_all_is_still_mapped():
    flow = sk.Flow(lambda t, x: -x / (1 + t), Normal())
    got = sk.log_likelihood(flow, points(3))
    assert "mapped over the samples" in got.stats.reason
    own = sk.log_likelihood(sk.Flow(lambda t, x: -x / (1 + t.view(-1, 1)), Normal()), points(3))
    torch.testing.assert_close(got.log_prob, own.log_prob)
