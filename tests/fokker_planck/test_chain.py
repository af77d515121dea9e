"""The parts: tensors as jumps, rates that are positive and lose nothing, the exponential."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sdekit_kernels import normal

from sdekit.fokker_planck import fokker_planck
from sdekit.fokker_planck.cells import make_cells
from sdekit.fokker_planck.exponential import Exponential
from sdekit.fokker_planck.field import Field, make_field
from sdekit.fokker_planck.limited import Limited
from sdekit.fokker_planck.rates import Rates
from sdekit.fokker_planck.selling import longest, selling
from sdekit.solvers import Equation
from tests.fokker_planck.laws import DOUBLE, edges, vector


def numbers(*shape, seed=0, stream=0):
    return normal(shape, seed=seed, stream=stream, dtype=DOUBLE)


class Rough:
    """Drift and noise that are smooth, strong, and as good as random; degenerate if asked for."""

    noise_type = "general"

    def __init__(self, dim, seed, strength, noise, motions=2):
        self.waves = numbers(3, dim, seed=seed)
        self.force = strength * numbers(3, dim, seed=seed, stream=1)
        self.mix = noise * numbers(3, dim * motions, seed=seed, stream=2)
        self.shape = dim, motions

    def drift(self, t, x):
        return torch.sin(x @ self.waves.T) @ self.force

    def diffusion(self, t, x):
        return (torch.cos(x @ self.waves.T) @ self.mix).view(len(x), *self.shape)


def chain_of(sde, cells, on_axes=False):
    field = make_field(Equation(sde), 0.0, cells)
    return Rates(cells, on_axes=on_axes).generator(field)


def matrix_of(q):
    """Q as a matrix (N, N) that acts on columns of masses."""
    n = q.loss.numel()
    unit = torch.eye(n, dtype=DOUBLE).view(n, *q.loss.shape)
    return q.apply(unit).reshape(n, n).T


ANGLE = st.floats(0.0, math.pi)


@given(ANGLE, st.floats(0.0, 1.0), st.floats(1e-3, 1e3), st.integers(1, 6))
def test_a_tensor_is_its_jumps(angle, thin, scale, reach):
    """M + a n n^T = sum of weight v v^T with weights >= 0.

    a is largest for noise between the offsets (1, 0) and (r, 1): M / (sqrt(r^2 + 1) + r)^2.
    """
    line = vector(math.cos(angle), math.sin(angle))
    across = vector(-math.sin(angle), math.cos(angle))
    m = scale * (torch.outer(line, line) + thin**3 * torch.outer(across, across))
    found = selling(m[:1, 0], m[:1, 1], m[1:, 1], reach)
    v = found.offsets[:, :, 0].double()
    again = torch.einsum("k,ik,jk->ij", found.weights[:, 0], v, v)
    want = m + found.added * torch.outer(across, across)
    assert float(found.weights.min()) >= 0.0 and float(v.abs().max()) <= reach
    assert float((again - want).abs().max()) < 1e-13 * scale
    most = scale / (math.sqrt(reach**2 + 1) + reach) ** 2
    assert 0.0 <= float(found.added) < 1.05 * most


def test_tensors_that_need_no_long_jumps_get_none():
    """Noise along a line through corners of cells, and what is not very anisotropic."""
    for a, b in ((1, 0), (0, 1), (1, 1), (1, -1), (2, 1), (3, -2), (5, 4)):
        found = selling(*vector(a * a, a * b, b * b)[:, None], reach=5)
        used = found.offsets[:, found.weights > 0].flatten().tolist()
        sign = 1 if a > 0 else -1
        assert used == [sign * a, sign * b] or (a == 0 and used == [0, 1])
        assert float(found.added) == 0.0
    near = selling(*vector(1.0, 0.6, 1.2)[:, None], reach=5)
    assert float(near.offsets.abs().max()) == 1
    assert [longest(n) for n in (4, 60, 120, 800)] == [1, 2, 3, 5]


@given(
    st.integers(0, 10**6),
    st.sampled_from([1, 2]),
    st.sampled_from([0.0, 1e-3, 1.0, 30.0]),
    st.sampled_from([0.0, 1e-3, 1.0]),
    st.sampled_from([1, 2]),
    st.booleans(),
)
@settings(max_examples=40)
def test_positive_rates_that_lose_nothing(seed, dim, strength, noise, motions, on_axes):
    """On cells of uneven widths: rates >= 0, columns of Q that sum to zero."""
    e = [edges(-1.0, 1.3, n) + 0.02 * torch.sin(3.0 * edges(0.0, n, n)) for n in (9, 7)]
    q = chain_of(Rough(dim, seed, strength, noise, motions), make_cells(e[:dim]), on_axes)
    matrix = matrix_of(q)
    off = matrix - matrix.diagonal().diag()
    scale = float(matrix.abs().max()) + 1e-300
    assert q.closed and float(off.min()) >= 0.0
    assert float(matrix.sum(0).abs().max()) < 1e-13 * scale
    assert torch.all(torch.isfinite(matrix))


@given(
    st.integers(0, 10**6),
    st.sampled_from([1, 2]),
    st.sampled_from([1e-3, 1.0, 20.0]),
    st.sampled_from([0.0, 1e-2, 1.0]),
    st.sampled_from(["linear", "limited"]),
)
@settings(max_examples=30)
@pytest.mark.filterwarnings("ignore:the noise is nearly along one line")
def test_densities_stay_positive_and_keep_their_mass(seed, dim, strength, noise, scheme):
    """Whatever the equation; from random densities, half of whose cells are empty."""
    e = [edges(-1.0, 1.0, n) for n in (14, 11)[:dim]]
    p0 = numbers(*[len(v) - 1 for v in e], seed=seed, stream=3).clamp(min=0.0)
    sde = Rough(dim, seed, strength, noise)
    d = fokker_planck(sde, p0, e, [0.01, 0.3], boundary="reflecting", scheme=scheme)
    assert float(d.p.min()) >= 0.0
    assert float((d.mass - 1.0).abs().max()) < 1e-13


@pytest.mark.filterwarnings("ignore:the noise is nearly along one line")
def test_absorbing_walls_only_take():
    for seed in range(5):
        e = edges(-1.0, 1.0, 14), edges(-1.0, 1.0, 11)
        sde = Rough(2, seed, 3.0, 1.0)
        times = [0.0, 0.05, 0.2, 0.5]
        for scheme in ("linear", "limited"):
            d = fokker_planck(
                sde,
                lambda x: torch.ones_like(x[:, 0]),
                e,
                times,
                boundary=("absorbing", ("reflecting", "absorbing")),
                scheme=scheme,
            )
            assert float(d.p.min()) >= 0.0
            assert torch.all(d.mass.diff() < 0) and float(d.mass[-1]) < 0.9


def test_exponential_both_ways():
    """The series and the squared matrix against the matrix exponential of torch."""
    cells = make_cells([edges(-1.0, 1.0, 8), edges(-1.0, 1.0, 6)])
    q = chain_of(Rough(2, 3, 5.0, 1.0), cells)
    m = numbers(8, 6, seed=1).square()
    for tau in (0.0, 1e-3, 0.1, 3.0):
        want = (torch.linalg.matrix_exp(tau * matrix_of(q)) @ m.flatten()).view(8, 6)
        step = Exponential(q)
        series = step._series(m, q.rate * tau) if tau > 0 else m
        squarings = max(0, math.ceil(math.log2(q.rate * tau))) if tau > 0 else 0
        matrix = step._matrix(tau, squarings) if tau > 0 else torch.eye(48, dtype=DOUBLE)
        for got in (series, (matrix @ m.flatten()).view(8, 6), step(m, tau)):
            torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-13)


def test_tiny_masses_have_small_relative_errors():
    """Nothing is subtracted: a tail of 1e-30 is right to rounding, not to 1e-16 of the peak.

    Jumps to the right only, at rate r: masses are Poisson's.
    """

    class Right:
        deterministic = True

        def drift(self, t, x):
            return torch.ones_like(x)

        def diffusion(self, t, x):
            return torch.zeros_like(x)

    q = chain_of(Right(), make_cells(edges(0.0, 60.0, 60)))
    m = torch.zeros(60, 1, dtype=DOUBLE)
    m[0] = 1.0
    k = torch.arange(20, dtype=DOUBLE)
    want = torch.exp(k * math.log(0.3) - 0.3 - torch.lgamma(k + 1.0))
    assert float(want.min()) < 1e-27
    torch.testing.assert_close(Exponential(q)(m, 0.3)[:20, 0], want, rtol=1e-11, atol=0.0)


def test_long_times_cost_nothing_once_nothing_changes():
    q = chain_of(Rough(1, 5, 1.0, 1.0), make_cells(edges(-1.0, 1.0, 30)))
    step = Exponential(q)
    m = torch.full((30, 1), 1.0 / 30, dtype=DOUBLE)
    settled = step._series(m, 1e5)
    torch.testing.assert_close(step._series(m, 9e6), settled, rtol=1e-9, atol=0.0)


def test_no_end_of_time_is_waited_for():
    q = chain_of(Rough(2, 5, 1.0, 1.0), make_cells([edges(-1.0, 1.0, 70)] * 2))
    m = torch.ones(70, 70, dtype=DOUBLE)
    with pytest.raises(ValueError, match="wider cells"):
        Exponential(q)(m, 1e9)
    q = chain_of(Rough(1, 5, 1.0, 1.0), make_cells(edges(-1.0, 1.0, 30)), on_axes=True)
    with pytest.raises(ValueError, match="wider cells"):
        Limited(q)(m, 1e9)


def test_fields_are_compared_bit_for_bit():
    c, b = torch.ones(3, 2, 2, dtype=DOUBLE), torch.ones(2, 2, 2, dtype=DOUBLE)
    assert Field(b, c).equals(Field(b.clone(), c.clone()))
    assert not Field(b, c).equals(Field(b * (1 + 2.0**-52), c))
