"""The exact divergence keeps to the memory that it is given."""

from __future__ import annotations

from functools import partial
from itertools import accumulate

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from sdekit.likelihood.divergence import make_divergence
from sdekit.likelihood.divergence.memory import Chunks, LiveBytes

MIB = 1 << 20


def network(width=256, d=784):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(d, width), nn.SiLU(), nn.Linear(width, d))


@pytest.mark.parametrize("derivative", ["forward", "reverse"])
@pytest.mark.parametrize("memory", [6 * MIB, 16 * MIB])
def test_directions_stay_within_their_memory(derivative, memory):
    net, x = network(), torch.zeros(32, 784)
    estimator = make_divergence("exact", x, derivative=derivative, memory=memory)
    with torch.no_grad():
        want = estimator(net, x)[1]
        with LiveBytes() as live:
            got = estimator(net, x)[1]
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
    # Beside the chunks: the activations that reverse mode keeps (3 of the width, 2 of D a sample),
    # F(x), the forms of 784 directions twice, and the basis vectors of a chunk.
    chunk = estimator._engine.chunks.size(32)
    rest = 4 * (32 * (4 * 256 + 4 * 784 + 2 * 784) + chunk * 784)
    assert 0.6 * memory < live.peak < memory + rest


def test_fewer_samples_take_more_directions_at_a_time():
    net, x = network(), torch.zeros(32, 784)
    estimator = make_divergence("exact", x, memory=4 * MIB)
    with torch.no_grad():
        whole = estimator(net, x)[1]
        some = estimator.take(torch.arange(8))(net, x[:8])[1]
    torch.testing.assert_close(some, whole[:8], rtol=1e-5, atol=1e-5)
    chunks = estimator._engine.chunks
    assert 4 * chunks.size(32) <= chunks.size(8) < 4 * (chunks.size(32) + 1)


def test_a_chunk_overrides_the_memory_and_measures_nothing():
    chunks = Chunks(1, 7)
    with chunks.watching(7, 5, 100):
        torch.zeros(1000)
    assert chunks.size(10**6) == 7 and chunks.cost() == (0.0, 0.0)


def test_live_bytes_of_what_is_made_and_dropped():
    x = torch.zeros(1000)
    with LiveBytes() as live:
        y = x + 1.0
        z = y.view(10, 100).mT
        del y
        assert live.now == 4000
        w = z * 2.0
        assert live.now == live.peak == 8000
        del z
        x.add_(1.0)
        assert live.now == 4000
        del w
    assert live.now == 0 and live.peak == 8000


def allocated(run):
    """The most bytes that torch's allocator had given out during ``run``, by its own account."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        run()
    events = profiled.profiler.kineto_results.events()
    memory = [e for e in events if e.name() == "[memory]"]
    return max(accumulate(e.nbytes() for e in sorted(memory, key=lambda e: e.start_ns())))


def test_the_account_of_the_allocator():
    assert 8000 <= allocated(lambda: torch.zeros(1000) + 1.0) < 8100


@pytest.mark.parametrize("derivative", ["forward", "reverse"])
def test_the_allocator_gives_out_the_stated_memory(derivative):
    # Not the count that chose the chunk, but torch's own, which also sees what is made inside an
    # operation. Measured: 6.2, 16.4, 65.1 MiB of 6, 16, 64 (reverse), 4.2, 12.5, 51.7 (forward:
    # torch lets go of tensors earlier than they are counted).
    net, x = network(), torch.zeros(32, 784)
    for memory in (16 * MIB, 64 * MIB):
        estimator = make_divergence("exact", x, derivative=derivative, memory=memory)
        with torch.no_grad():
            estimator(net, x)
            peak = allocated(partial(estimator, net, x))
        # What a call has beside its chunks is 0.7 MiB here, see above.
        assert 0.6 * memory < peak < memory + 1.5 * MIB
