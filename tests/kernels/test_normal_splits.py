"""No sample knows its batch: how the work is cut, ordered and shared changes no bit."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sdekit_kernels import normal
from sdekit_kernels._cpu.jit import kernel
from sdekit_kernels._cpu.parallel import THREAD_ELEMENTS, fork, has_openmp, run_blocks
from sdekit_kernels.philox.normal import _fill_numba, _fill_triton, check_draw

from tests.kernels.bits import same_bits

DIMS = st.one_of(st.integers(1, 20), st.sampled_from([64, 130, 784, 1023, 1025, 2500]))
FIRST = st.one_of(
    st.integers(0, 10), st.integers((1 << 32) - 20, (1 << 32) + 5), st.integers(0, 1 << 62)
)
STEPS = st.one_of(st.integers(0, 9), st.integers(0, (1 << 32) - 1))
DTYPES = st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16])


@given(st.data(), st.integers(1, 40), DIMS, FIRST, STEPS, DTYPES)
def test_a_batch_may_be_split_anywhere(data, n, dim, first, step, dtype):
    whole = normal((n, dim), seed=1, step=step, first_sample=first, dtype=dtype)
    cuts = sorted(data.draw(st.sets(st.integers(0, n), max_size=5)) | {0, n})
    parts = [
        normal((b - a, dim), seed=1, step=step, first_sample=first + a, dtype=dtype)
        for a, b in itertools.pairwise(cuts)
    ]
    assert same_bits(torch.cat(parts), whole)


@given(st.data(), st.integers(1, 12), DIMS, FIRST, STEPS)
def test_samples_may_be_drawn_in_any_order(data, n, dim, first, step):
    whole = normal((n, dim), seed=2, step=step, first_sample=first)
    rows = torch.full_like(whole, torch.nan)
    for i in data.draw(st.permutations(range(n))):
        rows[i] = normal((1, dim), seed=2, step=step, first_sample=first + i)[0]
    assert same_bits(rows, whole)


@given(st.integers(1, 40), DIMS, FIRST, STEPS, DTYPES, st.integers(1, 6000))
def test_cpu_block_size_changes_nothing(n, dim, first, step, dtype, block):
    whole = normal((n, dim), seed=3, step=step, first_sample=first, dtype=dtype)
    out = torch.full((n, dim), torch.nan, dtype=dtype)
    _fill_numba(out, check_draw(3, 0, step, first, n), block=block)
    assert same_bits(out, whole)


@settings(max_examples=20)
@given(
    st.integers(1, 9),
    st.one_of(st.integers(1, 20), st.just(130)),
    FIRST,
    STEPS,
    st.sampled_from([16, 32, 64, 128, 256, 512, 1024]),
)
def test_gpu_block_size_changes_nothing(triton_device, n, dim, first, step, block):
    whole = normal(
        (n, dim), seed=4, step=step, first_sample=first, backend="triton", device=triton_device
    )
    out = torch.full((n, dim), torch.nan, device=triton_device)
    _fill_triton(out, check_draw(4, 0, step, first, n), block=block)
    assert same_bits(out, whole)


@pytest.fixture
def every_thread(monkeypatch):
    """Let small arrays be shared among threads too."""
    monkeypatch.setattr("sdekit_kernels._cpu.parallel.THREAD_ELEMENTS", 1)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 60), DIMS, FIRST, DTYPES)
def test_number_of_threads_changes_nothing(restore_threads, every_thread, n, dim, first, dtype):
    results = []
    for threads in (1, 2, 3, 4):
        torch.set_num_threads(threads)
        results.append(normal((n, dim), seed=5, first_sample=first, dtype=dtype))
    assert all(same_bits(r, results[0]) for r in results)


@kernel
def _who(first, end, seen):
    """seen[b] = first block of the range that b was dealt in."""
    for b in range(first, end):
        seen[b] += first + 1


@kernel
def _launch_who(threads, blocks, *arguments):
    return fork(_who, threads, blocks, arguments)


def test_threads_are_torchs(restore_threads):
    """Blocks are dealt to as many threads as torch has, each block once; little work to one."""
    assert has_openmp()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        seen = np.zeros(50, np.int64)
        run_blocks(_launch_who, 50, 50 * THREAD_ELEMENTS, seen)
        assert sorted(set(seen)) == [1 + 50 * i // threads for i in range(threads)]
        assert (np.diff(seen) >= 0).all()
        seen[:] = 0
        run_blocks(_launch_who, 50, THREAD_ELEMENTS, seen)
        assert (seen == 1).all()
    # The kernel is compiled within its launcher, and not a second time as a function of its own.
    assert _launch_who.overloads
    assert not _who.overloads


@kernel
def _fails(first, end, block):
    if first <= block < end:
        raise ValueError("here")


@kernel
def _launch_fails(threads, blocks, *arguments):
    return fork(_fails, threads, blocks, arguments)


def test_a_failure_in_a_thread_reaches_the_caller(restore_threads):
    torch.set_num_threads(2)
    run_blocks(_launch_fails, 10, 10 * THREAD_ELEMENTS, 10)
    for block in (0, 9):
        with pytest.raises(MemoryError):
            run_blocks(_launch_fails, 10, 10 * THREAD_ELEMENTS, block)


def test_python_threads_may_call_at_once(restore_threads):
    """Kernels release the GIL and share no state: eight callers, the bits of one."""
    torch.set_num_threads(2)
    expected = normal((400, 300), seed=8)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: normal((400, 300), seed=8), range(24)))
    assert all(same_bits(r, expected) for r in results)


@pytest.mark.parametrize("dim", [1, 3, 4, 6, 1030])
def test_one_element_more_writes_nothing_outside(dim):
    """Guard rows around the output stay as they were."""
    guarded = torch.full((9, dim), torch.nan)
    out = guarded[2:7]
    _fill_numba(out, check_draw(6, 0, 0, 0, 5), block=64)
    assert guarded[:2].isnan().all() and guarded[7:].isnan().all() and out.isfinite().all()


@pytest.mark.parametrize("dim", [1, 3, 4, 6, 70])
def test_triton_writes_nothing_outside(dim, triton_device):
    guarded = torch.full((9, dim), torch.nan, device=triton_device)
    out = guarded[2:7]
    _fill_triton(out, check_draw(6, 0, 0, 0, 5), block=64)
    assert guarded[:2].isnan().all() and guarded[7:].isnan().all() and out.isfinite().all()
