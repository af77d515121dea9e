"""Which method a solve takes, and what it says to equations that a method is not made for."""

from __future__ import annotations

import re

import pytest
import torch

import sdekit as sk
from sdekit.solvers import SOLVERS, Equation, get_solver

X = torch.tensor([[0.5, 1.5], [0.2, 0.7]])
T = torch.zeros(())


class Law:
    """dx = -x dt + g dW of any noise type."""

    def __init__(self, noise_type, interpretation="ito", mixed=False):
        self.noise_type, self.interpretation, self.mixed = noise_type, interpretation, mixed

    def drift(self, t, x):
        return -x

    def diffusion(self, t, x):
        if self.noise_type == "additive":
            return torch.full_like(x, 0.3)
        if self.noise_type == "general":
            return torch.stack([0.1 * x, 0.2 * x.flip(1), torch.cos(x)], -1)
        return 0.3 * (x.flip(1) if self.mixed else x)


def took(sde, x=X):
    return get_solver("auto", Equation(sde), (T, x))


@pytest.mark.parametrize("interpretation", ["ito", "stratonovich"])
@pytest.mark.parametrize("noise_type", ["additive", "diagonal", "scalar", "general"])
def test_auto_takes_the_highest_order(noise_type, interpretation):
    sde = Law(noise_type, interpretation)
    solver, why = took(sde)
    assert solver.name in why
    assert noise_type in why
    mine = (solver.strong_order[noise_type], solver.weak_order[noise_type])
    for other in SOLVERS.values():
        if other.general_purpose and other.takes(Equation(sde)):
            assert (other.strong_order[noise_type], other.weak_order[noise_type]) <= mine
    sol = sk.solve(sde, X, steps=4, method="auto")
    assert sol.stats.method == solver.name
    assert sol.stats.reason.startswith(f"auto took {solver.name!r}")
    assert f"auto took {solver.name!r}" in sk.explain(sde, "auto", x0=X).reason


def test_auto_passes_over_methods_whose_promise_needs_more():
    """Diagonal noise that mixes components: no method that needs g_i(x_i) keeps its order."""
    solver, why = took(Law("diagonal", mixed=True))
    assert solver.strong_order["diagonal"] == 0.5
    assert "mixes components" in why


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("interpretation", ["ito", "stratonovich"])
def test_mixed_diagonal_noise_has_the_order_of_noise_that_does_not_commute(interpretation, mixed):
    """g_i(x_j): the columns g_i e_i do not commute, so Heun's method has order 1/2."""
    sde = Law("diagonal", interpretation, mixed=mixed)
    solver, why = took(sde)
    strong = 0.5 if mixed else 1.5 if interpretation == "ito" else 1.0
    assert f"of strong order {strong:g} and" in why
    assert ("diagonal noise that mixes components, of" in why) == mixed
    equation = Equation(sde)
    for other in SOLVERS.values():
        if not other.needs and other.takes(equation) and not other.obstacle(equation, T, X):
            declared = other.strong_order["diagonal"]
            assert other.orders_on(equation, mixed)[0] == (0.5 if mixed else declared)
    assert solver.orders_on(equation, mixed)[0] == strong


@pytest.mark.parametrize("interpretation", ["ito", "stratonovich"])
def test_what_is_advised_for_mixed_diagonal_noise_takes_the_equation(interpretation):
    sde = Law("diagonal", interpretation, mixed=True)
    with pytest.raises(ValueError, match=r"mixes components: use '") as caught:
        sk.solve(sde, X, steps=4, method="milstein")
    named = re.search(r"use '(\w+)', or write .*diag_embed\(g\), for '(\w+)'", str(caught.value))
    for name, noise in zip(named.groups(), ("diagonal", "general"), strict=True):
        assert SOLVERS[name].takes(Equation(Law(noise, interpretation)))


@pytest.mark.parametrize(
    ("sde", "x0", "whole", "parts"),
    [
        (sk.CIR(1.0, 0.5, 0.9), X, "andersen_qe", "andersen_qe"),
        (sk.Heston(xi=0.9), X, "andersen_qe", "andersen_qe"),
        (sk.Heston(xi=0.0), X, "full_truncation", "full_truncation"),
        (sk.UnderdampedLangevin(lambda q: q**2), X[:, :, None], "quicsort", "baoab"),
    ],
    ids=["CIR", "Heston", "Heston without noise in v", "underdamped"],
)
def test_auto_takes_what_keeps_what_the_equation_declares(sde, x0, whole, parts):
    sol = sk.solve(sde, x0, steps=4, method="auto")
    assert sol.stats.method == whole
    assert "it is made for" in sol.stats.reason
    assert sk.solve(sde, x0, steps=4, method="auto", save_at=[0.3, 1.0]).stats.method == parts
    many = sk.solve(sde, x0[:1].expand(2000, *x0.shape[1:]), t1=4.0, steps=8, method="auto").x
    if getattr(sde, "nonnegative", ()):
        assert float(many[:, -1].min()) >= 0.0


def test_auto_keeps_the_components_that_any_equation_declares():
    sde = Law("diagonal")
    sde.nonnegative = (1,)
    assert took(sde)[0].name == "full_truncation"
    other = Law("diagonal", "stratonovich")
    other.nonnegative = (1,)
    solver, why = took(other)
    assert solver.name == "milstein"
    assert "no method for this form keeps its components at zero or above" in why


def test_auto_looks_whether_an_equation_is_the_one_that_its_names_say():
    """force, friction, temperature and mass of another equation make it no Langevin dynamics."""
    sde, x = Law("additive"), X[:, :, None]
    sde.force, sde.friction, sde.temperature, sde.mass = torch.neg, 1.0, 1.0, 1.0
    assert took(sde, x)[0].name == "sra1"
    for method in ("baoab", "quicsort"):
        with pytest.raises(ValueError, match=r"it must be dq = v dt.*use 'sra1'"):
            sk.solve(sde, x, steps=4, method=method)


def test_auto_for_equations_without_noise():
    flow = sk.ProbabilityFlow(sk.VP(), lambda t, x: -x)
    solver, why = took(flow)
    assert solver.ode_order == 4
    assert "order 4" in why


@pytest.mark.parametrize("method", ["milstein_free", "sriw1", "sosri"])
def test_a_method_that_needs_elementwise_noise_says_so(method):
    with pytest.raises(ValueError, match="mixes components"):
        sk.solve(Law("diagonal", mixed=True), X, steps=4, method=method)


def test_a_stratonovich_equation_for_an_ito_method():
    with pytest.raises(ValueError, match=r"'heun'.*sdekit.to_ito\(sde\), the same process"):
        sk.solve(Law("diagonal", "stratonovich"), X, steps=4, method="euler_maruyama")
    with pytest.raises(ValueError, match=r"sdekit.to_stratonovich\(sde\), the same process"):
        sk.solve(Law("diagonal"), X, steps=4, method="heun")
    x = sk.solve(sk.to_ito(Law("diagonal", "stratonovich")), X, steps=4).x
    assert torch.isfinite(x).all()


def test_noise_that_a_method_does_not_take():
    with pytest.raises(ValueError, match="additive noise; Law is ito with general"):
        sk.solve(Law("general"), X, steps=4, method="sra1")
    with pytest.raises(ValueError, match="'rk4' takes"):
        sk.solve(Law("additive"), X, steps=4, method="rk4")


def test_what_an_equation_lacks():
    with pytest.raises(ValueError, match=r"'baoab' needs an equation with force.*use '"):
        sk.solve(Law("additive"), X, steps=4, method="baoab")


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="milstein"):
        sk.solve(Law("additive"), X, steps=4, method="milstien")


def test_levy_areas_and_whole_steps():
    sde = Law("general", "stratonovich")
    with pytest.raises(ValueError, match="whole steps only"):
        sk.solve(sde, X, steps=4, method="milstein_area", save_at=[0.3, 1.0])
    x = sk.solve(sde, X, steps=4, method="milstein_area", save_at=[0.25, 1.0]).x
    assert x.shape == (2, 2, 2)


def test_refined_noise_is_the_finer_grid_s():
    """The Brownian path of 8 x 16 steps seen by 16 steps: the error falls with the first order."""
    sde, x = sk.GBM(0.1, 0.5), torch.ones(2000, 1, dtype=torch.float64)
    fine = sk.solve(sde, x, steps=512, method="milstein_free").x
    errors = []
    for refine in (8, 16, 32):
        sol = sk.solve(sde, x, steps=512 // refine, refine=refine, method="milstein_free")
        assert sol.stats.path == "torch"
        errors.append((sol.x - fine).abs().mean())
    assert 1.7 < errors[1] / errors[0] < 2.3
    assert 1.7 < errors[2] / errors[1] < 2.3
    with pytest.raises(RuntimeError, match="refine"):
        sk.solve(sde, x, steps=8, refine=2, fuse=True)
    with pytest.raises(ValueError, match="refine needs one grid"):
        sk.solve(sde, x, steps=torch.tensor([3] * 2000), refine=2)


def test_methods_with_areas_save_between_steps():
    """sra1 draws (dw, h) over part of a step in law: mean and variance of OU at inner times."""
    theta, sigma, n = 1.3, 0.7, 100_000
    x = torch.full((n, 1), 2.0, dtype=torch.float64)
    sol = sk.solve(sk.OU(theta, 0.2, sigma), x, steps=8, method="sra1", save_at=[0.3, 0.55, 1.0])
    law = [sk.OU(theta, 0.2, sigma).marginal(t.to(x.dtype), x) for t in sol.t]
    for state, m in zip(sol.x, law, strict=True):
        # The method's own bias at dt = 1/8 is below 1e-4; 4.5 standard errors of 1e5 paths.
        assert abs(float(state.mean() - m.mean[0])) < 4.5 * float(m.std[0]) / n**0.5 + 1e-4
        ratio = float(state.var() / m.var[0])
        assert abs(ratio - 1) < 4.5 * (2 / n) ** 0.5 + 1e-3


def test_sweeps_of_methods_that_look_at_the_equation():
    """One parameter a sample: the look at the diffusion takes the whole batch."""
    sigma = torch.linspace(0.1, 0.6, 9)[:, None]

    class Sweep(Law):
        def diffusion(self, t, x):
            return sigma * x

    x = torch.ones(9, 2)
    sol = sk.solve(Sweep("diagonal"), x, steps=8, method="milstein_free")
    assert sol.stats.path == "trajectory_kernel"
    assert sol.x.shape == (9, 2)
    assert sk.solve(Sweep("diagonal"), x, steps=8, method="auto").stats.method != "euler_maruyama"


def test_auto_asks_for_what_save_at_needs():
    """Areas of a part of a step are not known: between the grid's times another method is taken."""
    sde = Law("general", "stratonovich")
    whole = sk.solve(sde, X, steps=4, method="auto", save_at=[0.5, 1.0])
    parts = sk.solve(sde, X, steps=4, method="auto", save_at=[0.4, 1.0])
    assert not SOLVERS[whole.stats.method].bridges
    assert SOLVERS[parts.stats.method].bridges
