"""Ito and Stratonovich forms: formulas worked out by hand, laws, kernels, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import sdekit as sk
from sdekit.sde import (
    CIR,
    GBM,
    OU,
    Converted,
    Heston,
    MatrixOU,
    ReverseSDE,
    drift_correction,
    to_ito,
    to_stratonovich,
)

DOUBLE = torch.float64
T0 = torch.tensor(0.3, dtype=DOUBLE)


class Plain:
    def __init__(self, drift, diffusion, **attributes):
        self.drift, self.diffusion = drift, diffusion
        self.__dict__.update(attributes)


def still(t, x):
    return torch.zeros_like(x)


def states(*shape):
    count = math.prod(shape)
    return torch.sin(torch.arange(1.0, count + 1.0, dtype=DOUBLE)).view(shape) + 0.2


def coupled(t, x):
    """g = (x0 x1, sin(x1) x2, x2^2 + x0): each depends on others too."""
    a, b, c = x.unbind(1)
    return torch.stack([a * b, torch.sin(b) * c, c * c + a], 1) * (1 + t)


def coupled_correction(t, x):
    a, b, c = x.unbind(1)
    own = torch.stack([a * b * b, torch.sin(b) * c * torch.cos(b) * c, (c * c + a) * 2 * c], 1)
    return 0.5 * own * (1 + t) ** 2


def matrix(t, x):
    """A 2 x 3 matrix."""
    a, b = x.unbind(1)
    one = torch.stack([a * b, torch.sin(a), b * b], 1)
    two = torch.stack([a + b, a * a, torch.ones_like(a)], 1)
    return torch.stack([one, two], 1)


def matrix_correction(t, x):
    """1/2 sum_jk G_kj d_k G_ij, written out."""
    a, b = x.unbind(1)
    s, c = torch.sin(a), torch.cos(a)
    first = (a * b) * b + (a + b) * a  # column 0: D of a b along (a b, a + b)
    first = first + s * c  # column 1: D of sin a along (sin a, a^2)
    first = first + 2 * b  # column 2: D of b^2 along (b^2, 1)
    second = (a * b) + (a + b) + s * 2 * a
    return 0.5 * torch.stack([first, second], 1)


CASES = {
    "coupled diagonal": ("diagonal", coupled, coupled_correction, states(5, 3)),
    "scalar": (
        "scalar",
        lambda t, x: torch.stack([x[:, 1], x[:, 0] * x[:, 1]], 1),
        lambda t, x: 0.5 * x[:, 1:] * torch.stack([x[:, 0], x[:, 1] + x[:, 0] ** 2], 1),
        states(5, 2),
    ),
    "general": ("general", matrix, matrix_correction, states(5, 2)),
    "constant": ("diagonal", lambda t, x: 0.3, still, states(5, 2)),
    "one a sample": ("diagonal", lambda t, x: x.sum(1, keepdim=True), None, states(5, 2)),
    "no event": ("diagonal", lambda t, x: torch.sin(x), None, states(5)),
    "two axes": ("diagonal", lambda t, x: torch.sin(x), None, states(5, 2, 3)),
    "many": ("diagonal", lambda t, x: torch.sin(x) * x.sum(1, keepdim=True), None, states(5, 70)),
}
CORRECTIONS = {
    "one a sample": lambda t, x: 0.5 * x.sum(1, keepdim=True).expand_as(x),
    "no event": lambda t, x: 0.5 * torch.sin(x) * torch.cos(x),
    "two axes": lambda t, x: 0.5 * torch.sin(x) * torch.cos(x),
    "many": lambda t, x: (
        0.5 * torch.sin(x) * (s := x.sum(1, keepdim=True)) * (torch.cos(x) * s + torch.sin(x))
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_correction_equals_the_formula_by_hand(name):
    noise_type, g, want, x = CASES[name]
    want = want or CORRECTIONS[name]
    sde = Plain(torch.sin, g, noise_type=noise_type, interpretation="stratonovich")
    sde.drift = lambda t, x: torch.sin(x) * t
    ito = to_ito(sde)
    torch.testing.assert_close(drift_correction(sde, T0, x), want(T0, x), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(ito.drift(T0, x), torch.sin(x) * T0 + want(T0, x))
    assert torch.equal(torch.as_tensor(ito.diffusion(T0, x)), torch.as_tensor(g(T0, x)))
    assert (ito.interpretation, ito.noise_type) == ("ito", noise_type)


@pytest.mark.parametrize(
    ("sde", "want", "x"),
    [
        (GBM([0.1, 0.4], 0.6), lambda x: x.new_tensor([0.1 - 0.18, 0.4 - 0.18]) * x, states(4, 2)),
        (OU(2.0, 1.0, 0.5), lambda x: -2.0 * (x - 1.0), states(4, 2)),
        # The correction of the square-root process is xi^2 / 4, none where its noise is cut off.
        (
            CIR(2.0, 0.5, 0.8),
            lambda x: 2.0 * (0.5 - x) - 0.16 * (x > 0).double(),
            torch.tensor([[0.5], [1e-12], [0.0], [-0.1]], dtype=DOUBLE),
        ),
        (
            Heston(0.1, 2.0, 0.5, 0.8, -0.6),
            lambda x: torch.stack([0.1 - 0.5 * x[:, 1] + 0.12, 2.0 * (0.5 - x[:, 1]) - 0.16], 1),
            torch.tensor([[1.0, 0.2], [0.0, 2.0]], dtype=DOUBLE),
        ),
        (MatrixOU([[1.0, 0.2], [0.0, 1.0]], sigma=[[1.0, 2.0], [0.0, 1.0]]), None, states(4, 2)),
    ],
    ids=["GBM", "OU", "CIR", "Heston", "MatrixOU"],
)
def test_stratonovich_form_of_known_equations(sde, want, x):
    form = sde.to_stratonovich()
    want = sde.drift(T0, x) if want is None else want(x)
    torch.testing.assert_close(form.drift(T0, x), want, rtol=1e-13, atol=1e-14)
    assert isinstance(form, Converted) and isinstance(form, sk.SDE)
    assert form.interpretation == "stratonovich" and form.name == type(sde).__name__
    assert form.nonnegative == sde.nonnegative and form.time_direction == sde.time_direction


def test_there_and_back_is_the_equation_that_was_given():
    sde = GBM(0.1, 0.6)
    assert sde.to_ito() is sde and to_stratonovich(sde).to_ito() is sde
    # The formula itself inverts, too, where the way back is not known.
    form = to_stratonovich(Plain(still, coupled))
    hidden = Plain(form.drift, form.diffusion, interpretation="stratonovich")
    x = states(5, 3)
    torch.testing.assert_close(to_ito(hidden).drift(T0, x), still(T0, x), rtol=0, atol=1e-15)


@pytest.mark.parametrize("name", CASES)
def test_states_of_any_layout(name):
    """A batch of one state, expanded; and one whose axes were swapped."""
    noise_type, g, _, x = CASES[name]
    form = to_stratonovich(Plain(still, g, noise_type=noise_type))
    for y in (x[:1].expand(4, *x.shape[1:]), x.t().contiguous().t() if x.ndim == 2 else x):
        want = form.drift(T0, y.clone(memory_format=torch.contiguous_format))
        torch.testing.assert_close(form.drift(T0, y), want, rtol=1e-13, atol=1e-13)


def test_elementwise_takes_one_derivative():
    calls = []

    def g(t, x):
        calls.append(0)
        return torch.sin(x)

    x = states(4, 9)
    counts = []
    for how in (True, False, None):
        calls.clear()
        sde = Plain(still, g, elementwise=True, interpretation="stratonovich")
        drift = to_ito(sde, elementwise=how).drift(T0, x)
        counts.append(len(calls))
        torch.testing.assert_close(drift, 0.5 * torch.sin(x) * torch.cos(x))
    assert counts == [1, 10, 1]


def test_forms_of_an_equation_that_runs_backwards():
    """dx = s x o dW run down in time: with u = -t, E x grows as e^{s^2 u / 2}."""
    x = states(4, 2)
    sde = Plain(
        still, lambda t, x: 0.6 * x, interpretation="stratonovich", time_direction="backward"
    )
    ito = to_ito(sde)
    torch.testing.assert_close(ito.drift(T0, x), -0.18 * x)
    assert ito.time_direction == "backward"
    x0 = torch.ones(20_000, 2)
    ends = [
        sk.solve(e, x0, t0=1.0, t1=0.0, steps=200, method=m, seed=2, fuse=False).x
        for e, m in ((sde, "heun"), (ito, "euler_maruyama"))
    ]
    # On one path the two differ by the smaller strong order, 1/2: rms about s^2 sqrt(dt / 2).
    assert (ends[0] - ends[1]).square().mean().sqrt() < 0.05
    want, var = math.exp(0.18), math.exp(0.72) - math.exp(0.36)
    for end in ends:
        assert abs(end.mean().item() - want) < 4 * math.sqrt(var / end.numel()) + 1e-3
    either = Plain(still, lambda t, x: x, time_direction="either")
    assert to_stratonovich(either).time_direction == "forward"
    assert to_stratonovich(ReverseSDE(OU(), lambda t, x: -x)).time_direction == "backward"


def swirl(t, x):
    a, b = x.unbind(1)
    return torch.stack([-a + 0.5 * b, -b - 0.5 * a], 1)


@pytest.mark.parametrize("noise_type", ["diagonal", "scalar", "general"])
def test_both_forms_have_one_law(noise_type):
    def g(t, x):
        a, b = x.unbind(1)
        column = torch.stack([0.5 + 0.4 * torch.sin(a + b), 0.3 + 0.5 * torch.cos(a)], 1)
        if noise_type != "general":
            return column
        return torch.stack([column, torch.stack([0.2 * b, 0.4 * a], 1)], 2)

    sde = Plain(swirl, g, noise_type=noise_type, interpretation="stratonovich")
    raw = Plain(swirl, g, noise_type=noise_type)
    x0, paths = torch.tensor([0.6, -0.4]), 20_000
    run = dict(paths=paths, t1=1.0, steps=100, fuse=False)
    one = sk.ensemble(sde, x0, method="heun", seed=1, **run)
    two = sk.ensemble(to_ito(sde), x0, method="euler_maruyama", seed=2, **run)
    raw = sk.ensemble(raw, x0, seed=3, **run)
    # Four standard errors of a difference, and Euler's own error, of the order of dt = 1/100.
    error = torch.hypot(one.std_error, two.std_error)
    assert ((one.mean - two.mean).abs() < 4 * error + 2e-3).all()
    assert ((one.var / two.var).log().abs() < 4 * math.sqrt(4 / paths) + 1e-2).all()
    assert ((one.mean - raw.mean).abs() > 10 * error).any()  # what the correction is for


EQUATIONS = {
    "OU": (OU(1.0, 0.5, 0.3), 3),
    "GBM": (GBM([0.1, 0.2], 0.3), 2),
    "CIR": (CIR(1.0, 0.5, 0.3), 2),
    "Heston": (Heston(0.02, rho=-0.5), 2),
    "MatrixOU": (MatrixOU([[1.0, 0.2], [0.0, 1.0]], sigma=[[1.0, 2.0], [0.0, 1.0]]), 2),
    "coupled": (Plain(swirl, lambda t, x: torch.sin(x) * x.sum(1, keepdim=True)), 2),
    "general": (Plain(swirl, lambda t, x: matrix(t, x), noise_type="general"), 2),
    "scalar": (Plain(swirl, lambda t, x: torch.sin(x), noise_type="scalar"), 2),
}


@pytest.mark.parametrize("name", EQUATIONS)
def test_converted_equations_take_the_trajectory_kernel(name):
    sde, d = EQUATIONS[name]
    form, x0 = to_stratonovich(sde), torch.linspace(0.2, 0.6, 20 * d).view(20, d)
    path = sk.explain(form, "heun", x0=x0)
    assert path.name == "trajectory_kernel", path.reason
    if name not in ("coupled", "general"):
        return  # compiling all of them takes half a minute
    fused, stepwise = (
        sk.solve(form, x0, t1=0.1, steps=5, method="heun", fuse=f).x for f in (True, False)
    )
    torch.testing.assert_close(fused, stepwise, rtol=1e-5, atol=1e-5)


def test_gradients_pass_to_parameters():
    sigma = torch.tensor(0.6, dtype=DOUBLE, requires_grad=True)
    form, x = to_stratonovich(GBM(0.1, sigma)), states(4, 2)
    form.drift(T0, x).sum().backward()
    torch.testing.assert_close(sigma.grad, (-0.6 * x).sum())
    with torch.no_grad():
        assert (form.drift(T0, x) != 0.1 * x).all()


def test_types_of_the_state_and_empty_batches():
    sde = GBM(0.1, torch.tensor([0.5, 1.0], dtype=DOUBLE))
    for dtype in (torch.float32, torch.bfloat16, DOUBLE):
        x = states(4, 2).to(dtype)
        drift = to_stratonovich(sde).drift(T0.to(dtype), x)
        assert drift.dtype == dtype and drift.shape == (4, 2)
    for noise_type, g, _, x in CASES.values():
        form = to_stratonovich(Plain(still, g, noise_type=noise_type))
        assert form.drift(T0, x[:0]).shape == x[:0].shape


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(x):
        return 2 * x

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad


BAD = [
    (lambda: to_ito(GBM), TypeError, "write an instance"),
    (lambda: to_ito(3), TypeError, "int has no drift"),
    (lambda: to_ito(Plain(still, None)), TypeError, "Plain has no diffusion"),
    (lambda: to_ito(Plain(still, still, noise_type="diag")), ValueError, "Did you mean 'diagonal'"),
    (lambda: to_ito(Plain(still, still, interpretation="Ito")), ValueError, "Did you mean 'ito'"),
    (lambda: to_ito(GBM(), elementwise=1), TypeError, "True, False or None"),
    (
        lambda: to_ito(Plain(still, still, noise_type="scalar"), elementwise=True),
        ValueError,
        "elementwise=True is for diagonal noise, Plain has scalar noise",
    ),
    (lambda: drift_of(lambda t, x: Doubled.apply(x)), TypeError, "setup_context and jvp"),
    (
        lambda: drift_of(lambda t, x: torch.from_numpy(np.sin(x.numpy()))),
        TypeError,
        "Plain.diffusion has no forward-mode derivative .* without NumPy",
    ),
    (lambda: drift_of(lambda t, x: torch.ones(4)), ValueError, r"broadcasts to \(2, 3\)"),
    (
        lambda: drift_of(lambda t, x: x, noise_type="general"),
        ValueError,
        r"general noise, but its diffusion has shape \(2, 3\): return \(2, 3, 'M'\)",
    ),
    (lambda: drift_of(still, lambda t, x: x[:, 0]), ValueError, r"Plain.drift returned shape \(2,"),
]


def drift_of(g, f=still, **attributes):
    return to_stratonovich(Plain(f, g, **attributes)).drift(T0, states(2, 3))


@pytest.mark.parametrize(("call", "error", "says"), BAD)
def test_bad_input_says_what_is_needed(call, error, says):
    with pytest.raises(error, match=says):
        call()


def test_a_solve_says_it_too():
    sde = Plain(still, lambda t, x: torch.from_numpy(np.sin(x.numpy())))
    with pytest.raises(TypeError, match="no forward-mode derivative"):
        sk.solve(to_stratonovich(sde), torch.ones(2, 3), method="heun")
