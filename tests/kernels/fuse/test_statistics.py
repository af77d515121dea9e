"""Sums and counts of the trajectory kernels against their reference, on the very same states."""

from __future__ import annotations

import math

import pytest
import torch
from sdekit_kernels.fuse._numba.printer import block_rows
from sdekit_kernels.fuse._triton.build import Shape
from sdekit_kernels.fuse._triton.run import run_triton
from sdekit_kernels.fuse.launch import Launch
from sdekit_kernels.fuse.run import run_trajectory
from sdekit_kernels.fuse.statistics import (
    Group,
    Statistics,
    obstacle,
    parts_of,
    reduce_torch,
    sum_halves,
)
from sdekit_kernels.fuse.trace import trace_step
from sdekit_kernels.philox.normal import check_draw

# The interpreter computes both sides of a selection, in numpy.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

BINS = 11
SLOTS = [-1, 1, -1, -1, 0, -1, -1, 2, -1]
LAST = Group(3, 2, False)
"""Reduced after the last step."""


def walk(dtype=torch.float32):
    """Five components, x + z, of which some paths leave the finite numbers."""

    def step(now, z, states):
        return (states[0] + now["dt"] * z,)

    return trace_step(step, [torch.zeros((7, 5), dtype=dtype)], (5,), ("dt",))


def start(n, dtype):
    """Two of the states that follow x are infinite for some, as first passages are."""
    x = torch.linspace(-1, 1, 5 * n, dtype=dtype).reshape(5, n)
    x[0, 3 % n], x[2, 5 % n], x[4, 1::3] = math.nan, -math.inf, math.inf
    return x


def launch(program, x, statistics=None, slots=SLOTS, saved=None):
    """The steps of ``slots``, from the numbered step 2 on."""
    n, dtype = x.shape[1], program.dtype
    table = torch.full((len(slots), 1), 0.4, dtype=dtype)
    constants = program.table({"dt": table[:1, 0]}, x.device)[1]
    where = torch.tensor(slots, dtype=torch.int32)
    bad = torch.full((n,), -1, dtype=torch.int64)
    draw = check_draw(5, 0, 2, 77, n)
    empty = x.new_empty((0, n))
    job = Launch(program, x.clone(), table, constants, empty, bad, where, saved, draw)
    return job._replace(statistics=statistics)


def nothing(group, parts, shards, results=4):
    """No sums yet; centres and bins that differ from result to result."""
    found = Statistics.of((group, LAST), BINS, results, shards, torch.device("cpu"))
    wide = found.at.shape[2]
    shift = 0.1 * torch.arange(results * wide, dtype=torch.float64).view(results, wide)
    found.at.copy_(torch.stack([0.2 + shift, -1.5 - shift, 3.0 + shift]))
    return found.launch_into(parts)._replace(last=True)


def run(backend, job, device):
    """The launch, and what it reduced on the CPU."""
    if backend == "numba":
        run_trajectory(job)
        return job
    moved = {k: v.to(device) for k, v in job._asdict().items() if isinstance(v, torch.Tensor)}
    sums = job.statistics
    if sums is not None:
        at = {k: v.to(device) for k, v in sums._asdict().items() if isinstance(v, torch.Tensor)}
        moved["statistics"] = sums._replace(**at)
    moved = job._replace(**moved)
    run_triton(moved, Shape(64, 2, None))
    if sums is not None:
        for name in ("moments", "counts"):
            getattr(sums, name).copy_(getattr(moved.statistics, name))
    return moved._replace(state=moved.state.cpu(), saved=None, statistics=sums)


def assert_reduced(statistics, saved, last, times=1):
    """What the reference makes of the saved states (3, 5, n) and the last one (5, n)."""
    moments, counts = statistics.moments.sum(0), statistics.counts.sum(0)
    for rows, group, x in ((slice(0, 3), statistics.groups[0], saved), (slice(3, 4), LAST, last)):
        part = x[..., group.first : group.first + group.size, :].transpose(-1, -2)
        part, at = part.reshape(-1, x.shape[-1], group.size), statistics.at[:, rows, : group.size]
        entries, wanted = reduce_torch(part, at, group.products, BINS)
        found = moments[rows, : len(group.entries)]
        assert torch.equal(found[:, 0], times * entries[:, 0])
        assert torch.allclose(found, times * entries, rtol=1e-13, atol=1e-11)
        # The last bin is for what is left out: kernels need not count it.
        assert torch.equal(counts[rows, : group.size, :-1], times * wanted[..., :-1])
        assert wanted[..., :-1].sum(-1).eq(entries[:, :1]).all()


@pytest.mark.parametrize("backend", ["numba", "triton"])
@pytest.mark.parametrize("products", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sums_and_counts(backend, products, dtype, triton_device):
    """Odd numbers of paths, paths that are not finite, other groups after the last step."""
    program = walk(dtype)
    for n in (1, 101) if backend == "triton" else (1, 101, 3 * block_rows(program) + 7):
        x = start(n, dtype)
        saved = torch.full((3, 5, n), math.nan, dtype=dtype)
        states = launch(program, x, saved=saved)
        run_trajectory(states)
        parts = -(-n // 64) if backend == "triton" else 2
        statistics = nothing(Group(0, 3, products), parts, 3)
        found = run(backend, launch(program, x, statistics), triton_device)
        assert torch.allclose(found.state, states.state, atol=1e-5, equal_nan=True)
        if n > 1:
            assert 0 < statistics.moments[:, 3, 0].sum() < n - 1  # some are left out
        assert_reduced(statistics, saved, states.state)


@pytest.mark.parametrize("backend", ["numba", "triton"])
def test_launches_add_to_what_is_there(backend, triton_device):
    """In two launches of some steps each, and twice over."""
    program, n = walk(), 130
    x = start(n, torch.float32)
    saved = torch.zeros(3, 5, n)
    states = launch(program, x, saved=saved)
    run_trajectory(states)
    statistics = nothing(Group(1, 2, True), 3, 2)
    for _ in range(2):
        first = launch(program, x, statistics._replace(last=False), SLOTS[:5])
        middle = run(backend, first, triton_device)
        late = launch(program, middle.state, statistics, SLOTS[5:])
        run(backend, late._replace(draw=check_draw(5, 0, 7, 77, n)), triton_device)
    assert_reduced(statistics, saved, states.state, times=2)


def test_threads_change_no_bit(restore_threads):
    program = walk()
    n = 40 * block_rows(program) + 1
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        parts = parts_of(program, n, "numba", torch.device("cpu"), 40)
        statistics = nothing(Group(0, 3, True), parts, threads)
        run_trajectory(launch(program, start(n, torch.float32), statistics))
        found.append((statistics.moments, statistics.counts.sum(0)))
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])
    assert len(found[0][0]) > 2 and found[0][0].abs().sum(-1).gt(0).all()


def test_more_threads_than_shards(restore_threads):
    """A copy of the counts for one thread: no other may take part."""
    program, n = walk(), 40 * block_rows(walk())
    torch.set_num_threads(2)
    saved = torch.zeros(3, 5, n)
    states = launch(program, start(n, torch.float32), saved=saved)
    run_trajectory(states)
    statistics = nothing(Group(0, 3, False), 8, 1)
    run_trajectory(launch(program, start(n, torch.float32), statistics))
    assert_reduced(statistics, saved, states.state)


@pytest.mark.parametrize("backend", ["numba", "triton"])
def test_without_bins_nothing_is_counted(backend, triton_device):
    program, n = walk(), 64
    groups = (Group(0, 5, False),)
    none = Statistics.of(groups, 0, 1, 4, torch.device("cpu")).launch_into(1)
    run(backend, launch(program, torch.zeros(5, n), none, [-1, 0, -1]), triton_device)
    assert none.counts.numel() == 1 and none.counts.sum() == 0
    assert none.moments[0, 0, 0] == n and none.moments[0, 0, 6:].gt(0).all()


def test_places_of_a_histogram():
    """Edges belong to the bin on their right, below and above are counted at the ends."""
    x = torch.tensor([-9.0, -1.0, -0.5, 0.0, 0.999, 1.0, 9.0, math.nan])[None, :, None]
    at = torch.tensor([0.0, -1.0, 2.0], dtype=torch.float64).view(3, 1, 1)
    entries, counts = reduce_torch(x, at, False, 4)
    assert counts.tolist() == [[[1, 1, 1, 1, 1, 2, 1]]] and entries[0, 0] == 7
    assert reduce_torch(x, at * math.nan, False, 4)[1].tolist() == [[[0, 0, 0, 0, 0, 0, 8]]]


def test_sums_by_halves():
    x = torch.arange(2 * 37 * 3, dtype=torch.float64).view(2, 37, 3)
    assert torch.equal(sum_halves(x), x.sum(1))
    assert sum_halves(x[:, :0]).eq(0).all() and torch.equal(sum_halves(x[:, :1]), x[:, 0])


def test_what_a_gpu_kernel_cannot_hold():
    assert obstacle((Group(0, 8, True),), "triton") == ""
    assert "2145 sums" in obstacle((Group(0, 64, True),), "triton")
    assert obstacle((Group(0, 64, True),), "numba") == ""
