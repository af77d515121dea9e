"""The garbage collector rests while Numba works, and is as it was afterwards."""

from __future__ import annotations

import gc
import threading

import pytest
from sdekit_kernels._cpu.collector import collector_paused


@pytest.fixture(autouse=True)
def enabled():
    """The collector is on before and after each test."""
    assert gc.isenabled()
    yield
    gc.enable()


def test_it_is_as_it_was():
    with collector_paused():
        assert not gc.isenabled()
        with collector_paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(KeyError), collector_paused():
        raise KeyError
    assert gc.isenabled()
    gc.disable()
    with collector_paused():
        pass
    assert not gc.isenabled()


@pytest.mark.parametrize("first_ends_first", [True, False])
def test_overlapping_threads_leave_it_on(first_ends_first):
    def block(inside, go):
        with collector_paused():
            inside.set()
            assert go.wait(30)

    events = [(threading.Event(), threading.Event()) for _ in range(2)]
    threads = [threading.Thread(target=block, args=pair) for pair in events]
    for thread, (inside, _) in zip(threads, events, strict=True):
        thread.start()
        assert inside.wait(30)
    assert not gc.isenabled()
    for k in (0, 1) if first_ends_first else (1, 0):
        events[k][1].set()
        threads[k].join()
    assert gc.isenabled()


def test_it_rests_while_a_kernel_is_compiled():
    from numba.extending import overload
    from sdekit_kernels._cpu.jit import kernel

    seen = []

    def told(x):
        raise NotImplementedError

    @overload(told)
    def told_overload(x):
        seen.append(gc.isenabled())
        return lambda x: x + 1

    def add_one(x):
        return told(x)

    assert kernel(add_one)(2) == 3
    assert seen and not any(seen) and gc.isenabled()
