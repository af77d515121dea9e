"""The kernels of adaptive Runge-Kutta against their reference, branch by branch.

Elementwise arithmetic is in the state's type: a stage is a few roundings of its terms, an error E a
few dozen of its size. What is moved is moved bit by bit, and counters, status and times are equal.
"""

from __future__ import annotations

import math

import pytest
import torch
from sdekit_kernels.steps.rk_finish import gpu_tile, rk_finish
from sdekit_kernels.steps.rk_stage import rk_stage
from sdekit_kernels.steps.runge_kutta import (
    DONE,
    MAX_STEPS,
    NONFINITE,
    RUNNING,
    STIFF,
    UNDERFLOW,
    Book,
    Rule,
    finish_torch,
    stage_torch,
)

DTYPES = [torch.float32, torch.float64]
BACKENDS = ["numba", "triton", "torch"]
KERNELS = ["numba", "triton"]
# Blocks end at 341 samples of 3 components and at 1024 components of one sample.
SHAPES = [(1, 1), (5, 2), (700, 3), (6, 31), (5, 33), (3, 1024), (2, 1025), (2, 3073)]
WEIGHTS = (0.31, 0.0, -1.7, 0.4, 2.5, -0.02, 0.77)
RULE = Rule(
    error=(0.002, 0.0, -0.01, 0.013, -0.02, 0.008, 0.007),
    order=5,
    rtol=1e-3,
    atol=1e-4,
    split=1,
    stops=(0.5, 1.0),
    forwards=True,
    floor=1e-3,
    max_steps=50,
    stability=3.3,
)


@pytest.fixture
def device(request, triton_device):
    backend = request.node.callspec.params.get("backend")
    return triton_device if backend == "triton" else torch.device("cpu")


def numbers(shape, seed, dtype=torch.float64, device="cpu"):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=g, dtype=torch.float64).to(dtype).to(device)


def book_of(dt, **entries):
    """A book of running samples at t = 0, with the entries given."""
    n, device = dt.shape[0], dt.device
    start = {"t": 0.0, "dt": dt, "h": dt, "last": 0.3, "status": RUNNING}
    start |= {"accepted": 0, "rejected": 0, "stiff": 0} | entries
    types = (*(torch.float64,) * 4, torch.int8, *(torch.int32,) * 3)
    tensors = [
        torch.as_tensor(start[name], dtype=dtype, device=device).expand(n).clone()
        for name, dtype in zip(Book._fields, types, strict=True)
    ]
    return Book(*tensors)


def attempt(shape, dtype, device, seed=3):
    """(y, y_new, before, slopes, book) with errors E on both sides of 1."""
    n, dim = shape
    dt = torch.logspace(-3.5, 1.5, n, dtype=torch.float64) * 0.5
    arrays = [numbers(shape, seed + i, dtype, device) for i in range(3)]
    slopes = numbers((len(RULE.error), n, dim), seed + 3, dtype, device)
    last = torch.where(torch.arange(n) % 3 == 1, -0.2, 0.05)
    status = torch.where(torch.arange(n) % 5 == 4, DONE, RUNNING)
    stiff = torch.arange(n) % 16
    book = book_of(dt, h=1.5 * dt, last=last, status=status, stiff=stiff, accepted=3)
    return *arrays, slopes, Book(*(v.to(device) for v in book))


def clone(y, y_new, before, slopes, book):
    return *(v.clone() for v in (y, y_new, before, slopes)), Book(*(v.clone() for v in book))


def finished(given, rule, backend):
    """(y, first slope, book) after ``rk_finish`` on copies; nothing else may be written."""
    y, y_new, before, slopes, book = clone(*given)
    assert rk_finish(y, y_new, before, slopes, book, rule, backend=backend) is None
    for got, old in zip((y_new, before, slopes[1:]), (*given[1:3], given[3][1:]), strict=True):
        assert torch.equal(got.nan_to_num(), old.nan_to_num())
    return y, slopes[0], book


def assert_as_reference(got, given, rule):
    y, first, book, error = finish_torch(*given, rule)
    assert not ((error - 1.0).abs() < 1e-3).any(), "a case on the edge tests nothing"
    assert torch.equal(got[0].nan_to_num(), y.nan_to_num())
    assert torch.equal(got[1].nan_to_num(), first.nan_to_num())
    # E is a ratio of sums of s terms: some 30 units of its size, 40 where terms cancel.
    near = 100 * torch.finfo(y.dtype).eps
    for name, mine, its in zip(Book._fields, got[2], book, strict=True):
        if name in ("dt", "h", "last"):
            assert torch.allclose(mine, its, rtol=near, atol=1e-300), name
        else:
            assert mine.dtype == its.dtype and torch.equal(mine, its), name


def assert_same_bits(one, other):
    for a, b in zip((*one[:2], *one[2]), (*other[:2], *other[2]), strict=True):
        assert torch.equal(a, b)


# -- stages ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_stage_is_its_formula(shape, dtype, backend, device):
    y, slopes = numbers(shape, 1, dtype, device), numbers((7, *shape), 2, dtype, device)
    dt = numbers(shape[:1], 3, device=device)
    for weights in (WEIGHTS, WEIGHTS[:1], WEIGHTS[:2], WEIGHTS[:4], WEIGHTS[::-1], ()):
        k = slopes.clone()
        k[len(weights) :] = torch.nan
        for j, a in enumerate(weights):
            if a == 0.0:
                k[j] = torch.nan  # what has no weight is not read
        out = torch.full_like(y, torch.nan)
        assert rk_stage(y, k, weights, dt, out, backend=backend) is out
        wide, step = slopes.double(), dt.to(dtype).double()[:, None]
        expected = stage_torch(y.double(), wide, weights, step[:, 0])
        size = y.double().abs()
        for a, slope in zip(weights, wide, strict=False):
            size = size + (a * step * slope).abs()
        eps = (len(weights) + 3) * torch.finfo(dtype).eps
        assert ((out.double() - expected).abs() <= eps * size).all()
        assert torch.equal(rk_stage(y, k, weights, dt, backend=backend), out)


@pytest.mark.parametrize("backend", KERNELS)
def test_stages_in_place_strided_and_empty(backend, device):
    y, slopes = numbers((6, 5), 1, device=device), numbers((7, 6, 5), 2, device=device)
    dt = numbers((6,), 3, device=device)
    expected = rk_stage(y, slopes, WEIGHTS, dt, backend=backend)
    strided = torch.stack([y, y], -1)[..., 0]
    for start in (y.clone(), strided, y.t().contiguous().t()):
        version = start._version
        assert rk_stage(start, slopes, WEIGHTS, dt, out=start, backend=backend) is start
        assert torch.equal(start, expected) and start._version > version
    shifted = torch.cat([y, y[:1]])  # what one block writes is read by another
    rk_stage(shifted[:6], slopes, WEIGHTS, dt, out=shifted[1:], backend=backend)
    assert torch.equal(shifted[1:], expected)
    wide = torch.full((9, 8, 5), torch.nan, dtype=y.dtype, device=device)
    wide[:7, :6] = slopes
    for k in (wide[:, :6], slopes.transpose(1, 2).contiguous().transpose(1, 2)):
        assert torch.equal(rk_stage(y, k, WEIGHTS, dt, backend=backend), expected)
    assert rk_stage(y[:0], slopes[:, :0], WEIGHTS, dt[:0], backend=backend).shape == (0, 5)


def test_stages_under_transforms_and_gradients():
    y, slopes, dt = numbers((4, 3), 1), numbers((7, 4, 3), 2), numbers((4,), 3)
    expected = stage_torch(y, slopes, WEIGHTS, dt)
    value, change = torch.func.jvp(lambda k: rk_stage(y, k, WEIGHTS, dt), (slopes,), (slopes,))
    assert torch.allclose(value, expected) and torch.allclose(change, expected - y)
    many = torch.func.vmap(lambda s: rk_stage(s, slopes, WEIGHTS, dt))(torch.stack([y, 2 * y]))
    assert torch.allclose(many, torch.stack([expected, expected + y]))
    start = y.clone().requires_grad_()
    rk_stage(start, slopes, WEIGHTS, dt).sum().backward()
    assert torch.equal(start.grad, torch.ones_like(y))
    with pytest.raises(RuntimeError, match="no_grad"):
        rk_stage(start, slopes, WEIGHTS, dt, out=torch.empty_like(y))


# -- the end of a step -----------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_step_ends_as_in_the_reference(shape, dtype, backend, device):
    given = attempt(shape, dtype, device)
    n, dim = shape
    for split in {1, (dim + 1) // 2, dim}:
        for stability in (0.0, 3.3):
            rule = RULE._replace(split=split, stability=stability)
            assert_as_reference(finished(given, rule, backend), given, rule)
    if n >= 5:  # the case is worth its name: some steps are accepted, some are not
        book = finished(given, RULE, backend)[2]
        assert (book.accepted > 3).any() and (book.rejected > 0).any()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dt", [0.004, -0.004, 0.3])
def test_the_controller_is_its_formula(dt, backend, device):
    """One sample of two components, each a group, by hand: E is the larger group's."""
    y, y_new, e = (1.0, -2.0), (1.5, -1.0), (0.5, -0.25)
    rule = Rule(e, 4, 1e-2, 1e-3, 1, (math.copysign(9.0, dt),), dt > 0, 0.0, 99)
    k = ((1.0, 3.0), (-1.0, 2.0))
    ratios = [
        abs(dt * (e[0] * k[0][c] + e[1] * k[1][c])) / (1e-3 + 1e-2 * max(abs(y[c]), abs(y_new[c])))
        for c in (0, 1)
    ]
    error = max(ratios)
    factor = 0.9 * error ** (-0.85 / 4) * 0.3 ** (0.2 / 4)
    h = dt * (factor if error <= 1.0 else max(0.9 * error ** (-1 / 4), 0.2))
    rows = [torch.tensor([v], dtype=torch.float64, device=device) for v in (y, y_new, y, *k)]
    step = torch.tensor([dt], dtype=torch.float64, device=device)
    book = book_of(step)
    rk_finish(*rows[:3], torch.stack(rows[3:]), book, rule, backend=backend)
    assert (error <= 1.0) == (abs(dt) < 0.1) and 0.2 < factor < 10.0
    assert float(book.h) == pytest.approx(h, rel=1e-13)
    assert float(book.last) == pytest.approx(error if error <= 1.0 else -0.3, rel=1e-13)
    assert float(book.dt) == float(book.h)
    assert torch.equal(rows[0], rows[1]) == (error <= 1.0)


BRANCHES = {
    # name: (t, dt, h, last, accepted, stiff, what is done to the numbers, status afterwards)
    "accepted": (0.0, 0.01, 0.01, 0.3, 0, 0, "", RUNNING),
    "rejected": (0.0, 0.01, 0.01, 0.3, 0, 0, "hard", RUNNING),
    "not finite": (0.0, 0.01, 0.01, 0.3, 0, 0, "nan", RUNNING),
    "not finite for good": (0.0, 0.001, 0.001, 0.3, 0, 0, "nan", NONFINITE),
    "infinite slope": (0.0, 0.001, 0.001, 0.3, 0, 0, "inf", NONFINITE),
    "too small": (0.0, 0.001, 0.001, 0.3, 0, 0, "hard", UNDERFLOW),
    "no steps left": (0.0, 0.01, 0.01, 0.3, 49, 0, "", MAX_STEPS),
    "no steps left, rejected": (0.0, 0.01, 0.01, 0.3, 49, 0, "hard", MAX_STEPS),
    "not yet stiff": (0.0, 0.01, 0.01, 0.3, 0, 13, "tense", RUNNING),
    "stiff": (0.0, 0.01, 0.01, 0.3, 0, 14, "tense", STIFF),
    "rejected, not stiff": (0.0, 0.01, 0.01, 0.3, 0, 14, "hard", RUNNING),
    "at a stop": (0.3, 0.5 - 0.3, 0.3, 0.3, 0, 0, "", RUNNING),
    "at the end": (0.7, 1.0 - 0.7, 0.3, 0.3, 49, 14, "tense", DONE),
    "rejected before the end": (0.7, 1.0 - 0.7, 0.3, 0.3, 0, 0, "hard", RUNNING),
    "cut short": (0.45, 0.5 - 0.45, 0.4, 0.3, 0, 0, "", RUNNING),
    "after a rejection": (0.0, 0.01, 0.01, -0.3, 0, 0, "", RUNNING),
    "nearly at the stop": (0.46, 0.01, 0.0299, 0.3, 0, 0, "", RUNNING),
}


def branches(dtype, device, forwards):
    dim, sign = 5, 1.0 if forwards else -1.0
    t, dt, h, last, accepted, stiff, what, status = zip(*BRANCHES.values(), strict=True)
    n = len(what)
    y, before = numbers((n, dim), 5, dtype), numbers((n, dim), 6, dtype)
    y_new = y + 0.1
    slopes = 0.02 * numbers((7, n, dim), 7, dtype)
    for b, kind in enumerate(what):
        if kind == "hard":
            slopes[3, b] = 1e6
        elif kind == "nan":
            y_new[b, 3] = torch.nan
        elif kind == "inf":
            slopes[-1, b, 4] = -math.inf
        elif kind == "tense":
            before[b] = y_new[b] + 1e-7
    column = [torch.tensor(v, dtype=torch.float64) for v in (t, dt, h)]
    step = sign * column[1]
    book = book_of(step, t=sign * column[0], h=sign * column[2], last=torch.tensor(last))
    book = book._replace(accepted=torch.tensor(accepted).int(), stiff=torch.tensor(stiff).int())
    rule = RULE._replace(
        stops=tuple(sign * s for s in RULE.stops), forwards=forwards, stability=0.5, split=3
    )
    arrays = [v.to(device) for v in (y, y_new, before, slopes)]
    return (*arrays, Book(*(v.to(device) for v in book))), rule, status


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("forwards", [True, False], ids=["forwards", "backwards"])
def test_every_branch(forwards, dtype, backend, device):
    given, rule, status = branches(dtype, device, forwards)
    got = finished(given, rule, backend)
    assert_as_reference(got, given, rule)
    y, first, book = (v.cpu() if isinstance(v, torch.Tensor) else v for v in got)
    book = Book(*(v.cpu() for v in book))
    for b, (name, expected) in enumerate(zip(BRANCHES, status, strict=True)):
        assert book.status[b] == expected, name
        refused = BRANCHES[name][6] in ("hard", "nan", "inf")
        source = (given[0], given[3][0]) if refused else (given[1], given[3][-1])
        assert torch.equal(y[b], source[0][b].cpu()) and torch.equal(first[b], source[1][b].cpu())
        assert book.rejected[b] == refused and book.accepted[b] == BRANCHES[name][4] + (not refused)
        assert (book.last[b] < 0) == refused
    row = {name: b for b, name in enumerate(BRANCHES)}
    sign = 1.0 if forwards else -1.0
    assert book.t[row["at a stop"]] == sign * 0.5 and book.t[row["at the end"]] == sign
    assert book.t[row["cut short"]] == sign * 0.5 and book.h[row["cut short"]] == sign * 0.4
    # 0.4 would leave 0.1 to the end: two steps of 0.25 instead.
    assert book.dt[row["cut short"]] == sign * 0.25
    # 0.0299 would leave a crumb of 0.0001.
    assert book.dt[row["nearly at the stop"]] == sign * (0.5 - (0.46 + 0.01))
    assert book.h[row["after a rejection"]] == sign * 0.01
    assert book.h[row["not finite"]] == sign * 0.01 * 0.2


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("count", [1, 3, 8])
def test_stops_are_met_in_their_order(count, backend, device):
    """From t = 0 by steps of any size, each stop is a time at which a step ends."""
    stops = tuple(0.1 * (i + 1) ** 1.5 for i in range(count))
    rule = RULE._replace(stops=stops, max_steps=1000)
    n = 3
    y = numbers((n, 2), 1, device=device)
    slopes = torch.zeros(7, n, 2, dtype=y.dtype, device=device)
    slopes[3] = 1e-3
    book = book_of(torch.tensor([0.013, 0.02, 0.05], dtype=torch.float64, device=device))
    met = [set() for _ in range(n)]
    for _ in range(60):
        before = book.t.clone()
        rk_finish(y, y.clone(), y, slopes, book, rule, backend=backend)
        assert ((book.t > before) | (book.status == DONE)).all()
        for b in range(n):
            met[b].add(float(book.t[b]))
    assert (book.status == DONE).all() and all(set(stops) <= m for m in met)


@pytest.mark.parametrize("backend", BACKENDS)
def test_done_samples_stand_still(backend, device):
    y, y_new, before, slopes, book = attempt((9, 4), torch.float64, device)
    book.status[:] = torch.tensor([DONE, NONFINITE, UNDERFLOW, MAX_STEPS, STIFF, 0, 1, 2, 3])
    for garbage in (y_new, before, slopes[1:]):
        garbage[:] = torch.nan
    given = (y, y_new, before, slopes, book)
    assert_same_bits(finished(given, RULE, backend), (y, slopes[0], book))


@pytest.mark.parametrize("backend", KERNELS)
@pytest.mark.parametrize("shape", [(701, 3), (40, 17), (6, 1100)], ids=str)
def test_a_sample_does_not_know_its_batch(shape, backend, device):
    y, y_new, before, slopes, book = attempt(shape, torch.float32, device)
    whole = finished((y, y_new, before, slopes, book), RULE, backend)
    stage = rk_stage(y, slopes, WEIGHTS, book.dt, backend=backend)
    for rows in (slice(1, None), slice(0, 2), slice(3, 4)):
        some = Book(*(v[rows] for v in book))
        part = (y[rows], y_new[rows], before[rows], slopes[:, rows].contiguous(), some)
        expected = (whole[0][rows], whole[1][rows], [v[rows] for v in whole[2]])
        assert_same_bits(finished(part, RULE, backend), expected)
        got = rk_stage(y[rows], slopes[:, rows], WEIGHTS, some.dt, backend=backend)
        assert torch.equal(got, stage[rows])


@pytest.mark.parametrize("shape", [(20011, 3), (23, 3001)], ids=str)
def test_threads_change_no_bit(shape, restore_threads):
    given = attempt(shape, torch.float32, torch.device("cpu"))
    results = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        stage = rk_stage(given[0], given[3], WEIGHTS, given[4].dt)
        results.append((finished(given, RULE, "numba"), stage))
    for result, stage in results[1:]:
        assert_same_bits(result, results[0][0])
        assert torch.equal(stage, results[0][1])


@pytest.mark.parametrize("backend", KERNELS)
def test_slopes_of_a_larger_buffer(backend, device):
    """Samples that are done leave the batch: the others' slopes may lie further apart."""
    y, y_new, before, slopes, book = attempt((6, 5), torch.float64, device)
    expected = finished((y, y_new, before, slopes, book), RULE, backend)
    wide = torch.full((7, 11, 5), torch.nan, dtype=y.dtype, device=device)
    wide[:, :6] = slopes
    y, y_new, before, _, book = clone(y, y_new, before, slopes, book)
    strided = y_new.t().contiguous().t()
    rk_finish(y, strided, before, wide[:, :6], book, RULE, backend=backend)
    assert_same_bits((y, wide[0, :6], book), expected)
    assert wide[:, 6:].isnan().all()
    empty = [v[:0] for v in (y, y_new, before)]
    rk_finish(*empty, slopes[:, :0], Book(*(v[:0] for v in book)), RULE, backend=backend)


def test_another_rule_compiles_nothing():
    from sdekit_kernels.steps._numba.runge_kutta import launch_finish, launch_stage

    given = attempt((5, 4), torch.float64, torch.device("cpu"))
    finished(given, RULE, "numba")
    rk_stage(given[0], given[3], WEIGHTS, given[4].dt)
    before = len(launch_finish.signatures), len(launch_stage.signatures)
    for change in (
        {"rtol": 1e-7, "atol": 1e-9, "max_steps": 7, "split": 3, "floor": 1e-5},
        {"stops": (0.1, 0.2, 2.0), "order": 3, "error": (1.0, -0.5, 0.0, 0.0, 0.0, 0.0, -0.5)},
        {"stops": (-3.0,), "forwards": False, "stability": 0.0},
    ):
        finished(given, RULE._replace(**change), "numba")
    rk_stage(given[0], given[3], (1.0, 0.5), given[4].dt)
    assert before == (len(launch_finish.signatures), len(launch_stage.signatures))


def test_the_tile_depends_on_the_components_alone():
    for dim in (1, 2, 3, 4, 5, 511, 512, 513, 3072, 8192, 8193, 200_000):
        rows, width, warps = gpu_tile(dim)
        assert rows == 1 or width >= dim
        assert rows * width // (32 * warps) in (2, 4) and width & (width - 1) == 0


def test_finish_under_transforms_and_gradients():
    given = attempt((6, 3), torch.float64, torch.device("cpu"))
    expected = finished(given, RULE, "torch")
    results = []

    def inside(x):
        results.append(finished(given, RULE, "auto"))
        return x

    torch.func.jvp(inside, (torch.ones(1),), (torch.ones(1),))
    assert_same_bits(results[0], expected)
    y = given[0].clone().requires_grad_()
    with pytest.raises(RuntimeError, match="no_grad"):
        rk_finish(y, *given[1:], RULE)
    y, y_new, before, slopes, book = clone(*given)
    versions = y._version, slopes._version
    with torch.no_grad():
        rk_finish(y.requires_grad_(), y_new, before, slopes, book, RULE)
    assert y._version > versions[0] and slopes._version > versions[1]


# -- bad input -------------------------------------------------------------------------------------

Y, K, DT = torch.zeros(3, 4), torch.zeros(7, 3, 4), torch.zeros(3, dtype=torch.float64)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"y": [1.0]}, TypeError, "torch.as_tensor"),
        ({"y": Y.long()}, TypeError, r"y.float\(\)"),
        ({"y": Y.half()}, TypeError, "float32 or float64"),
        ({"y": torch.zeros(3)}, ValueError, r"y must have shape \(B, n\)"),
        ({"slopes": K[0]}, ValueError, r"\(s, 3, 4\)"),
        ({"slopes": K[:, :2]}, ValueError, r"\(7, 2, 4\)"),
        ({"slopes": K[:6]}, ValueError, "7 weights, but only 6"),
        ({"slopes": K.double()}, TypeError, "agree"),
        ({"dt": DT.float()}, TypeError, r"dt.double\(\)"),
        ({"dt": DT[:2]}, ValueError, r"dt.expand\(3\)"),
        ({"dt": torch.empty(3, dtype=torch.float64, device="meta")}, ValueError, "dt is on meta"),
        ({"out": torch.zeros(3, 5)}, ValueError, "out has shape"),
        ({"out": Y.double()}, TypeError, "out has dtype"),
        ({"weights": (math.nan,)}, ValueError, "finite"),
        ({"backend": "cuda"}, ValueError, "known are"),
    ],
    ids=str,
)
def test_a_stage_refuses(change, error, message):
    arguments = {"y": Y, "slopes": K, "weights": WEIGHTS, "dt": DT} | change
    with pytest.raises(error, match=message):
        rk_stage(**arguments)


@pytest.mark.parametrize(
    ("change", "rule", "error", "message"),
    [
        ({"y": Y.half()}, {}, TypeError, "float32 or float64"),
        ({"y_new": Y[:2]}, {}, ValueError, "y_new has shape"),
        ({"before": Y.double()}, {}, TypeError, "before has dtype"),
        ({"slopes": torch.zeros(8, 3, 4)}, {}, ValueError, r"slopes\[:7\]"),
        ({"slopes": K[:5]}, {}, ValueError, "only 5 slopes"),
        ({"y": torch.zeros(4, 3).t()}, {}, ValueError, r"y.contiguous\(\)"),
        ({"book": book_of(DT)._replace(t=DT.float())}, {}, TypeError, "book.t must be"),
        ({"book": book_of(DT)._replace(h=DT[:2])}, {}, ValueError, "book.h must be"),
        ({"book": book_of(DT)._replace(stiff=3)}, {}, TypeError, "got int"),
        ({}, {"split": 0}, ValueError, r"split must be in \[1, 4\]"),
        ({}, {"split": 5}, ValueError, r"split must be in \[1, 4\]"),
        ({}, {"stops": ()}, ValueError, "stops"),
        ({}, {"stops": (1.0, 0.5)}, ValueError, "stops"),
        ({}, {"stops": (0.5, math.inf)}, ValueError, "stops"),
        ({}, {"forwards": False}, ValueError, "forwards=False"),
        ({}, {"rtol": -1.0}, ValueError, "rtol must be finite"),
        ({}, {"floor": math.nan}, ValueError, "floor must be finite"),
        ({}, {"max_steps": 0}, ValueError, "at least 1"),
        ({}, {"error": (1.0,)}, ValueError, "two slopes"),
    ],
    ids=str,
)
def test_the_end_of_a_step_refuses(change, rule, error, message):
    arguments = {"y": Y, "y_new": Y, "before": Y, "slopes": K, "book": book_of(DT)} | change
    with pytest.raises(error, match=message):
        rk_finish(**arguments, rule=RULE._replace(**rule))


def test_backends_that_cannot_run(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(RuntimeError, match="TRITON_INTERPRET"):
        rk_stage(Y, K, WEIGHTS, DT, backend="triton")
