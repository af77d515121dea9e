"""A score without a derivative is an error, not a divergence of zero; a harmless one is none."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sdekit.likelihood import field_divergence
from sdekit.likelihood.divergence import check_derivative, make_divergence
from sdekit.score import MLP, GaussianMixture
from sdekit.sde import VP, ProbabilityFlow

DOUBLE = torch.float64
X = torch.linspace(-1.5, 2.0, 24, dtype=DOUBLE).view(8, 3)


def no_grad(x):
    with torch.no_grad():
        return -torch.sin(2.0 * x)


def inference(x):
    with torch.inference_mode():
        return -torch.sin(2.0 * x)


def detached(x):
    return -torch.sin(2.0 * x.detach())


def data(x):
    return -torch.sin(2.0 * x.data)


def through_numpy(x):
    return torch.from_numpy(-2.0 * x.detach().numpy())


def through_lists(x):
    return torch.tensor(x.tolist(), dtype=x.dtype) * -2.0


def with_drift(score):
    """The flow's field: x's own derivative hides that the score has none."""
    return lambda x: -0.1 * x - 0.5 * score(x)


def residual(score):
    """A denoiser with a skip connection, as in Karras et al. 2022."""
    return lambda x: (0.8 * score(x) - x) / 0.5


def partly_inference(x):
    with torch.inference_mode():
        y = torch.sin(x)
    return x * y


LOST = [no_grad, inference, partly_inference, detached, data, through_numpy, through_lists]


@pytest.mark.parametrize("kind", ["exact", "hutchinson", "hutch++", "xtrace"])
@pytest.mark.parametrize("wrap", [lambda score: score, with_drift, residual])
@pytest.mark.parametrize("score", LOST)
def test_a_lost_derivative_is_an_error(score, wrap, kind):
    x = X.view(2, 12)
    with pytest.raises(RuntimeError, match="the score has no derivative with respect to x"):
        make_divergence(kind, x, n_probes=6)(wrap(score), x)
    with pytest.raises(RuntimeError, match=r"without torch\.no_grad"):
        field_divergence(wrap(score), X.float())
    with pytest.raises(RuntimeError, match=r"the network has no derivative.*derivative='forward'"):
        check_derivative(wrap(score), X, what="the network", derivative="reverse")


@pytest.mark.parametrize(
    "score", [inference, partly_inference, detached, data, through_numpy, through_lists]
)
def test_in_forward_mode_too(score):
    with pytest.raises(RuntimeError, match="has no derivative with respect to x"):
        field_divergence(with_drift(score), X, derivative="forward")
    with pytest.raises(RuntimeError, match="has no derivative with respect to x"):
        check_derivative(score, X, derivative="forward")


def test_no_grad_does_not_stop_forward_mode():
    got = field_divergence(with_drift(no_grad), X, derivative="forward")[1]
    want = field_divergence(with_drift(lambda x: -torch.sin(2.0 * x)), X)[1]
    torch.testing.assert_close(got, want)


def test_the_message_names_the_operation():
    def score(x):
        hidden = torch.tanh(x)
        with torch.no_grad():
            hidden = torch.exp(hidden)
        return hidden

    with pytest.raises(RuntimeError, match="`exp` returned numbers without it"):
        field_divergence(score, X)


def softmax_by_hand(x):
    # The maximum is detached, as in many softmaxes: its derivative cancels.
    weights = (x - x.detach().max(1, keepdim=True).values).exp()
    return x * weights / weights.sum(1, keepdim=True)


def rounded(x):
    # Sixteen-bit activations, and a check that looks at a number.
    assert float(x.detach().abs().max()) < 100.0
    return -torch.sin(2.0 * x.bfloat16()).to(x.dtype)


def logged(x):
    with torch.no_grad():
        size = x.square().sum(1)
    assert size.isfinite().all()
    return -torch.sin(2.0 * x)


@pytest.mark.parametrize("derivative", ["forward", "reverse"])
@pytest.mark.parametrize("field", [softmax_by_hand, rounded, logged, torch.relu, torch.ones_like])
def test_harmless_ones_pass(field, derivative):
    for x in (X, X.float(), X[:1]):
        got = field_divergence(field, x, derivative=derivative)[1]
        jacobian = torch.autograd.functional.jacobian(lambda y: field(y).sum(0), x.double())
        want = jacobian.diagonal(dim1=0, dim2=2).sum(1, keepdim=True)
        # 2^-8 of a cosine of bfloat16 numbers, three of them, times 2.
        tolerance = 0.1 if field is rounded else 1e-5
        torch.testing.assert_close(got.double(), want, rtol=0.0, atol=tolerance)


@pytest.mark.parametrize("derivative", ["forward", "reverse"])
def test_scores_of_the_library_pass(derivative):
    sde = VP()
    means = torch.tensor([[-1.0, 0.5, 0.2], [1.0, -0.5, 0.3]], dtype=DOUBLE)
    net = MLP((3,), 16, 1, sde=sde, dtype=DOUBLE)
    for score in (GaussianMixture(means, [0.3, 0.5], None, sde), net):
        for t in (1e-5, 0.3, 1.0):
            flow = ProbabilityFlow(sde, score)
            time = torch.full((8,), t, dtype=DOUBLE)
            with torch.no_grad():
                field_divergence(lambda x, f=flow, t=time: f.drift(t, x), X, derivative=derivative)
                check_derivative(lambda x, s=score, t=time: s(t, x), X, derivative=derivative)


@pytest.mark.parametrize("score", ["mixture", "network"])
def test_watched_once_and_at_no_cost(score):
    sde, calls = VP(), []
    means = torch.tensor([[-1.0, 0.5, 0.2], [1.0, -0.5, 0.3]], dtype=DOUBLE)
    mixture = GaussianMixture(means, [0.3, 0.5], None, sde)
    model = mixture if score == "mixture" else MLP((3,), 16, 1, sde=sde, dtype=DOUBLE)
    flow = ProbabilityFlow(sde, model)

    def field(x):
        calls.append(len(x))
        return flow.drift(torch.full((len(x),), 0.3, dtype=DOUBLE), x)

    estimator = make_divergence("exact", X)
    estimator(field, X)
    estimator.take(torch.arange(4))(field, X[:4])
    assert calls == [8, 4]


def test_errors_of_the_score_are_its_own():
    def field(x):
        raise RuntimeError("the weather is bad")

    with pytest.raises(RuntimeError, match=r"^the weather is bad$"):
        field_divergence(field, X)


def test_modules_in_evaluation_mode_with_frozen_weights():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 3)).double().eval()
    net.requires_grad_(False)
    jacobian = torch.autograd.functional.jacobian(lambda y: net(y).sum(0), X)
    want = jacobian.diagonal(dim1=0, dim2=2).sum(1, keepdim=True)
    for derivative in ("forward", "reverse"):
        torch.testing.assert_close(field_divergence(net, X, derivative=derivative)[1], want)
