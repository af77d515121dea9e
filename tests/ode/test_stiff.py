"""Stiff samples go over to Runge-Kutta-Chebyshev, by themselves."""

from __future__ import annotations

import math

import pytest
import torch

from sdekit.ode import integrate
from sdekit.ode.chebyshev import stages_of

RATES = torch.tensor([1.0, 10.0, 1e3, 1e5], dtype=torch.float64)


def drawn_to_cosine(t, y, rows):
    """dy/dt = -rate (y - cos t) - sin t: y = cos t, whatever the rate."""
    return -RATES[rows][:, None] * (y - torch.cos(t)[:, None]) - torch.sin(t)[:, None]


@pytest.mark.parametrize("s", [2, 3, 5, 20, 200])
def test_stages_make_a_stable_method_of_order_two(s):
    rows = stages_of(s)

    def growth(z):
        older, old = 1.0, 1.0 + rows[0][2] * z
        for mu, nu, weight, gamma, _ in rows[1:]:
            made = (1.0 - mu - nu) + mu * old + nu * older + weight * z * old + gamma * z
            older, old = old, made
        return old

    # R(z) = 1 + z + z^2 / 2 + O(z^3), from which z = 1e-4 leaves 1e-12.
    assert growth(1e-4) == pytest.approx(1.0 + 1e-4 + 0.5e-8, abs=2e-12)
    assert rows[-1][4] == pytest.approx(1.0, abs=1e-12)
    reach = 2.0 / 3.0 * (s * s - 1.0) * (1.0 - 2.0 / 15.0 * 2.0 / 13.0)  # the paper's
    assert 1.54 * reach + 1.0 <= s * s * 1.03  # what chooses s stays within
    assert max(abs(growth(-reach * j / 1000.0)) for j in range(1, 1001)) <= 1.0


def test_stiff_samples_change_over_and_the_others_do_not():
    y = torch.ones(4, 2, dtype=torch.float64)
    done = integrate(drawn_to_cosine, y, 0.0, 5.0, rtol=1e-5, atol=1e-5)
    assert done.stiff.tolist() == [False, False, True, True]
    assert (done.status == 0).all() and (done.t == 5.0).all()
    assert (done.y - math.cos(5.0)).abs().max() < 1e-4
    plain = integrate(drawn_to_cosine, y, 0.0, 5.0, rtol=1e-5, atol=1e-5, stiff=False)
    assert torch.equal(plain.y[:2], done.y[:2])
    assert plain.status.tolist() == [0, 0, 0, 3]  # 1e5 needs more than 10,000 steps
    assert int(done.nfe[2]) < 0.7 * int(plain.nfe[2])


def test_a_stiff_sample_alone_has_the_bits_of_the_batch():
    y = torch.ones(4, 2, dtype=torch.float64)
    together = integrate(drawn_to_cosine, y, 0.0, 1.0)
    alone = integrate(lambda t, y, rows: drawn_to_cosine(t, y, rows + 3), y[3:], 0.0, 1.0)
    assert torch.equal(together.y[3:], alone.y) and together.nfe[3] == alone.nfe[0]


def test_diffusion_of_heat_is_stiff():
    """The second difference of 40 points: rates up to 4 * 41^2 = 6,724, decay as sines do."""
    n = 40
    x = torch.arange(1, n + 1, dtype=torch.float64) / (n + 1)

    def heat(t, y, rows):
        padded = torch.nn.functional.pad(y, (1, 1))
        return (padded[:, 2:] - 2.0 * y + padded[:, :-2]) * (n + 1) ** 2

    y = torch.stack([torch.sin(math.pi * x), torch.sin(math.pi * x) + torch.sin(40 * math.pi * x)])
    rate = 4.0 * (n + 1) ** 2 * math.sin(0.5 * math.pi / (n + 1)) ** 2
    done = integrate(heat, y, 0.0, 0.3, rtol=1e-6, atol=1e-6)
    assert done.stiff.all() and (done.status == 0).all()
    assert (done.y - math.exp(-0.3 * rate) * y[0]).abs().max() < 3e-5


def test_dense_output_and_blow_up_in_the_stiff_method():
    def field(t, y, rows):
        return drawn_to_cosine(t, y, torch.full_like(rows, 3))

    y = torch.ones(2, 1, dtype=torch.float64)
    done = integrate(field, y, 0.0, 2.0, save_at=[0.5, 1.7])
    assert done.stiff.all() and done.saved is not None
    assert (done.saved[0] - math.cos(0.5)).abs().max() < 1e-4
    assert (done.saved[1] - math.cos(1.7)).abs().max() < 1e-4
