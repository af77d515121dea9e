"""Statistics made inside the trajectory kernel, handed over piece by piece."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from sdekit_kernels.fuse.statistics import Group, Statistics, obstacle, parts_of, sum_halves
from torch import Tensor

from sdekit.solve.kept import Target
from sdekit.solve.plan import Plan
from sdekit.solve.statistics import Collector
from sdekit.solve.trajectory import slots_of

__all__ = ["KernelSums"]

_NUMBERS = {"cpu": 1 << 20, "cuda": 1 << 25}
"""Numbers of a piece's state: they stay in a CPU's cache; a GPU wants some 2^20 paths at once."""
_SUMS = 1 << 25
"""Numbers of all partial sums of a launch on a GPU: 256 MiB."""
_COUNTS = 1 << 25
"""Numbers of all copies of the histograms, of which each thread has one if that is not too many."""


class KernelSums:
    """What becomes of the states of a piece: the kernel's sums and counts, merged by ``merge``.

    whole: collects x at the saved times. parts: each functional at the end; where its collector is
    not ready yet, its values go there by way of torch. sizes: components of all that is carried.
    """

    def __init__(
        self, plan: Plan, whole: Collector, parts: Sequence[Collector], sizes: Sequence[int]
    ) -> None:
        self.plan, self.whole, self.parts = plan, whole, list(parts)
        run, device = plan.run, whole.counts.device
        after, _ = slots_of(run)
        saved = sorted(after.values())
        self.result = {row: i for i, row in enumerate(saved)}
        self.rows = torch.tensor(saved, dtype=torch.int64, device=device)
        skip = 1 if run.transition.stop is None else 3
        groups = [Group(0, sizes[0], whole.covariance)]
        groups += [Group(sum(sizes[: skip + f]), sizes[skip + f], False) for f in range(len(parts))]
        self.skip, self.groups = skip, tuple(groups)
        results = len(saved) + len(parts)
        self.sums = results * max(len(g.entries) for g in groups)
        wide = results * max(g.size for g in groups) * (whole.bins + 3)
        shards = 16 if device.type == "cuda" else torch.get_num_threads()
        shards = max(1, min(shards, _COUNTS // max(wide, 1)))
        self.statistics = Statistics.of(self.groups, whole.bins, results, shards, device)
        numbers = _NUMBERS["cuda" if device.type == "cuda" else "cpu"] // sum(sizes)
        if run.backend == "triton":
            numbers = min(numbers, 32 * _SUMS // max(self.sums, 1))
        self.piece = max(1, numbers // whole.pilot) * whole.pilot

    @property
    def obstacle(self) -> str:
        """What keeps the kernel from making these sums, or nothing."""
        return obstacle(self.groups, self.plan.run.backend)

    def begin(self, n: int) -> None:
        """Start with a piece of n paths."""
        at = self.statistics.at
        sources = [self.whole.at[:, self.rows], *(part.at for part in self.parts)]
        row = 0
        for source in sources:
            at[:, row : row + source.shape[1], : source.shape[2]] = source
            row += source.shape[1]
        backend, program = self.plan.run.backend, self.plan.program
        parts = parts_of(program, n, backend, at.device, max(self.sums, 1))
        self.statistics = self.statistics.launch_into(parts)
        self.n = n

    def put_first(self, x: Tensor) -> None:
        """All paths start in one state."""
        self.whole.add(x[:1].reshape(1, 1, -1), slice(0, 1), times=len(x))

    def put(self, row: int, x: Tensor) -> None:
        """States that torch made between the grid's times, reduced by torch."""
        self.whole.add(x.reshape(1, len(x), -1), slice(row, row + 1))

    def of_launch(self, rows: Sequence[int], last: bool) -> Target:
        """Reduce x where there is a row for it, and the functionals after the last step."""
        last = last and bool(self.parts)
        slots = [self.result.get(row, -1) for row in rows]
        if not last and all(slot < 0 for slot in slots):
            return None, None, None
        device = self.statistics.at.device
        where = torch.tensor(slots, dtype=torch.int32, device=device)
        return where, None, self.statistics._replace(last=last)

    def merge(self, follow: Sequence[Tensor]) -> None:
        """Hand the piece's sums over. follow: what followed x, at the end of the piece."""
        moments, at = self.statistics.moments, self.statistics.at
        flat = moments.reshape(1, len(moments), moments[0].numel())
        total = sum_halves(flat).view(moments.shape[1:])
        entries, size = len(self.groups[0].entries), self.groups[0].size
        x = len(self.rows)
        self.whole.moments.merge(total[:x, :entries], at[0, :x, :size], self.rows)
        for f, (part, group) in enumerate(zip(self.parts, self.groups[1:], strict=True)):
            if part.ready:
                row, entries = slice(x + f, x + f + 1), len(group.entries)
                part.moments.merge(total[row, :entries], at[0, row, : group.size], slice(None))
            else:
                part.add(follow[self.skip - 1 + f].reshape(1, self.n, -1))

    def finish(self) -> None:
        """Hand the counts over."""
        if not self.whole.bins:
            return
        total, x = self.statistics.counts.sum(0), len(self.rows)
        self.whole.counts[self.rows] += total[:x, : self.groups[0].size]
        for f, (part, group) in enumerate(zip(self.parts, self.groups[1:], strict=True)):
            part.counts += total[x + f : x + f + 1, : group.size]
