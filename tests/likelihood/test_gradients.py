"""Gradients of log p: the adjoint, the solver's steps, difference quotients and exact scores."""

from __future__ import annotations

import math
import warnings

import pytest
import sdekit_kernels
import torch
from torch import nn

from sdekit.likelihood import Flow, log_likelihood
from sdekit.likelihood.divergence.memory import LiveBytes
from sdekit.likelihood.gradient import log_prob_with_gradient
from sdekit.likelihood.gradient.leaves import leaves_of
from sdekit.score import GaussianMixture
from sdekit.sde import VE, VP, SubVP

TIGHT = {"rtol": 1e-9, "atol": 1e-9}


def points(n, seed=0, dim=2):
    """Normal numbers, of the library's own noise."""
    return sdekit_kernels.normal((n, dim), seed=seed, dtype=torch.float64)


class Net(nn.Module):
    """A small network of x and t, with weights that are a function of the seed."""

    def __init__(self, seed, dim=2, width=16):
        super().__init__()
        self.inner, self.outer = nn.Linear(dim + 1, width), nn.Linear(width, dim)
        self.double()
        with torch.no_grad():
            for j, p in enumerate(self.parameters()):
                p.copy_(0.5 * points(p.numel(), 10 * seed + j, 1).view_as(p))

    def forward(self, t, x):
        y = torch.cat([x, t.expand(len(x))[:, None]], 1)
        return self.outer(torch.tanh(self.inner(y)))


class Normal(nn.Module):
    """A prior with parameters of its own."""

    def __init__(self, dim=2):
        super().__init__()
        self.mean = nn.Parameter(torch.full((dim,), 0.1, dtype=torch.float64))

    def log_prob(self, x):
        return -0.5 * ((x - self.mean).square() + math.log(2 * math.pi)).sum(1)


class ExactPrior:
    """p_T itself, so that nothing but the ODE's error is left."""

    def __init__(self, score):
        self.score = score

    def log_prob(self, x):
        return self.score.log_prob(torch.tensor(self.score.sde.T, dtype=x.dtype), x)


def vp_of_a_network():
    """(calling form, network): the probability flow of VP under a network's score."""
    net = Net(1)
    return (VP(), lambda t, x: net(t, x) - x), {"t_min": 0.05}, net


def plain_flow():
    """(calling form, network): a continuous normalizing flow, its prior learned as well."""
    net = Net(2)
    prior = Normal()
    return (Flow(net, prior, t_prior=1.5),), {}, nn.ModuleList([net, prior])


CASES = {"vp": vp_of_a_network, "flow": plain_flow}


def gradients(call, x, parameters, **arguments):
    """log p, and the gradients of a weighted sum of it: x's first."""
    x = x.clone().requires_grad_()
    log_prob = log_prob_with_gradient(*call, x, **arguments)
    weights = torch.linspace(0.5, 2.0, len(x), dtype=x.dtype)
    return log_prob, torch.autograd.grad((weights * log_prob).sum(), [x, *parameters])


def distance(got, want):
    """The largest relative difference, in the largest entry's measure, of any tensor."""
    pairs = zip(got, want, strict=True)
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)


@pytest.mark.parametrize("divergence", ["exact", "hutchinson"])
@pytest.mark.parametrize("case", CASES)
def test_adjoint_and_through_agree_with_each_other_and_with_difference_quotients(case, divergence):
    call, ends, net = CASES[case]()
    x, parameters = points(5, seed=3), list(net.parameters())
    arguments = {**TIGHT, **ends, "divergence": divergence, "seed": 4}
    value, through = gradients(call, x, parameters, gradient="through", **arguments)
    same, adjoint = gradients(call, x, parameters, gradient="adjoint", **arguments)
    plain = log_likelihood(*call, x, **arguments).log_prob
    torch.testing.assert_close(value, plain, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(same, plain, rtol=1e-13, atol=1e-13)
    # Measured: 2e-10 at most.
    assert distance(adjoint, through) < 1e-8

    # Along one direction for x, and one for all parameters together. The quotient is of order 4:
    # measured, it is 3e-5 beside the slope at h = 1e-2, 5e-8 at 2e-3 and 2e-9 at 1e-3.
    h = 2e-3
    weights = torch.linspace(0.5, 2.0, len(x), dtype=x.dtype)
    finer = {**arguments, "rtol": 1e-10, "atol": 1e-10, "method": "dopri5"}
    for part in (0, slice(1, None)):
        moved = [x, *parameters][part]
        slopes = through[part]
        if part == 0:
            moved, slopes = [moved], [slopes]
        directions = [points(p.numel(), seed=20 + j, dim=1).view_as(p) for j, p in enumerate(moved)]
        begin = [p.detach().clone() for p in moved]
        quotient = 0.0
        for step, weight in ((-2, 1), (-1, -8), (1, 8), (2, -1)):
            with torch.no_grad():
                for p, b, d in zip(moved, begin, directions, strict=True):
                    p.copy_(b + step * h * d)
                log_prob = log_likelihood(*call, x, **finer).log_prob
                quotient += weight * float((weights * log_prob).sum()) / (12 * h)
        with torch.no_grad():
            for p, b in zip(moved, begin, strict=True):
                p.copy_(b)
        slope = float(sum((s * d).sum() for s, d in zip(slopes, directions, strict=True)))
        assert slope == pytest.approx(quotient, rel=1e-6)


@pytest.mark.parametrize("gradient", ["adjoint", "through"])
@pytest.mark.parametrize("sde", [VP(), SubVP(), VE()], ids=lambda sde: type(sde).__name__)
def test_the_gradient_by_x_is_the_score(sde, gradient):
    # The strongest check of x: nothing in the score knows that there is an ODE.
    means = torch.tensor([[-1.0, 0.5], [1.0, -0.5]], dtype=torch.float64)
    score = GaussianMixture(means, [0.3, 0.5], [0.3, 0.7], sde)
    x = score.sample(8, seed=1, dtype=torch.float64).requires_grad_()
    log_prob = log_prob_with_gradient(
        sde, score, x, gradient=gradient, prior=ExactPrior(score), t_min=1e-3, **TIGHT
    )
    (by_x,) = torch.autograd.grad(log_prob.sum(), x)
    want = score(torch.tensor(1e-3, dtype=torch.float64), x.detach())
    # Measured: 6e-9 of scores up to 10.
    assert (by_x - want).abs().max() < 1e-7


@pytest.mark.parametrize("gradient", ["adjoint", "through"])
def test_a_score_for_one_time_in_all_is_mapped_and_differentiated(gradient):
    net = Net(3)

    def narrow(t, x):
        return net(t.reshape(()), x) - x

    x, parameters = points(3, seed=5), list(net.parameters())
    ends = {"gradient": gradient, "rtol": 1e-6, "atol": 1e-6, "t_min": 1e-3}
    got = gradients((VP(), narrow), x, parameters, **ends)[1]
    want = gradients((VP(), lambda t, x: net(t, x) - x), x, parameters, **ends)[1]
    assert distance(got, want) < 1e-10


def test_the_tolerance_of_the_adjoint_does_not_depend_on_the_size_of_the_loss():
    (flow,), _, net = plain_flow()
    parameters = list(net.parameters())
    loose = {"rtol": 1e-4, "atol": 1e-4}
    by_size = []
    for size in (1e-6, 1.0, 1e6):
        loss = size * log_prob_with_gradient(flow, points(4), **loose).sum()
        by_size.append([g / size for g in torch.autograd.grad(loss, parameters)])
    assert distance(by_size[0], by_size[1]) < 1e-12
    assert distance(by_size[2], by_size[1]) < 1e-12


@pytest.mark.parametrize("gradient", ["adjoint", "through"])
def test_a_sample_does_not_know_its_batch(gradient):
    (flow,), _, _ = plain_flow()
    x = points(6, seed=6)
    x[0] *= 30.0
    arguments = {"gradient": gradient, "divergence": "hutchinson", "rtol": 1e-5, "atol": 1e-5}
    whole = gradients((flow,), x, [], **arguments)
    for j in (0, 5):
        own = x[j : j + 1].clone().requires_grad_()
        log_prob = log_prob_with_gradient(flow, own, first_sample=j, **arguments)
        (by_x,) = torch.autograd.grad(log_prob.sum(), own)
        weight = torch.linspace(0.5, 2.0, len(x), dtype=x.dtype)[j]
        torch.testing.assert_close(log_prob[0], whole[0][j], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(weight * by_x[0], whole[1][0][j], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("gradient", ["adjoint", "through"])
def test_samples_that_are_lost_take_no_part(gradient):
    net = Net(2)

    def field(t, x):
        # A pole that only the samples far out run into, on their way.
        far = (x[:, :1] > 50.0) & (t.expand(len(x))[:, None] > 0.5)
        return net(t, x) + torch.where(far, math.nan, 0.0)

    flow, parameters = Flow(field, Normal()), list(net.parameters())
    x = points(5, seed=7)
    whole = x[[1, 3, 4]]
    x[0], x[2] = math.inf, 100.0
    spoiled = x.clone().requires_grad_()
    arguments = {"gradient": gradient, "rtol": 1e-6, "atol": 1e-6}
    log_prob = log_prob_with_gradient(flow, spoiled, **arguments)
    assert log_prob.isnan().tolist() == [True, False, True, False, False]
    got = torch.autograd.grad(log_prob.nansum(), [spoiled, *parameters])
    assert (got[0][[0, 2]] == 0.0).all()

    whole = whole.clone().requires_grad_()
    alone = log_prob_with_gradient(flow, whole, **arguments)
    want = torch.autograd.grad(alone.sum(), [whole, *parameters])
    assert distance([got[0][[1, 3, 4]], *got[1:]], want) < 1e-12


def test_an_adjoint_that_cannot_be_solved_is_reported():
    (flow,), _, net = plain_flow()
    x = points(3).requires_grad_()
    log_prob = log_prob_with_gradient(flow, x, rtol=1e-6, atol=1e-6, max_steps=40)
    # The way back has as many steps to go, and is given one.
    adjoint = find_adjoint(log_prob.grad_fn)
    object.__setattr__(adjoint.problem, "max_steps", 1)
    with pytest.warns(RuntimeWarning, match=r"of 3 of 3 samples could not be solved.*through"):
        by_x, *rest = torch.autograd.grad(log_prob.sum(), [x, *net[0].parameters()])
    assert by_x.isnan().all()
    assert all((g == 0.0).all() for g in rest)


def test_a_way_back_that_leads_elsewhere_is_reported():
    # Each step contracts by e^-40: all points end at 0, to the last bit, and none finds back.
    flow = Flow(lambda t, x: -40.0 * x, Normal(), divergence=lambda t, x: -80.0 + 0.0 * x[:, 0])
    x = points(3).requires_grad_()
    log_prob = log_prob_with_gradient(flow, x, rtol=1e-4, atol=1e-4)
    with pytest.warns(RuntimeWarning, match="did not lead back to x"):
        (by_x,) = torch.autograd.grad(log_prob.sum(), x)
    assert by_x.isnan().all()
    log_prob = log_prob_with_gradient(flow, x, gradient="through", rtol=1e-4, atol=1e-4)
    assert torch.autograd.grad(log_prob.sum(), x)[0].isfinite().all()


def find_adjoint(node):
    """The Adjoint in the graph."""
    while not hasattr(node, "adjoint"):
        node = next(n for n, _ in node.next_functions if n is not None)
    return node.adjoint


def test_memory_of_the_adjoint_does_not_grow_with_the_number_of_steps():
    net, n = Net(1, width=128), 4
    flow, x = Flow(lambda t, x: 3.0 * net(t, x), Normal()), points(n, seed=8)

    def peak(gradient, tolerance):
        arguments = {"rtol": tolerance, "atol": tolerance, "backend": "torch", "chunk": 2}
        steps = int(log_likelihood(flow, x, **arguments, fuse=False).stats.accepted.sum())
        with LiveBytes() as live:
            log_prob = log_prob_with_gradient(flow, x, gradient=gradient, **arguments)
            log_prob.sum().backward()
        return live.peak, steps

    low, few = peak("adjoint", 1e-2)
    high, many = peak("adjoint", 1e-7)
    assert many > 4 * few
    # The steps themselves are remembered by 24 bytes each: number, time and size. The way back has
    # about as many as the way there. Measured: 70 kB, and 73 kB with 94 steps more.
    assert high < low + 2 * 24 * many
    low, few = peak("through", 1e-2)
    high, many = peak("through", 1e-7)
    assert high > 0.7 * many / few * low  # 0.7 MB and 3.7 MB: what the adjoint does without


def test_parameters_are_found_wherever_they_are():
    inner, outer = Net(1), Net(2)
    shift = nn.Parameter(torch.tensor(0.3, dtype=torch.float64))
    stretched = shift.exp()  # no leaf: made before the call, of one
    experts = {"a": [inner]}

    def field(t, x):
        return experts["a"][0](t, x) + stretched * outer(t, x)

    parameters = [*inner.parameters(), *outer.parameters(), shift]
    assert {id(p) for p in leaves_of(field(torch.tensor(0.5).double(), points(2)))} == {
        id(p) for p in parameters
    }
    flow = Flow(field, Normal())
    want = gradients((flow,), points(3), parameters, gradient="through", **TIGHT)[1]
    flow = Flow(lambda t, x: experts["a"][0](t, x) + shift.exp() * outer(t, x), Normal())
    stretched = shift.exp()
    got = gradients((flow,), points(3), parameters, gradient="adjoint", **TIGHT)[1]
    assert distance(got, want) < 1e-8
    stretched = shift.exp()
    flow = Flow(lambda t, x: experts["a"][0](t, x) + stretched * outer(t, x), Normal())
    got = gradients((flow,), points(3), parameters, gradient="adjoint", **TIGHT)[1]
    assert distance(got, want) < 1e-8


def test_a_parameter_that_was_not_found_is_refused_and_listed_ones_are_enough():
    early, late = Net(1), Net(2)

    def field(t, x):
        part = (t > 0.2) & (t < 0.4)
        return early(t, x) + (late(t, x) if bool(part.all()) else 0.0)

    flow = Flow(field, Normal(), breaks=[0.2, 0.4])
    x = points(1)
    loose = {"rtol": 1e-4, "atol": 1e-4}
    with pytest.raises(RuntimeError, match=r"not found beforehand: write parameters="):
        log_prob_with_gradient(flow, x, **loose).sum().backward()
    parameters = [*early.parameters(), *late.parameters()]
    log_prob = log_prob_with_gradient(flow, x, parameters=parameters, **loose)
    got = torch.autograd.grad(log_prob.sum(), parameters)
    assert all((g != 0.0).any() for g in got)


def test_weights_changed_before_the_adjoint_runs_are_refused():
    (flow,), _, net = plain_flow()
    log_prob = log_prob_with_gradient(flow, points(2), rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        net[0].inner.weight.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        log_prob.sum().backward()


def test_through_can_be_differentiated_again():
    (flow,), _, _ = plain_flow()

    def slope(x):
        log_prob = log_prob_with_gradient(flow, x, gradient="through", **TIGHT)
        return torch.autograd.grad(log_prob.sum(), x, create_graph=True)[0]

    x, v = points(2, seed=9), points(2, seed=10)
    at = x.clone().requires_grad_()
    (twice,) = torch.autograd.grad((slope(at) * v).sum(), at)
    h = 1e-4
    quotient = (
        slope((x + h * v).requires_grad_()) - slope((x - h * v).requires_grad_())
    ).detach() / (2 * h)
    torch.testing.assert_close(twice, quotient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("gradient", ["adjoint", "through"])
def test_a_field_that_depends_on_nothing(gradient):
    flow = Flow(lambda t, x: torch.ones_like(x), Normal(), divergence=lambda t, x: 0.0 * x[:, 0])
    x = points(3).requires_grad_()
    log_prob = log_prob_with_gradient(flow, x, gradient=gradient)
    (by_x,) = torch.autograd.grad(log_prob.sum(), x)
    torch.testing.assert_close(by_x, 0.1 - (x.detach() + 1.0), rtol=1e-6, atol=1e-6)


def test_float32_images_and_no_grad():
    def field(t, x):
        return torch.sin(x) * torch.as_tensor(t).reshape(-1, 1, 1, 1)

    class Prior:
        def log_prob(self, x):
            return -0.5 * (x.square() + math.log(2 * math.pi)).flatten(1).sum(1)

    flow = Flow(field, Prior())
    x = points(2, dim=36).view(2, 1, 6, 6)  # more than 28: carried in float64
    want = gradients((flow,), x, [], gradient="through", **TIGHT)
    for gradient in ("adjoint", "through"):
        log_prob, (by_x,) = gradients((flow,), x.float(), [], gradient=gradient)
        assert log_prob.dtype == by_x.dtype == torch.float32
        torch.testing.assert_close(log_prob.double(), want[0], rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(by_x.double(), want[1][0], rtol=1e-3, atol=1e-3)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not log_prob_with_gradient(flow, x.float().requires_grad_()).requires_grad


def test_what_is_refused():
    (flow,), _, _ = plain_flow()
    x = points(2)
    with pytest.raises(ValueError, match="gradient"):
        log_prob_with_gradient(flow, x, gradient="backprop")
    with pytest.raises(ValueError, match="divergence"):
        log_prob_with_gradient(flow, x, divergence="xtrace")
    with pytest.raises(TypeError, match="leave t_max= away"):
        log_prob_with_gradient(flow, x, t_max=1.0)
    with pytest.raises(TypeError, match="x must be a torch"):
        log_prob_with_gradient(flow, None, [1.0])
    with pytest.raises(ValueError, match="rtol must be at least"):
        log_prob_with_gradient(flow, x.float(), rtol=1e-9)
    assert log_prob_with_gradient(flow, torch.full((2, 2), math.nan)).isnan().all()
    assert log_prob_with_gradient(flow, x[:0]).shape == (0,)
