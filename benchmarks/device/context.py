"""Where the measurements run, how large they are, and how they are timed.

On a GPU device events are used. A call that moves much memory is timed call by call
(``triton.testing.do_bench``, which also flushes the second-level cache); a short one is captured
many times in a graph, so that the launches' gaps do not count, over buffers that together exceed
the cache. A dry run goes through all of it on the CPU with tiny tensors, the kernels interpreted.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from time import perf_counter
from typing import Any, NamedTuple

import torch
from torch import Tensor

LARGE = 1 << 28
"""Bytes from which a call is timed by itself: about 60 us on the fastest cards."""
GRAPH_CALLS, GRAPH_REPLAYS = 50, 15


class Timing(NamedTuple):
    """Milliseconds: median, and the 20 % and 80 % quantiles."""

    ms: float
    low: float
    high: float

    @property
    def spread(self) -> float:
        """The quantiles' distance in parts of the median."""
        return (self.high - self.low) / self.ms


@dataclass(frozen=True)
class Context:
    """What every section needs to know."""

    device: torch.device
    dry_run: bool

    @property
    def backend(self) -> str:
        """On a GPU "auto" must find Triton; in a dry run the kernels are interpreted by name."""
        return "triton" if self.dry_run else "auto"

    @property
    def cpu_backend(self) -> str:
        """What makes the CPU's side of a comparison."""
        return "numba" if find_spec("numba") is not None else "torch"

    @property
    def cache_bytes(self) -> int:
        """Size of the second-level cache."""
        if self.dry_run:
            return 0
        return int(getattr(torch.cuda.get_device_properties(self.device), "L2_cache_size", 1 << 26))

    def rows(self, elements: int, dim: int, element_size: int = 4) -> int:
        """Samples of ``dim`` components that make about ``elements``; few in a dry run.

        No more than what lets 16 tensors fit into the free memory.
        """
        if self.dry_run:
            return 3
        free, _ = torch.cuda.mem_get_info(self.device)
        return max(1, min(elements, free // (16 * element_size)) // dim)

    def random(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """Random data: zeros run faster than real data on some cards."""
        return torch.randn(tuple(shape), device=self.device, dtype=dtype)

    def poisoned(self, like: Tensor) -> Tensor:
        """NaN wherever a kernel forgets to write."""
        return torch.full_like(like, float("nan"))

    def synchronize(self) -> None:
        """Wait for the device."""
        if not self.dry_run:
            torch.cuda.synchronize(self.device)

    def buffers(self, bytes_each: int) -> int:
        """How many sets of tensors make more than the cache holds three times."""
        return 1 if self.dry_run else min(64, 1 + 3 * self.cache_bytes // max(bytes_each, 1))

    def time(self, calls: Sequence[Callable[[], Any]], bytes_each: int) -> Timing:
        """Time of one call; ``calls`` do the same work on different buffers, in turn."""
        if self.dry_run:
            return _quantiles([_wall(calls[0])])
        if bytes_each >= LARGE:
            return _by_events(calls)
        return _by_graph(calls)

    def wall(self, run: Callable[[], Any], repeats: int = 5) -> Timing:
        """Milliseconds on the host's clock from an idle device to an idle device."""

        def whole() -> None:
            run()
            self.synchronize()

        if self.dry_run:
            return _quantiles([_wall(whole)])
        whole()
        return _quantiles([_wall(whole) for _ in range(repeats)])

    def peak_memory(self, run: Callable[[], Any]) -> float:
        """MiB on the device that ``run`` allocates at its peak beyond what is there before it."""
        self.synchronize()
        if self.dry_run:
            return 0.0
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        run()
        self.synchronize()
        return (torch.cuda.max_memory_allocated(self.device) - before) / 2**20


def _wall(run: Callable[[], Any]) -> float:
    before = perf_counter()
    run()
    return (perf_counter() - before) * 1e3


def _quantiles(values: list[float]) -> Timing:
    if len(values) < 2:
        return Timing(values[0], values[0], values[0])
    cuts = statistics.quantiles(values, n=5, method="inclusive")
    return Timing(statistics.median(values), cuts[0], cuts[-1])


def _by_events(calls: Sequence[Callable[[], Any]]) -> Timing:
    from triton.testing import do_bench

    turn = itertools.cycle(calls)
    found = do_bench(lambda: next(turn)(), warmup=20, rep=80, quantiles=[0.5, 0.2, 0.8])
    return Timing(*found)


def _by_graph(calls: Sequence[Callable[[], Any]]) -> Timing:
    """Time of a graph of ``GRAPH_CALLS`` calls or more, over their number."""
    n = max(1, -(-GRAPH_CALLS // len(calls)))
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # compile and allocate outside the capture
        for call in calls:
            call()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(n):
            for call in calls:
                call()
    graph.replay()
    values = []
    for _ in range(GRAPH_REPLAYS):
        start = torch.cuda.Event(enable_timing=True)
        end = torch.cuda.Event(enable_timing=True)
        start.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        values.append(start.elapsed_time(end) / (n * len(calls)))
    return _quantiles(values)
