"""Running torch code once on symbolic tensors: each operation becomes scalar expressions.

A ``Symbolic`` is a tensor without storage whose ``entries`` array holds one expression a component.
All samples are alike, so the batch axis has one entry; other axes may have one too, where all
components are the same (a broadcast not yet carried out). Views share memory with what they look
at, as in torch, so that a drift may fill a result in place.

``Tracer`` is the dispatch mode under which a step runs. Operations on real tensors alone (the
equation's parameters) are carried out at once, by torch; where a real tensor meets a symbolic one,
its entries become arguments of the kernel. So a trace knows no parameter's value.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sdekit_kernels.fuse.graph import PATH, Graph, Node

__all__ = ["MAX_COMPONENTS", "MAX_NODES", "CannotFuse", "Symbolic", "Tracer", "line_of"]

MAX_COMPONENTS = 64
"""Components of a state, and Brownian motions of a sample: beyond, registers overflow."""
MAX_ENTRIES = 1 << 14
"""Entries of one intermediate tensor a sample."""
MAX_NODES = 1 << 15
"""Operations a step: beyond, compiling takes minutes."""

_HERE = __file__.rsplit("/", 1)[0]


class CannotFuse(Exception):
    """Why a step cannot become one kernel: the operation, the line it stands on, what to do."""


class Symbolic(torch.Tensor):
    """A tensor whose components are expressions; see the module."""

    entries: np.ndarray
    axis: int | None

    @staticmethod
    def __new__(
        cls, entries: np.ndarray, axis: int | None, batch: int, dtype: torch.dtype, device: Any
    ) -> Any:
        shape = [batch if i == axis else n for i, n in enumerate(entries.shape)]
        return torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, shape, dtype=dtype, device=device, requires_grad=False
        )

    def __init__(
        self, entries: np.ndarray, axis: int | None, batch: int, dtype: torch.dtype, device: Any
    ) -> None:
        assert axis is None or entries.shape[axis] == 1
        self.entries, self.axis = entries, axis

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise CannotFuse(
            f"{func} reached a symbolic tensor outside of its trace: the equation kept a tensor "
            "from an earlier call"
        )

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"Symbolic({tuple(self.shape)}, axis={self.axis})"


class Tracer(TorchDispatchMode):
    """Under this mode, operations on symbolic tensors build expressions.

    batch: samples of the real state. dtype: of the real state, which the kernel computes in.
    """

    def __init__(
        self, batch: int, state_ndim: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        super().__init__()
        self.batch, self.state_ndim, self.dtype, self.device = batch, state_ndim, dtype, device
        self.graph = Graph()
        self.learns = False
        self.parameters: list[torch.Tensor] = []
        self._slots: dict[tuple[object, ...], int] = {}
        self._made: set[int] = set()
        self._captured: set[int] = set()
        self._keep: list[torch.Tensor] = []

    # -- making symbolic tensors -------------------------------------------------------------------

    def wrap(self, entries: np.ndarray, axis: int | None, dtype: torch.dtype) -> Symbolic:
        """A symbolic tensor of these entries, with ``batch`` samples on ``axis``."""
        if entries.size > MAX_ENTRIES:
            raise self.refuse(f"a tensor of {entries.size} entries a sample", "make it smaller")
        return Symbolic(entries, axis, self.batch, dtype, self.device)

    def scalar(self, node: Node) -> Symbolic:
        """A 0-d tensor."""
        return self.wrap(_filled((), node), None, self.dtype)

    def per_path(self, make: Callable[[int], Node], event: Sequence[int]) -> Symbolic:
        """A tensor (batch, *event) of leaves, numbered in row-major order."""
        entries = np.empty(int(np.prod(event, dtype=np.int64)), dtype=object)
        for j in range(entries.size):
            entries[j] = make(j)
        return self.wrap(entries.reshape(1, *event), 0, self.dtype)

    def symbolic(self, value: Any, place: int | None = None) -> Symbolic:
        """A number or real tensor as a symbolic one; symbolic tensors as they are.

        ``place``: the axis on which a real tensor has one entry a path.
        """
        if isinstance(value, Symbolic):
            return value
        if isinstance(value, complex) or (isinstance(value, torch.Tensor) and value.is_complex()):
            raise self.refuse("complex numbers", "write the real and the imaginary part")
        if not isinstance(value, torch.Tensor):
            return self.wrap(_filled((), self.graph.literal(value)), None, self.dtype)
        if value.device != self.device and value.ndim > 0:
            raise self.refuse(
                f"a parameter on {value.device}, while the state is on {self.device}",
                f"move it with .to({str(self.device)!r})",
            )
        sizes = [1 if i == place else n for i, n in enumerate(value.shape)]
        count = int(np.prod(sizes, dtype=np.int64))
        if count > MAX_ENTRIES:
            raise self.refuse(f"a parameter of shape {tuple(value.shape)}", "make it smaller")
        flat = np.empty(count, dtype=object)
        if not value.is_floating_point():
            if place is not None:
                raise self.refuse(
                    f"a {value.dtype} parameter with one entry a path", "make it floating-point"
                )
            for j, v in enumerate(value.reshape(-1).tolist()):
                flat[j] = self.graph.literal(v)
        else:
            shared = place is None or value.stride(place) == 0
            if shared and place is not None:
                value_kept = value.select(place, 0)
            else:
                value_kept = value if place is None else value.movedim(place, 0)
            slot = self._slot(value_kept, value, place)
            leaf = "parameter" if shared else "path_parameter"
            for j in range(count):
                flat[j] = self.graph.leaf(leaf, slot, j)
        return self.wrap(flat.reshape(sizes), place, value.dtype)

    def batch_place(self, value: Any, ndim: int, axis: int | None) -> int | None:
        """Where a real tensor that broadcasts into ``ndim`` axes has one entry a path.

        axis: the batch axis of the result. Where the result has none yet (times and parameters
        alone), a tensor is one entry a path if its first axis could be nothing else.
        """
        if not isinstance(value, torch.Tensor) or isinstance(value, Symbolic):
            return None
        if axis is None:
            return self.guess_axis(value.shape)
        place = axis - (ndim - value.ndim)
        return place if place >= 0 and value.shape[place] == self.batch > 1 else None

    def guess_axis(self, shape: Sequence[int]) -> int | None:
        """The batch axis of a tensor of this shape that nothing else tells about."""
        if len(shape) == 0 or shape[0] != self.batch:
            return None
        return 0 if self.batch > MAX_COMPONENTS or len(shape) == self.state_ndim else None

    def _slot(self, kept: torch.Tensor, value: torch.Tensor, place: int | None) -> int:
        key = (value.data_ptr(), tuple(value.shape), value.stride(), value.dtype, place)
        slot = self._slots.get(key)
        if slot is None:
            slot = self._slots[key] = len(self.parameters)
            self.parameters.append(kept)
            self._keep.append(value)
            self._captured.add(value.untyped_storage().data_ptr())
        return slot

    # -- the mode ----------------------------------------------------------------------------------

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """False: the guard against torch's compiler would load it, over a second of imports."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        from sdekit_kernels.fuse import aten

        kwargs = kwargs or {}
        # Read here and not from the kernel's parameters: what torch computes of them under
        # no_grad has lost the flag.
        self.learns = self.learns or any(
            isinstance(v, torch.Tensor) and v.requires_grad for v in tree_leaves((args, kwargs))
        )
        return aten.run(self, func, args, kwargs)

    def refuse(self, what: str, remedy: str) -> CannotFuse:
        """The error that says what stands in the way, and on which line of the equation."""
        return CannotFuse(f"{what}{line_of_user()}: {remedy}")

    def made(self, value: Any) -> Any:
        """Remember the memory of real tensors that the step itself made."""
        for v in tree_leaves(value):
            if isinstance(v, torch.Tensor):
                self._made.add(v.untyped_storage().data_ptr())
                self._keep.append(v)
        return value

    def may_change(self, value: torch.Tensor) -> bool:
        """Whether the step may write to this real tensor: it made it, and no kernel reads it."""
        memory = value.untyped_storage().data_ptr()
        return memory in self._made and memory not in self._captured

    def depends_on_path(self, value: Any) -> bool:
        """Whether some entry of a symbolic tensor differs between paths."""
        return isinstance(value, Symbolic) and any(n.level == PATH for n in value.entries.flat)


def line_of_user() -> str:
    """Where the innermost frame outside torch and this package stands: function, file, line."""
    return _innermost(traceback.extract_stack())


def line_of(error: BaseException) -> str:
    """The same for where an exception was raised."""
    return _innermost(traceback.extract_tb(error.__traceback__))


def _innermost(frames: traceback.StackSummary) -> str:
    for frame in reversed(frames):
        name = frame.filename.replace("\\", "/")
        inside = name.startswith(_HERE) or "/torch/" in name or name.startswith("<frozen")
        if inside or "/sdekit/solvers/" in name or "/numpy/" in name:
            continue
        return f" in {frame.name}, {name.rsplit('/', 1)[-1]} line {frame.lineno}"
    return ""


def _filled(shape: tuple[int, ...], node: Node) -> np.ndarray:
    entries = np.empty(shape, dtype=object)
    entries[...] = node
    return entries
