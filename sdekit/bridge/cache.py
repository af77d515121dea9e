r"""Trajectories kept between the steps of a regression: their memory, their renewal, their order.

The cache of a half-step has P paths. Those of its r-th filling are paths r P .. (r + 1) P - 1 of
the half-step, functions of the counters alone, so that a filling can always be made again. Batches
go through a filling in passes, each in an order of its own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import torch
from sdekit_kernels.checks import check_int_range
from torch import Tensor

from sdekit.bridge.counters import CACHE_ORDER, stream
from sdekit.data import permutation
from sdekit.train.parallel import ALONE, Ranks

Make = Callable[[int, int], Tensor]
"""(first, count) -> the states (K, count, D...) of paths first, first + 1, .. of the half-step."""

PIECE: Final = 1 << 26
"""Bytes of a piece in which a filling is made, at the most: beside the cache itself this much is
needed, some times over. The pieces are the same on every machine and for any number of processes,
which make them by turns: a network's rounding may depend on their size."""
PIECES: Final = 16
"""Into so many pieces a filling is cut, for as many processes,"""
LEAST: Final = 1024
"""but not into smaller ones than of so many paths: a piece costs the overhead of N steps."""


SHARE: Final = 0.8
"""Of the free memory, what a cache may take at the most: the rest of the program needs some."""


@dataclass(frozen=True, slots=True)
class Cache:
    """How trajectories are kept.

    paths: how many. memory: bytes that they may take; without ``paths``, what is filled with them.
    refresh: batches after which they are made anew; None: never in a half-step. device: where they
    are kept: "cpu" for RAM, "cuda"; None: where the data are. stored: False keeps nothing: each
    batch's paths are simulated again from their counters when they are needed, which takes no
    memory and the time of N steps of the whole batch.
    Raises TypeError or ValueError for numbers out of their range.
    """

    paths: int | None = 10_000
    memory: int | None = None
    refresh: int | None = None
    device: str | None = None
    stored: bool = True

    def __post_init__(self) -> None:
        for name in ("paths", "memory", "refresh"):
            value = getattr(self, name)
            if value is not None:
                check_int_range(name, value, 1, 1 << 47)
        if self.paths is None and self.memory is None:
            raise ValueError("how large? write paths=..., memory=... (bytes), or both")

    def size(self, states: int, like: Tensor, paths: int | None = None) -> int:
        """How many paths of so many states, with events like (B, D...), the cache has.

        paths: how many it had before, in the place of ``paths``.

        Raises ValueError if ``paths`` need more than ``memory``, or than there is: it says how much
        they need, and how many fit.
        """
        each = states * math.prod(like.shape[1:]) * like.element_size()
        device = torch.device(like.device if self.device is None else self.device)
        room = min(v for v in (self.memory, _available(device)) if v is not None)
        fits = room // each
        given = self.paths if paths is None else paths
        if given is None:
            wanted, enough = fits, fits >= 1
        else:
            wanted, enough = given, not self.stored or given <= fits
        if not enough:
            raise ValueError(
                f"a cache of {max(wanted, 1)} paths of {states} states of shape "
                f"{tuple(like.shape[1:])} in {like.dtype} takes {max(wanted, 1) * each} bytes, "
                f"{room} are free on {device}: {fits} paths fit; write paths={max(fits, 1)}, more "
                "memory=, or stored=False"
            )
        return int(wanted)


@final
class Trajectories:
    """The paths of one half-step, by batches; ``seconds``: of simulation so far.

    ranks: the processes that share the work of a filling; each of them then has all of it.
    paths: how many there were, where this half-step was begun before.
    """

    def __init__(
        self,
        cache: Cache,
        make: Make,
        states: int,
        like: Tensor,
        *,
        seed: int,
        half_step: int,
        ranks: Ranks = ALONE,
        paths: int | None = None,
    ) -> None:
        # What is free is another number in each process.
        self.paths = ranks.least(cache.size(states, like, paths))
        self._ranks = ranks
        self._cache, self._make, self._states, self._like = cache, make, states, like
        self._seed, self._stream = seed, stream(half_step, CACHE_ORDER)
        self._filled, self._pass = -1, -1
        self._kept = self._order = torch.empty(0)
        self.seconds = 0.0

    @property
    def most(self) -> int:
        """The largest batch: all paths of a filling."""
        return self.paths

    def batch(self, step: int, size: int, which: Tensor | None = None) -> Tensor:
        """The states (K, size, D...) of the paths of batch ``step``, 0, 1, ..

        size: ``paths`` at the most. which: (k, size) numbers of states, those to give of each path,
        (k, size, D...), instead of all: a regression looks at two of some twenty.
        """
        refresh = self._cache.refresh
        filling, inside = divmod(step, refresh) if refresh else (0, step)
        per_pass = self.paths // size
        turn, place = divmod(inside, per_pass)
        if not self._cache.stored:
            # Paths are alike before they are drawn, but a row's number says at which time it is
            # fitted: without an order of its own a path would meet few of the times.
            made = self._made(filling * self.paths + place * size, size)
            order = permutation(size, seed=self._seed, stream=self._stream, step=step)
            rows = order.to(made.device)
            return made[:, rows] if which is None else made[which.to(made.device), rows]
        self._fill(filling)
        # Never the same order in two fillings: passes are numbered through.
        turn += filling * (1 + (refresh or 1) // per_pass)
        if turn != self._pass:
            self._order = permutation(self.paths, seed=self._seed, stream=self._stream, step=turn)
            self._pass = turn
        rows = self._order[place * size : (place + 1) * size].to(self._kept.device)
        found = self._kept[:, rows] if which is None else self._kept[which.to(rows.device), rows]
        return found.to(self._like.device)

    def all(self) -> Tensor:
        """Every path of the first filling, (K, P, D...)."""
        if not self._cache.stored:
            return self._made(0, self.paths)
        self._fill(0)
        return self._kept

    def _fill(self, filling: int) -> None:
        if filling == self._filled:
            return
        if self._filled < 0:
            device = self._like.device if self._cache.device is None else self._cache.device
            shape = (self._states, self.paths, *self._like.shape[1:])
            self._kept = torch.empty(shape, dtype=self._like.dtype, device=device)
        pieces = list(enumerate(self._pieces()))
        error: ArithmeticError | None = None
        try:
            for i, (first, count) in pieces:
                if i % self._ranks.world == self._ranks.rank:
                    made = self._made(filling * self.paths + first, count)
                    self._kept[:, first : first + count] = made.to(self._kept.device)
        except ArithmeticError as caught:
            error = caught
        # A process that raised alone would leave the others waiting for its pieces.
        (failed,) = self._ranks.sum(error is not None)
        if failed:
            raise error or ArithmeticError("paths of another process left the finite numbers")
        start = time.perf_counter()
        for i, (first, count) in pieces:
            self._share(i % self._ranks.world, first, count)
        self.seconds += time.perf_counter() - start
        self._filled = filling

    def _pieces(self) -> Iterator[tuple[int, int]]:
        """(first, count) of each piece of a filling."""
        each = self._states * math.prod(self._like.shape[1:]) * self._like.element_size()
        size = max(1, min(PIECE // each, max(LEAST, -(-self.paths // PIECES))))
        for first in range(0, self.paths, size):
            yield first, min(size, self.paths - first)

    def _share(self, owner: int, first: int, count: int) -> None:
        """Give all processes a piece that one of them has made."""
        if self._ranks.world == 1:
            return
        part = self._kept[:, first : first + count]
        # NCCL sends what is on the GPU, where the paths were simulated.
        sent = part.to(self._like.device, memory_format=torch.contiguous_format, copy=True)
        self._ranks.from_rank(sent, owner)
        part.copy_(sent)

    def _made(self, first: int, count: int) -> Tensor:
        start = time.perf_counter()
        made = self._make(first, count)
        self.seconds += time.perf_counter() - start
        return made


def _available(device: torch.device) -> int | None:
    """Bytes that a cache may take of what is free on a device; None where nobody knows."""
    if device.type == "cuda":
        return int(SHARE * torch.cuda.mem_get_info(device)[0])
    try:
        # What is free counts no file cache, which makes room when asked: 10 GB may look like none.
        text = Path("/proc/meminfo").read_text()
        return int(SHARE * 1024 * int(text.split("MemAvailable:")[1].split()[0]))
    except (OSError, IndexError, ValueError):
        return None
