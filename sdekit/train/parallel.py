"""Data parallel training under torchrun: each process evaluates the network on its share.

Every process draws the times and the noise of the whole batch, which is cheap beside the network
and makes them what they are in one process; its network then sees its own rows alone. Gradients are
summed in one flat buffer after the backward pass. DistributedDataParallel would hide that behind
the backward pass, but it lays its buckets out anew after the first step, so that a run that was
resumed would sum in another order, and it wraps the module, which nested derivatives look into.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import torch
import torch.distributed as dist
from torch import Tensor, nn

Score = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among ``world`` of them, for batches of ``batch`` rows in all."""

    rank: int
    world: int
    batch: int

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes and prints."""
        return self.rank == 0

    @property
    def rows(self) -> slice:
        """This process' rows of the batch."""
        return slice(
            self.rank * self.batch // self.world, (self.rank + 1) * self.batch // self.world
        )

    def share(self, score: Score) -> Score:
        """``score`` on this process' rows, zero on those of the others.

        The shared score raises ValueError for a batch of another size: whose rows are whose would
        be a guess.
        """
        if self.world == 1:
            return score
        rows = self.rows

        def shared(t: Tensor, x: Tensor) -> Tensor:
            if x.shape[0] != self.batch:
                raise ValueError(
                    f"the loss calls the score with {x.shape[0]} rows for a batch of {self.batch}: "
                    "in several processes it must call it with one row a sample"
                )
            own = score(t[rows] if t.ndim else t, x[rows])
            if own.shape[1:] == x.shape[1:]:
                below, above = x[: rows.start] * 0.0, x[rows.stop :] * 0.0
            else:
                # Two drifts from one network: nobody differentiates those with respect to x.
                below, above = (
                    own.new_zeros(n, *own.shape[1:]) for n in (rows.start, len(x) - rows.stop)
                )
            return torch.cat([below, own, above])

        return shared

    def mean(self, each: Tensor) -> Tensor:
        """This process' share of the mean of (B,) values; the shares sum to the mean."""
        if self.world == 1:
            return each.mean()
        own = each[self.rows]
        return own.sum() / self.batch

    def sum(self, *values: float) -> list[float]:
        """Each value summed over the processes, the same on all of them.

        Added in the order of the processes: the bits do not depend on what is summed beside.
        """
        if self.world == 1:
            return list(values)
        own = torch.tensor(values, dtype=torch.float64, device=_device())
        parts = [torch.empty_like(own) for _ in range(self.world)]
        dist.all_gather(parts, own)
        return list(sum(parts[1:], parts[0]).tolist())

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its sum over the processes."""
        if self.world == 1:
            return
        grads = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([g.flatten() for g in grads])
        dist.all_reduce(flat)
        for g, total in zip(grads, flat.split([g.numel() for g in grads]), strict=True):
            g.copy_(total.view_as(g))

    def from_first(self, tensors: Iterable[Tensor]) -> None:
        """Give all processes the first one's values."""
        if self.world > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def from_rank(self, tensor: Tensor, rank: int) -> None:
        """Give all processes the values that ``tensor`` has in one of them."""
        if self.world > 1:
            dist.broadcast(tensor, rank)

    def least(self, value: int) -> int:
        """The smallest of the processes' values, below 2^53."""
        if self.world == 1:
            return value
        own = torch.tensor(float(value), dtype=torch.float64, device=_device())
        dist.all_reduce(own, op=dist.ReduceOp.MIN)
        return int(own)

    def ends_of(self, x: Tensor) -> Tensor:
        """Rows (n, D...) whose least and largest are those of all processes' rows; alone, x."""
        if self.world == 1:
            return x
        least, most = x.aminmax(dim=0)
        own = torch.stack([-least, most])
        dist.all_reduce(own, op=dist.ReduceOp.MAX)
        return torch.stack([-own[0], own[1]])

    def wait(self) -> None:
        """Until all processes are here."""
        if self.world > 1:
            self.sum(0.0)


ALONE: Final = Ranks(0, 1, 1)
"""One process."""


@contextmanager
def data_parallel(batch: int | None, device: torch.device | None = None) -> Iterator[Ranks]:
    """The processes of torchrun, or one alone; a process group that this opens is closed again.

    batch: how many rows are shared out; None: none are, yet. device: where the network is, None for
    ``local_device()``. gloo on the CPU, NCCL on CUDA; a process group that is open already is used
    as it is.
    Raises ValueError for a batch of fewer rows than processes.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    ours = world > 1 and dist.is_available() and not dist.is_initialized()
    if ours:
        kind = (local_device() if device is None else device).type
        _open("nccl" if kind == "cuda" else "gloo")
    try:
        alone = not (dist.is_available() and dist.is_initialized())
        rank, world = (0, 1) if alone else (dist.get_rank(), dist.get_world_size())
        batch = world if batch is None else batch
        ranks = Ranks(rank, world, batch)
        if batch < ranks.world:
            raise ValueError(
                f"a batch of {batch} is too small for {ranks.world} processes: write batch="
                f"{ranks.world} or more"
            )
        yield ranks
    finally:
        if ours:
            dist.destroy_process_group()


_opened: list[str] = []
"""The process groups that this process has opened, one after the other."""


def _open(kind: str) -> None:
    """Open the process group of torchrun's variables, as often as there are trainings in a program.

    torchrun's own store outlives a group, and the processes of a first life: who opens the next
    group would find the addresses of the last there, and be refused by them (torch 2.13: at the
    second or third opening, and after a restart). Each opening has names of its own.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        life = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        store, rank, world = next(dist.rendezvous("env://"))
        own = dist.PrefixStore(f"sdekit/{life}/{len(_opened)}", store)
        dist.init_process_group(kind, store=own, rank=rank, world_size=world)
    else:
        dist.init_process_group(kind)
    _opened.append(kind)


def local_device() -> torch.device:
    """Where this process of torchrun should put its network: its own GPU, or the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def _device() -> torch.device:
    return local_device() if dist.get_backend() == "nccl" else torch.device("cpu")
