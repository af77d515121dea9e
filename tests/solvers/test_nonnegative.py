"""Methods for equations that stay at zero or above: full truncation, and Andersen's scheme."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.interpolate import CubicSpline

import sdekit as sk
from sdekit.noise.increment import Increment
from sdekit.sde import CIR, SDE, Heston
from sdekit.solvers import SOLVERS, Equation
from tests.solve.paths import both, close
from tests.solvers.laws import F64, covers, weighted

N = 200_000
X0 = torch.linspace(0.1, 1.2, 300).view(150, 2)
ZERO = torch.zeros((), dtype=F64)
HESTON = dict(rate=0.03, kappa=1.5, theta=0.09, xi=0.9, rho=-0.7)  # 2 kappa theta = xi^2 / 3


@pytest.mark.parametrize(
    ("method", "sde"),
    [
        ("full_truncation", Heston(**HESTON)),
        ("andersen_qe", CIR(1.0, 0.5, 0.9)),
        ("andersen_qe", Heston(**HESTON)),
    ],
    ids=lambda v: v if isinstance(v, str) else type(v).__name__,
)
def test_one_kernel_equals_step_by_step(method, sde):
    assert sk.explain(sde, method, x0=X0).name == "trajectory_kernel"
    fused, stepwise = both(sde, X0, t1=0.7, steps=40, method=method)
    assert close(fused.x, stepwise.x)
    for name, value in fused.carried.items():
        assert close(value, stepwise.carried[name])


@pytest.mark.parametrize("method", ["full_truncation", "andersen_qe"])
def test_cir_stays_at_zero_or_above_with_its_mean(method):
    """Far from Feller's condition (2 kappa theta = xi^2 / 10), in 8 steps."""
    sde = CIR(0.5, 0.1, 1.0)
    x0 = torch.full((N, 1), 0.1)
    sol = sk.solve(sde, x0, t1=2.0, steps=8, method=method, save_at=[0.25, 0.5, 1.0, 2.0])
    assert float(sol.x.min()) == 0.0
    euler = sk.solve(sde, x0[:1000], t1=2.0, steps=8, fuse=False)
    assert float(euler.x.min()) < 0.0
    x, law = sol.x[-1, :, 0].double(), sde.marginal(2.0, x0[:1])
    if method == "andersen_qe":
        assert covers(x, float(law.mean))
        assert covers((x - x.mean()) ** 2, float(law.var))
    else:  # truncation adds to the mean
        assert 0.0 < float(x.mean() - law.mean) < 0.1
        assert torch.equal(sol.carried["untruncated"].clamp(min=0), sol.x[-1])


def test_full_truncation_is_eulers_method_away_from_zero():
    sde, x0 = CIR(1.0, 2.0, 0.1), torch.full((100, 2), 2.0)
    one, other = (
        sk.solve(sde, x0, method=m, fuse=False) for m in ("full_truncation", "euler_maruyama")
    )
    assert close(one.x, other.x)
    assert close(one.x, one.carried["untruncated"], 0.0)


def test_full_truncation_wants_something_to_truncate():
    with pytest.raises(ValueError, match="no component of it is said to stay at zero"):
        sk.solve(sk.GBM(), X0, method="full_truncation")


@pytest.mark.parametrize("v", [0.0, 0.002, 0.09, 1.0])
@pytest.mark.parametrize("dt", [0.01, 0.5, 3.0])
def test_qe_has_the_exact_mean_and_variance(v, dt):
    """By quadrature; the exponential form has a kink, where the sum is right to (dz)^2 = 7e-7."""
    sde = CIR(1.5, 0.09, 0.9)
    z, p = weighted()
    x = torch.full_like(z, v)
    w = Increment(dt, z * math.sqrt(dt))
    end = SOLVERS["andersen_qe"].step(Equation(sde), ZERO, ZERO + dt, dt, x, w)[:, 0]
    law = sde.transition(0.0, dt, x[:1])
    mean = float(p @ end)
    assert mean == pytest.approx(float(law.mean), rel=1e-6)
    assert float(p @ (end - mean) ** 2) == pytest.approx(float(law.var), rel=3e-6)


@pytest.mark.parametrize("rho", [-0.9, 0.0, 0.6])
@pytest.mark.parametrize("dt", [0.01, 0.25, 1.0])
@pytest.mark.parametrize("v", [0.0, 0.002, 0.09, 1.0])
def test_the_discounted_price_is_a_martingale(v, dt, rho):
    """E exp(log S' - log S - rate dt) = 1, by quadrature over z_1 and in closed form over z_2."""
    sde = Heston(**{**HESTON, "rho": rho})
    z, p = weighted()
    x = torch.tensor([[0.4, v]], dtype=F64).expand(len(z), 2)

    def end(z_2):
        w = Increment(dt, torch.cat([z, torch.full_like(z, z_2)], 1) * math.sqrt(dt))
        return SOLVERS["andersen_qe"].step(Equation(sde), ZERO, ZERO + dt, dt, x, w)[:, 0]

    middle, spread = end(0.0), end(1.0) - end(0.0)
    growth = torch.exp(middle + 0.5 * spread**2 - 0.4 - HESTON["rate"] * dt)
    assert float(p @ growth) == pytest.approx(1.0, rel=3e-6)


def test_qe_has_weak_order_two():
    """E exp(i u log S) after n steps, backwards from the last: quadrature and cubic splines in
    sqrt(v), against the characteristic function."""
    sde, u, v_0 = Heston(0.03, 1.0, 0.5, 0.4, -0.6), 2.0, 0.5
    known = complex(sde.characteristic_function(u, 1.0, torch.tensor([[0.0, v_0]]).double())[0])
    z, p = weighted(801)
    root = np.linspace(0.0, 2.0, 240)
    v = torch.from_numpy(root).square().repeat_interleave(len(z))
    x, z_1 = torch.stack([torch.zeros_like(v), v], 1), z.repeat(len(root), 1)
    errors = []
    for n in (4, 8, 16):
        ends = []
        for z_2 in (0.0, 1.0):
            w = Increment(1 / n, torch.cat([z_1, torch.full_like(z_1, z_2)], 1) / math.sqrt(n))
            ends.append(SOLVERS["andersen_qe"].step(Equation(sde), ZERO, ZERO + 1 / n, 1 / n, x, w))
        (y, v_next), (y_1, _) = (end.unbind(1) for end in ends)
        kernel = torch.exp(1j * u * y - 0.5 * (u * (y_1 - y)) ** 2).view(len(root), -1).numpy()
        at = v_next.sqrt().clamp(max=2.0).view(len(root), -1).numpy()
        value = np.ones(len(root), dtype=complex)
        for _ in range(n):
            value = (kernel * CubicSpline(root, value)(at)) @ p.numpy()
        errors.append(abs(complex(CubicSpline(root, value)(math.sqrt(v_0))) - known))
    assert math.log2(errors[1] / errors[2]) == pytest.approx(2.0, abs=0.2)
    assert errors[2] < 1e-4


def test_heston_paths_are_a_martingale_and_price_calls():
    """2e5 paths of 12 steps a year: E S and a call within 4 standard errors, and v >= 0."""
    sde, x0 = Heston(**HESTON), torch.tensor([[0.0, 0.09]])
    x = sk.solve(sde, x0.expand(N, 2), t1=2.0, steps=24, method="andersen_qe", seed=1).x.double()
    discounted = torch.exp(x[:, 0] - 2.0 * HESTON["rate"])
    assert covers(discounted, 1.0)
    call = (discounted - math.exp(-2.0 * HESTON["rate"])).clamp(min=0.0)
    price = float(sde.call_price(1.0, 2.0, x0.double()))
    assert covers(call, price)
    assert float(x[:, 1].min()) >= 0.0
    euler = sk.solve(sde, x0.expand(N, 2), t1=2.0, steps=24, method="euler_maruyama", seed=1).x
    lost = torch.exp(euler[:, 0].double() - 2 * HESTON["rate"]) - math.exp(-2 * HESTON["rate"])
    assert not covers(lost.clamp(min=0.0), price)


def test_qe_follows_the_path_of_cir():
    """Strong order 1 where v keeps away from zero: against Euler's method on 2048 steps."""
    sde, x0 = CIR(1.0, 0.5, 0.3), torch.full((1000, 1), 0.5, dtype=F64)
    fine = sk.solve(sde, x0, steps=2048, fuse=False).x
    errors = [
        float((sk.solve(sde, x0, steps=n, refine=2048 // n, method="andersen_qe").x - fine)
              .abs().mean())
        for n in (4, 8, 16)
    ]  # fmt: skip
    assert math.log2(errors[0] / errors[2]) / 2 == pytest.approx(1.0, abs=0.15)


def test_qe_takes_parameters_of_each_path():
    rho = torch.linspace(-0.8, 0.5, 3)
    x0 = torch.tensor([[0.0, 0.09]]).expand(3, 2)
    many = sk.solve(Heston(rho=rho), x0, method="andersen_qe", steps=5, fuse=False).x
    for i in range(3):
        one = Heston(rho=float(rho[i]))
        here = dict(method="andersen_qe", steps=5, first_sample=i, fuse=False)
        alone = sk.solve(one, x0[:1], **here).x
        assert close(many[i], alone[0], 1e-6)


@pytest.mark.parametrize("v_0", [0.09, 0.0])
def test_qe_has_gradients_where_the_variance_reaches_zero(v_0):
    """2 kappa theta = xi^2 / 3: sqrt(v + v_next) is 0 for half of the paths, its slope infinite."""
    given = {k: torch.tensor(v, dtype=F64, requires_grad=True) for k, v in HESTON.items()}
    x0 = torch.tensor([[0.0, v_0]], dtype=F64).expand(400, 2).clone().requires_grad_()
    x = sk.solve(Heston(**given), x0, t1=2.0, steps=8, method="andersen_qe").x
    assert float((x[:, 1] == 0.0).double().mean()) > 0.2
    x.square().sum().backward()
    assert bool(x0.grad.isfinite().all())
    assert all(bool(p.grad.isfinite()) and float(p.grad) != 0.0 for p in given.values())


def test_gradients_of_qe_are_those_of_differences():
    """d E log S / d theta, central differences of 1e-6 on the same noise, away from zero."""
    x0 = torch.tensor([[0.0, 0.4]], dtype=F64).expand(50, 2)

    def mean(theta):
        sde = Heston(0.03, 1.5, theta, 0.3, -0.7)
        return sk.solve(sde, x0, steps=4, method="andersen_qe", fuse=False).x[:, 0].mean()

    theta = torch.tensor(0.4, dtype=F64, requires_grad=True)
    mean(theta).backward()
    difference = (mean(0.4 + 1e-6) - mean(0.4 - 1e-6)) / 2e-6
    assert float(theta.grad) == pytest.approx(float(difference), rel=1e-6)


@pytest.mark.parametrize("fuse", [None, False])
@pytest.mark.parametrize("method", ["andersen_qe", "full_truncation"])
@pytest.mark.parametrize(("given", "shape"), [((2,), (5, 1)), ((3, 1), (3, 2)), ((3,), (4, 2))])
def test_parameters_that_do_not_fit_the_state_are_refused(given, shape, method, fuse):
    sde = CIR(torch.linspace(1.0, 2.0, given[0]).view(given), 1.0, 0.5)
    with pytest.raises(ValueError, match=r"CIR has parameters for events of shape"):
        sk.solve(sde, torch.ones(shape), steps=2, method=method, fuse=fuse)
    w = Increment(0.1, torch.zeros(shape))
    with pytest.raises(ValueError, match=r"CIR has parameters for events of shape"):
        SOLVERS["andersen_qe"].step(Equation(sde), ZERO, ZERO + 0.1, 0.1, torch.ones(shape), w)


@pytest.mark.parametrize("fuse", [None, False])
def test_heston_s_parameters_and_states_that_do_not_fit_are_refused(fuse):
    with pytest.raises(ValueError, match="must have as many as x0 has rows"):
        sk.solve(Heston(xi=torch.ones(3)), torch.ones(4, 2), method="andersen_qe", fuse=fuse)
    with pytest.raises(ValueError, match=r"x must have shape \(B, 2\)"):
        sk.solve(Heston(), torch.ones(4, 3), method="andersen_qe", fuse=fuse)


def test_qe_at_the_edges():
    """Without noise v follows its mean; from zero without a pull it stays there; xi = 0 refused."""
    x0 = torch.full((5, 1), 0.3)
    still = sk.solve(CIR(1.0, 0.5, 0.0), x0, steps=4, method="andersen_qe", fuse=False).x
    assert close(still, CIR(1.0, 0.5, 0.0).marginal(1.0, x0).mean, 2e-6)
    stuck = sk.solve(CIR(1.0, 0.0, 0.5), 0 * x0, method="andersen_qe", fuse=False).x
    assert close(stuck, 0 * x0, 0.0)
    half = sk.solve(Heston(), torch.tensor([[0.0, 0.04]]).half(), method="andersen_qe").x
    assert bool(half.isfinite().all())
    with pytest.raises(ValueError, match="it divides by xi, which is 0 here"):
        sk.solve(Heston(xi=0.0), X0, method="andersen_qe")

    class Imitation(SDE):
        kappa = theta = xi = 1.0

        def drift(self, t, x):
            return -x

        def diffusion(self, t, x):
            return x

    with pytest.raises(ValueError, match=r"those of sdekit.CIR and sdekit.Heston"):
        sk.solve(Imitation(), X0, method="andersen_qe")
