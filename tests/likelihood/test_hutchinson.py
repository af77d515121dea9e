"""The stochastic divergence: unbiased, with a true standard error and probes from the seed."""

from __future__ import annotations

import pytest
import torch

from sdekit.likelihood import field_divergence, log_likelihood
from sdekit.likelihood.divergence import draw_probes
from sdekit.score import GaussianMixture
from sdekit.sde import VE, VP, SubVP

MEANS = torch.tensor([[-1.0, 0.5, 0.2], [1.0, -0.5, 0.3], [0.0, 1.0, -1.0]], dtype=torch.float64)


def mixture(sde):
    return GaussianMixture(MEANS, [0.3, 0.5, 0.4], [0.3, 0.4, 0.3], sde)


@pytest.mark.parametrize("sde", [VP(), SubVP(), VE()], ids=["vp", "subvp", "ve"])
@pytest.mark.parametrize("probes", ["rademacher", "gaussian"])
def test_within_four_standard_errors_of_exact(sde, probes):
    score = mixture(sde)
    x = score.sample(12, seed=4, dtype=torch.float64)
    exact = log_likelihood(sde, score, x)
    got = log_likelihood(
        sde, score, x, divergence="hutchinson", probes=probes, n_probes=32, seed=5, rtol=1e-4
    )
    assert (got.std_error > 0).all()
    # 1e-3: the ODE's own error at rtol 1e-4.
    assert ((got.log_prob - exact.log_prob).abs() < 4.0 * got.std_error + 1e-3).all()


def test_standard_error_is_calibrated():
    # 256 copies of one point have independent probes: their scatter is the true standard error.
    sde = VP()
    score = mixture(sde)
    x = torch.tensor([[0.2, 0.3, -0.1]], dtype=torch.float64).expand(256, 3)
    n_probes = 8
    got = log_likelihood(
        sde, score, x, divergence="hutchinson", probes="gaussian", n_probes=n_probes, rtol=1e-4
    )
    scatter, claimed = got.log_prob.var(), got.std_error.square().mean()
    # Each variance is estimated with a relative error of about sqrt(2 / 255) = 0.09 for normal
    # numbers; quadratic forms have heavier tails, so 0.15, and four of those.
    assert abs(float(scatter / claimed) - 1.0) < 0.6
    exact = log_likelihood(sde, score, x[:1])
    bias = got.log_prob.mean() - exact.log_prob
    assert bias.abs() < 4.0 * (scatter / 256).sqrt() + 1e-3


def test_one_probe_has_no_standard_error():
    sde = VP()
    score = mixture(sde)
    x = score.sample(3, seed=4, dtype=torch.float64)
    got = log_likelihood(sde, score, x, divergence="hutchinson", rtol=1e-3)
    assert got.std_error.isnan().all() and got.log_prob.isfinite().all()


def test_rademacher_is_exact_for_diagonal_jacobians():
    x = torch.linspace(-2.0, 2.0, 12, dtype=torch.float64).view(4, 3)
    exact = field_divergence(torch.sin, x)[1]
    some = field_divergence(torch.sin, x, probes=draw_probes(5, x))[1]
    torch.testing.assert_close(some, exact.expand(4, 5), rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(exact, x.cos().sum(1, keepdim=True), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("kind", ["rademacher", "gaussian"])
def test_probes_belong_to_samples(kind):
    x = torch.zeros(10, 2, 3)
    whole = draw_probes(3, x, kind=kind, seed=7)
    assert whole.shape == (3, 10, 2, 3)
    part = draw_probes(3, x[4:], kind=kind, seed=7, first_sample=4)
    assert torch.equal(whole[:, 4:], part)
    assert not torch.equal(whole[0], whole[1])
    assert not torch.equal(whole, draw_probes(3, x, kind=kind, seed=8))
    if kind == "rademacher":
        assert torch.equal(whole.abs(), torch.ones_like(whole))


def test_split_batches_keep_their_probes():
    sde = VP()
    score = mixture(sde)
    x = score.sample(6, seed=4, dtype=torch.float64)
    options = {"divergence": "hutchinson", "n_probes": 2, "seed": 3, "rtol": 1e-6, "atol": 1e-6}
    whole = log_likelihood(sde, score, x, **options)
    part = log_likelihood(sde, score, x[4:], first_sample=4, **options)
    torch.testing.assert_close(part.log_prob, whole.log_prob[4:], rtol=0.0, atol=1e-4)


@pytest.mark.parametrize("derivative", ["forward", "reverse"])
@pytest.mark.parametrize("chunk", [None, 1, 3, 100])
def test_chunks_and_modes_agree(derivative, chunk):
    g = torch.Generator().manual_seed(0)
    w = torch.randn(8, 8, generator=g, dtype=torch.float64)
    x = torch.randn(5, 2, 4, generator=g, dtype=torch.float64)

    def field(x):
        return torch.tanh(x.reshape(-1, 8) @ w).view_as(x)

    slope = 1.0 - field(x).square()
    want = (slope.reshape(5, 8) * w.diagonal()).sum(1, keepdim=True)
    value, div = field_divergence(field, x, derivative=derivative, chunk=chunk)
    torch.testing.assert_close(value, field(x), rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(div, want, rtol=1e-12, atol=1e-12)
    probes = draw_probes(7, x, seed=1)
    _, forms = field_divergence(field, x, probes=probes, derivative=derivative, chunk=chunk)
    quadratic = torch.einsum(
        "nbj,ji,bi,nbi->bn",
        probes.view(7, 5, 8),
        w,
        slope.reshape(5, 8),
        probes.view(7, 5, 8),
    )
    torch.testing.assert_close(forms, quadratic, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("derivative", ["forward", "reverse"])
def test_divergence_of_odd_shapes(derivative):
    def of(x, field=torch.sin, **options):
        return field_divergence(field, x, derivative=derivative, **options)

    empty, x = torch.zeros(0, 3), torch.ones(4, 3)
    value, div = of(empty)
    assert value.shape == (0, 3) and div.shape == (0, 1)
    assert of(empty, probes=draw_probes(2, empty))[1].shape == (0, 2)
    for wrong in (torch.ones(5, 3), torch.ones(5, 1, 3), torch.ones(0, 4, 3)):
        with pytest.raises(ValueError, match=r"probes must have the shape \(n, B, D...\)"):
            of(x, probes=wrong)
    for none in (torch.zeros(3), torch.zeros(3, 0)):
        with pytest.raises(ValueError, match="D >= 1"):
            of(none)
    # Times the directions it would broadcast, to a number that looks like an answer.
    with pytest.raises(ValueError, match=r"field returned shape \(4, 1\)"):
        of(x, lambda x: x[:, :1])


class NoForward(torch.autograd.Function):
    """x^2 / 2 without a forward-mode derivative."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return 0.5 * x * x

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0]


def test_missing_forward_mode_names_the_way_out():
    x = torch.linspace(0.0, 1.0, 6, dtype=torch.float64).view(3, 2)
    with pytest.raises(RuntimeError, match="derivative='reverse'"):
        field_divergence(NoForward.apply, x, derivative="forward")
    _, div = field_divergence(NoForward.apply, x, derivative="reverse")
    torch.testing.assert_close(div, x.sum(1, keepdim=True))
