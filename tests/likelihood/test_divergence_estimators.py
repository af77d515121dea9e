"""Divergences as an ODE loop uses them: where they are exact, and that samples stay apart."""

from __future__ import annotations

import math

import pytest
import torch

from sdekit.likelihood import field_divergence
from sdekit.likelihood.divergence import draw_probes, make_divergence

DOUBLE = torch.float64
METHODS = {
    "exact": {"kind": "exact"},
    "rademacher": {"kind": "hutchinson", "n_probes": 5},
    "gaussian": {"kind": "hutchinson", "n_probes": 5, "probes": "gaussian"},
    "orthogonal": {"kind": "hutchinson", "n_probes": 5, "probes": "orthogonal"},
    "hutch++": {"kind": "hutch++", "n_probes": 8},
    "hutch++gaussian": {"kind": "hutch++", "n_probes": 8, "probes": "gaussian"},
    "hutch++orthogonal": {"kind": "hutch++", "n_probes": 8, "probes": "orthogonal"},
    "xtrace": {"kind": "xtrace", "n_probes": 8},
    "xtrace_rademacher": {"kind": "xtrace", "n_probes": 8, "probes": "rademacher"},
}


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


WEIGHTS = torch.randn(12, 12, generator=generator(), dtype=DOUBLE)


def make(method, x, **options):
    return make_divergence(**{**METHODS[method], **options}, x=x)


def curved(x):
    """A field of events of 12 components whose Jacobian differs from sample to sample."""
    return torch.tanh(x.reshape(-1, 12) @ WEIGHTS.to(x)).view_as(x)


def linear(matrix):
    return lambda x: (x.flatten(1) @ matrix.to(x).mT).view_as(x)


def low_rank(rank, d, *, shift=0.0):
    """A matrix that is not symmetric, of this rank, plus a multiple of 1."""
    left, right = torch.randn(2, d, rank, generator=generator(), dtype=DOUBLE)
    return left @ right.mT + shift * torch.eye(d, dtype=DOUBLE)


def points(b, *event, dtype=DOUBLE):
    return torch.randn(b, *event, generator=generator(), dtype=DOUBLE).to(dtype)


@pytest.mark.parametrize("derivative", ["forward", "reverse"])
@pytest.mark.parametrize("method", METHODS)
def test_columns_do_not_depend_on_chunks_or_memory(method, derivative):
    x = points(6, 3, 4)
    want = None
    for options in ({"chunk": 1}, {"chunk": 3}, {"chunk": 100}, {}, {"memory": 1}):
        estimator = make(method, x, derivative=derivative, **options)
        for _ in range(2):
            value, columns = estimator(curved, x)
            torch.testing.assert_close(value, curved(x), rtol=1e-14, atol=1e-14)
            assert columns.shape == (6, estimator.columns)
            want = columns if want is None else want
            torch.testing.assert_close(columns, want, rtol=1e-11, atol=1e-11)
    if method == "exact":
        reference = torch.autograd.functional.jacobian(lambda y: curved(y).sum(0), x)
        trace = reference.permute(2, 0, 1, 3, 4).reshape(6, 12, 12)
        trace = trace.diagonal(dim1=1, dim2=2).sum(1)
        torch.testing.assert_close(want[:, 0], trace, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("derivative", ["forward", "reverse"])
@pytest.mark.parametrize(
    ("method", "rank"),
    [
        # k = 8 // 3 = 2 sketch vectors; of XTrace's 4, each estimate leaves one out.
        ("hutch++", 2),
        ("hutch++gaussian", 1),
        ("hutch++orthogonal", 2),
        ("xtrace", 3),
        ("xtrace", 1),
        ("xtrace_rademacher", 3),
    ],
)
def test_low_rank_leaves_no_error(method, rank, derivative, dtype):
    matrix = low_rank(rank, 15)
    x = points(7, 15, dtype=dtype)
    estimator = make(method, x, derivative=derivative)
    estimate, error = estimator.combine(estimator(linear(matrix), x)[1])
    # |J| |v|^2 = 30 * 15 roundings at most, times a condition of the sketch of 10 or so.
    bound = 5e3 * torch.finfo(dtype).eps * max(1.0, float(matrix.norm()) / 10)
    assert estimate.dtype == dtype
    assert ((estimate.double() - matrix.trace()).abs() < bound).all()
    assert (error.abs() < bound).all()


@pytest.mark.parametrize("method", ["hutch++orthogonal", "xtrace", "orthogonal", "rademacher"])
def test_a_multiple_of_one_leaves_no_error(method):
    x = points(4, 15)
    estimator = make(method, x)
    estimate, error = estimator.combine(estimator(lambda y: -3.0 * y, x)[1])
    torch.testing.assert_close(estimate, torch.full_like(estimate, -45.0), rtol=1e-12, atol=0.0)
    assert (error < 1e-11).all()


def test_orthogonal_residuals_see_through_a_shift():
    # Rank 1 and a shift: the sketch of 2 vectors holds neither, but the rest is a multiple of 1
    # on most of the complement. Plain residuals pay for the shift.
    x, matrix = points(2000, 30), low_rank(1, 30, shift=-5.0)
    spread = {}
    for method in ("hutch++gaussian", "hutch++orthogonal"):
        estimator = make(method, x)
        estimate = estimator.combine(estimator(linear(matrix), x)[1])[0]
        spread[method] = float((estimate - matrix.trace()).square().mean().sqrt())
    assert spread["hutch++orthogonal"] < 0.5 * spread["hutch++gaussian"]


@pytest.mark.parametrize("method", METHODS)
def test_a_constant_field_has_no_divergence(method):
    x = points(3, 15)
    estimator = make(method, x)
    for field in (torch.zeros_like, lambda y: torch.ones_like(y) + 0.0 * y):
        value, columns = estimator(field, x)
        assert torch.equal(value, field(x)) and (columns == 0).all()
    estimate, error = estimator.combine(columns)
    assert (estimate == 0).all() and (error == 0).all()


@pytest.mark.parametrize("n", [4, 5, 11])
def test_a_whole_frame_is_exact(n):
    x = points(5, 2, 2)
    w = torch.randn(4, 4, generator=generator(), dtype=DOUBLE)
    field = lambda y: torch.sin(y.reshape(-1, 4) @ w).view_as(y)  # noqa: E731
    exact = field_divergence(field, x)[1][:, 0]
    forms = field_divergence(field, x, probes=draw_probes(n, x, kind="orthogonal"))[1]
    torch.testing.assert_close(forms[:, :4].mean(1), exact, rtol=1e-12, atol=1e-12)
    if n >= 8:
        torch.testing.assert_close(forms[:, 4:8].mean(1), exact, rtol=1e-12, atol=1e-12)
        assert not torch.allclose(forms[:, :4], forms[:, 4:8])
    estimator = make_divergence("hutchinson", x, n_probes=n, probes="orthogonal")
    assert estimator.kind == "exact" and estimator.columns == 1
    estimate, error = estimator.combine(estimator(field, x)[1])
    torch.testing.assert_close(estimate, exact, rtol=1e-12, atol=1e-12)
    assert (error == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_orthogonal_probes_are_orthogonal(dtype):
    x = torch.zeros(6, 2, 5, dtype=dtype)
    v = draw_probes(23, x, kind="orthogonal", seed=3).flatten(2)
    eps = torch.finfo(dtype).eps
    for block in v.split(10):
        gram = torch.einsum("ibd,jbd->bij", block, block)
        want = 10.0 * torch.eye(len(block), dtype=dtype).expand_as(gram)
        torch.testing.assert_close(gram, want, rtol=0.0, atol=200 * eps)


def test_too_few_dimensions_for_a_sketch_are_exact():
    for d in (1, 2, 4, 5):
        x = points(3, d)
        field = lambda y: torch.sin(y) * y.sum(1, keepdim=True)  # noqa: E731
        exact = field_divergence(field, x)[1][:, 0]
        for kind, n in (("hutch++", 7), ("xtrace", 5), ("xtrace", 6), ("hutch++", 9)):
            estimator = make_divergence(kind, x, n_probes=n)
            products = {("hutch++", 7): 5, ("hutch++", 9): 6, ("xtrace", 5): 4}.get((kind, n), 6)
            assert (estimator.kind == "exact") == (products >= d)
            assert estimator.products == min(products, d)
            estimate, error = estimator.combine(estimator(field, x)[1])
            if estimator.kind == "exact":
                torch.testing.assert_close(estimate, exact)
                assert (error == 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_columns_belong_to_samples(method):
    x = points(10, 12)
    other = points(10, 12) * 0.3
    whole = make(method, x, seed=5)
    first, second = whole(curved, x)[1], whole(curved, other)[1]
    # Part of the batch, by the samples' numbers.
    part = make(method, x[4:], seed=5, first_sample=4)
    torch.testing.assert_close(part(curved, x[4:])[1], first[4:], rtol=1e-11, atol=1e-11)
    # Taken before the first call, and after it, when the sketch is known; twice, out of order.
    rows = torch.tensor([7, 2, 9])
    early = make(method, x, seed=5).take(rows)
    torch.testing.assert_close(early(curved, x[rows])[1], first[rows], rtol=1e-11, atol=1e-11)
    late = whole.take(rows).take(torch.tensor([2, 0]))
    torch.testing.assert_close(
        late(curved, other[[9, 7]])[1], second[[9, 7]], rtol=1e-11, atol=1e-11
    )
    # Called on some, then on others, then on all: each keeps the vectors of its own first call.
    mixed = make(method, x, seed=5)
    mixed.take(rows)(curved, x[rows])
    mixed.take(torch.tensor([9, 0]))(curved, x[[9, 0]])
    got = mixed(curved, other)[1]
    torch.testing.assert_close(got[[0, 2, 7, 9]], second[[0, 2, 7, 9]], rtol=1e-11, atol=1e-11)
    fresh = make(method, x, seed=5)(curved, other)[1]
    torch.testing.assert_close(got[[1, 3, 8]], fresh[[1, 3, 8]], rtol=1e-11, atol=1e-11)
    if method != "exact":
        assert not torch.allclose(make(method, x, seed=6)(curved, x)[1], first)
        assert not torch.allclose(make(method, x, seed=5, step0=8)(curved, x)[1], first)
    none = make(method, x[:0])
    columns = none(curved, x[:0])[1]
    assert columns.shape == (0, none.columns)
    assert all(v.shape == (0,) for v in none.combine(columns))
    assert whole.take(rows[:0])(curved, x[:0])[1].shape == (0, whole.columns)


@pytest.mark.parametrize("method", METHODS)
def test_a_nan_harms_only_its_sample(method):
    x = points(4, 12)
    good = make(method, x)(curved, x)[1]
    x[2, 3] = math.nan
    got = make(method, x)(curved, x)[1]
    assert got[2].isnan().all()
    torch.testing.assert_close(got[[0, 1, 3]], good[[0, 1, 3]], rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("kind", ["rademacher", "gaussian"])
def test_later_probes_continue_the_earlier_ones(kind):
    x = torch.zeros(3, 2)
    whole = draw_probes(7, x, kind=kind, seed=1)
    assert torch.equal(whole[3:], draw_probes(4, x, kind=kind, seed=1, step0=3))


@pytest.mark.parametrize("derivative", ["forward", "reverse"])
@pytest.mark.parametrize("method", METHODS)
def test_gradients_by_the_weights(method, derivative):
    # The form at fixed vectors is differentiated; for a linear field div = tr W, gradient 1.
    x = points(3, 12)
    w = (0.3 * torch.randn(12, 12, generator=generator(), dtype=DOUBLE)).requires_grad_()
    estimator = make(method, x, derivative=derivative)
    estimator(linear(w.detach()), x)
    columns = estimator(lambda y: y @ w.mT, x)[1]
    (slope,) = torch.autograd.grad(estimator.combine(columns)[0].sum(), w)
    # The same combination of forms of the matrix of ones at (i, j), for a few i, j.
    for i, j in ((0, 0), (3, 7), (11, 2)):
        unit = torch.zeros(12, 12, dtype=DOUBLE)
        unit[i, j] = 1.0
        want = estimator.combine(estimator(linear(unit), x)[1])[0].sum()
        torch.testing.assert_close(slope[i, j], want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"kind": "hutchpp"}, ValueError, r"Did you mean 'hutch\+\+'"),
        ({"probes": "normal"}, ValueError, "orthogonal"),
        ({"n_probes": 0}, ValueError, "n_probes"),
        ({"n_probes": 2.5}, TypeError, "n_probes"),
        ({"kind": "hutch++", "n_probes": 2}, ValueError, "n_probes must be 3 or more"),
        ({"kind": "xtrace", "n_probes": 1}, ValueError, "n_probes must be 2 or more"),
        (
            {"kind": "xtrace", "n_probes": 4, "probes": "orthogonal"},
            ValueError,
            "probes='gaussian'",
        ),
        ({"memory": 0}, ValueError, "memory"),
        ({"memory": 1e6}, TypeError, "memory must be an integer"),
        ({"chunk": 0}, ValueError, "chunk"),
        ({"derivative": "backward"}, ValueError, "reverse"),
        ({"step0": -1}, ValueError, "step0"),
        ({"x": torch.zeros(3)}, ValueError, r"\(B, D...\)"),
        ({"x": torch.zeros(3, 2, dtype=torch.int64)}, TypeError, "floating-point"),
        ({"x": [[1.0]]}, TypeError, "floating-point"),
        ({"x": torch.zeros(3, 2).half()}, TypeError, "float32 or float64"),
    ],
)
def test_wrong_arguments(change, error, says):
    with pytest.raises(error, match=says):
        make_divergence(**{"kind": "hutchinson", "x": torch.zeros(3, 20), **change})
