"""Adaptive ODEs of samples that do not know each other."""

from __future__ import annotations

import math

import pytest
import torch

from sdekit.ode import TABLEAUS, integrate

RATES = torch.linspace(0.1, 3.0, 7, dtype=torch.float64)
ONES = torch.ones(7, 2, dtype=torch.float64)


def swing(t, y, rows):
    """y = exp(-rate sin t)."""
    return -RATES.to(y)[rows][:, None] * y * torch.cos(t)[:, None]


def exact(t):
    return torch.exp(-RATES * math.sin(t))[:, None]


@pytest.mark.parametrize("method", TABLEAUS)
@pytest.mark.parametrize("fuse", [True, False])
def test_error_follows_the_tolerance(method, fuse):
    errors, work = [], []
    for tolerance in (1e-4, 1e-6, 1e-8):
        done = integrate(
            swing, ONES, 0.0, 3.0, rtol=tolerance, atol=tolerance, method=method, fuse=fuse
        )
        assert done.path == ("trajectory_kernel" if fuse else "step_kernel")
        assert (done.status == 0).all() and (done.t == 3.0).all()
        errors.append(float((done.y - exact(3.0)).abs().max()))
        work.append(int(done.nfe.sum()))
        stages = TABLEAUS[method].stages - 1
        assert torch.equal(done.nfe, 2 + stages * (done.accepted + done.rejected))
    # Proportional to the tolerance; the global error is some steps' worth of it.
    assert all(e < 30.0 * t for e, t in zip(errors, (1e-4, 1e-6, 1e-8), strict=True))
    assert errors[0] / errors[2] > 1e3
    # Work grows as tolerance^(-1 / order).
    growth = (work[2] / work[1]) ** (TABLEAUS[method].order / 2.0)
    assert 10.0**0.55 < growth < 10.0**1.35


@pytest.mark.parametrize("fuse", [True, False])
def test_both_ways_agree_with_the_plain_torch_loop(fuse):
    # Rounding differs, so that steps do, by parts in 1e13, and results within the tolerance.
    wanted = integrate(swing, ONES, 0.0, 3.0, rtol=1e-7, atol=1e-7, backend="torch")
    done = integrate(swing, ONES, 0.0, 3.0, rtol=1e-7, atol=1e-7, fuse=fuse)
    assert wanted.path == "torch"
    assert torch.equal(done.accepted, wanted.accepted)
    torch.testing.assert_close(done.y, wanted.y, rtol=1e-10, atol=1e-10)


def test_backwards_in_time():
    done = integrate(swing, exact(3.0).expand(7, 2), 3.0, 0.0, rtol=1e-8, atol=1e-8)
    assert (done.y - 1.0).abs().max() < 1e-6 and (done.t == 0.0).all()


@pytest.mark.parametrize("fuse", [True, False])
def test_a_sample_alone_has_the_bits_of_the_batch(fuse):
    together = integrate(swing, ONES, 0.0, 3.0, fuse=fuse)
    assert together.nfe.unique().numel() > 3  # each its own steps
    halves = [
        integrate(
            lambda t, y, rows, p=part: swing(t, y, rows + p.start), ONES[part], 0.0, 3.0, fuse=fuse
        )
        for part in (slice(0, 3), slice(3, 7))
    ]
    assert torch.equal(together.y, torch.cat([h.y for h in halves]))
    assert torch.equal(together.nfe, torch.cat([h.nfe for h in halves]))


@pytest.mark.parametrize("method", TABLEAUS)
def test_dense_output(method):
    times = [0.0, 0.37, 1.3, 1.31, 2.9, 3.0]
    done = integrate(swing, ONES, 0.0, 3.0, rtol=1e-7, atol=1e-7, method=method, save_at=times)
    assert done.saved is not None and done.saved.shape == (6, 7, 2)
    assert torch.equal(done.saved[0], ONES) and torch.equal(done.saved[-1], done.y)
    for j, t in enumerate(times):
        assert (done.saved[j] - exact(t)).abs().max() < 4e-6
    # Watching changes nothing.
    plain = integrate(swing, ONES, 0.0, 3.0, rtol=1e-7, atol=1e-7, method=method, fuse=False)
    assert torch.equal(plain.y, done.y)


def test_dense_output_is_of_order_four():
    """Between the steps too: the error of steps of fixed length falls as their fourth power."""
    errors = []
    for steps in (4, 8, 16):
        # Tolerances that nothing misses, stops that set the length.
        stops = [3.0 * j / steps for j in range(1, steps)]
        middle = 3.0 * (0.5 + 0.3 / steps)
        done = integrate(
            swing,
            ONES,
            0.0,
            3.0,
            rtol=10.0,
            atol=10.0,
            breaks=stops,
            save_at=[middle],
            method="tsit5",
        )
        assert done.saved is not None
        errors.append(float((done.saved[0] - exact(middle)).abs().max()))
    assert errors[0] / errors[2] > 4.0**3.5


def test_breaks_are_step_ends():
    def kinked(t, y, rows):
        return torch.where(t < 1.0, 1.0, 5.0)[:, None].expand_as(y).to(y)

    # The last stage of the step that ends at the break sees the slope after it.
    done = integrate(kinked, torch.zeros(2, 1), 0.0, 2.0, breaks=[1.0], save_at=[1.0])
    assert (done.y - 6.0).abs().max() < 1e-4
    assert done.saved is not None and (done.saved[0] - 1.0).abs().max() < 1e-4


@pytest.mark.parametrize("fuse", [True, False])
def test_what_becomes_of_a_sample_harms_no_other(fuse):
    def square(t, y, rows):
        return y * y

    y = torch.tensor([[0.1], [1.0], [math.nan], [0.5]], dtype=torch.float64)
    done = integrate(square, y, 0.0, 1.5, fuse=fuse)
    assert done.status.tolist() == [0, 2, 1, 0]  # y = 1 / (1 - t) blows up at 1
    assert done.y[0].item() == pytest.approx(1.0 / (10.0 - 1.5), rel=1e-4)
    assert done.y[3].item() == pytest.approx(1.0 / (2.0 - 1.5), rel=1e-3)
    assert done.t[1].item() == pytest.approx(1.0, abs=1e-3)
    assert done.t[2].item() == 0.0


def test_max_steps_is_a_status_and_keeps_what_was_reached():
    done = integrate(swing, ONES, 0.0, 3.0, rtol=1e-8, atol=1e-8, max_steps=30)
    late = done.status == 3
    assert late.any() and not late.all() and set(done.status.tolist()) == {0, 3}
    assert (done.t[late] < 3.0).all() and (done.t[late] > 0.0).all()
    for y, t, rate in zip(done.y[late], done.t[late], RATES[late], strict=True):
        assert y[0].item() == pytest.approx(math.exp(-rate * math.sin(t)), rel=1e-6)
    assert (done.y - exact(3.0))[~late].abs().max() < 1e-6


def test_recorded_steps_lead_from_start_to_end():
    done = integrate(swing, ONES, 0.0, 3.0, record=True)
    assert done.steps is not None
    t = torch.zeros(7, dtype=torch.float64)
    for rows, start, dt in done.steps.entries:
        torch.testing.assert_close(start, t[rows], rtol=0.0, atol=1e-12)
        t[rows] += dt
    torch.testing.assert_close(t, torch.full_like(t, 3.0))
    assert sum(len(rows) for rows, _, _ in done.steps.entries) == int(done.accepted.sum())


def test_an_empty_batch():
    done = integrate(swing, ONES[:0], 0.0, 1.0, save_at=[0.5])
    assert done.y.shape == (0, 2) and done.status.shape == (0,)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"method": "rk45"}, "tsit5"),
        ({"rtol": 1e-18}, "rounding is no finer"),
        ({"t1": 0.0}, "two finite times"),
        ({"t1": math.inf}, "two finite times"),
        ({"y": torch.ones(3)}, r"\(B, n\)"),
        ({"save_at": [0.5, 0.2]}, "in their order"),
        ({"save_at": [4.0]}, "between t0 and t1"),
        ({"max_steps": 0}, "max_steps"),
        ({"backend": "cuda"}, "backend"),
    ],
)
def test_wrong_arguments(change, says):
    given = {"field": swing, "y": ONES, "t0": 0.0, "t1": 3.0, **change}
    with pytest.raises(ValueError, match=says):
        integrate(**given)


def test_a_kernel_that_is_asked_for_and_cannot_be():
    def curious(t, y, rows):
        return -y if float(y.sum()) > 0.0 else y

    with pytest.raises(RuntimeError, match="fuse=True, but a value that decides"):
        integrate(curious, ONES, 0.0, 1.0, fuse=True)
    done = integrate(curious, ONES, 0.0, 1.0)
    assert done.path == "step_kernel" and "1024 samples" in done.reason
