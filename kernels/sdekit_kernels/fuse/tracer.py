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

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sdekit_kernels.fuse.graph import PATH, Graph, Node, order_of
from sdekit_kernels.fuse.refusal import CannotFuse, line_of_user

__all__ = ["MAX_COMPONENTS", "MAX_NODES", "OTHER_BATCHES", "CannotFuse", "Symbolic", "Tracer"]

MAX_COMPONENTS = 64
"""Components of a state, and Brownian motions of a sample: beyond, registers overflow."""
MAX_ENTRIES = 1 << 14
"""Entries of one intermediate tensor a sample."""
OTHER_BATCHES = (7907, 7919)
"""Sizes that no other axis has, for a trace in which the batch cannot be taken for another axis."""
MAX_NODES = 4096
"""Operations a step: a dense matrix of 36 x 36. Beyond, compiling takes more than five seconds, and
a step made of torch's own matrix products is faster."""

_LARGE = "leave a step of this size to the step-by-step path"
_KEPT = "a tensor that the equation kept from an earlier call"
_FORGET = "compute each value from t and x alone, keep none on the equation"


class Symbolic(torch.Tensor):
    """A tensor whose components are expressions; see the module."""

    entries: np.ndarray
    axis: int | None
    tracer: Tracer

    @staticmethod
    def __new__(  # noqa: D102
        cls, tracer: Tracer, entries: np.ndarray, axis: int | None, dtype: torch.dtype
    ) -> Any:
        shape = [tracer.batch if i == axis else n for i, n in enumerate(entries.shape)]
        return torch.Tensor._make_wrapper_subclass(
            cls, shape, dtype=dtype, device=tracer.device, requires_grad=False
        )

    def __init__(
        self, tracer: Tracer, entries: np.ndarray, axis: int | None, dtype: torch.dtype
    ) -> None:
        assert axis is None or entries.shape[axis] == 1
        self.tracer, self.entries, self.axis = tracer, entries, axis

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise CannotFuse(f"{func}: {_KEPT}{line_of_user()}: {_FORGET}")

    def __deepcopy__(self, _: Any) -> Any:
        return self.clone()

    def __repr__(self, **_: Any) -> str:
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
        self._mixed: list[CannotFuse] = []
        self._conversions: dict[tuple[Any, ...], torch.Tensor] = {}
        self._shared: set[int] = set()

    # -- making symbolic tensors -------------------------------------------------------------------

    def check_room(self, more: int = 0) -> None:
        """Refuse a step that has grown too large, before an operation of ``more`` expressions."""
        if len(self.graph) + more > MAX_NODES:
            raise self.refuse(f"more than {MAX_NODES} operations a step", _LARGE)

    def wrap(self, entries: np.ndarray, axis: int | None, dtype: torch.dtype) -> Symbolic:
        """A symbolic tensor of these entries, with ``batch`` samples on ``axis``."""
        if entries.size > MAX_ENTRIES:
            raise self.refuse(f"a tensor of {entries.size} entries a sample", _LARGE)
        self.check_room()
        return Symbolic(self, self.checked(entries, dtype), axis, dtype)

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
            return self.scalar(self.graph.literal(value))
        if value.device != self.device and (value.ndim > 0 or value.device.type != "cpu"):
            raise self.refuse(
                f"a parameter on {value.device}, while the state is on {self.device}",
                f"move it with .to({str(self.device)!r})",
            )
        sizes = [1 if i == place else n for i, n in enumerate(value.shape)]
        count = int(np.prod(sizes, dtype=np.int64))
        if count > MAX_ENTRIES:
            raise self.refuse(f"a parameter of shape {tuple(value.shape)}", _LARGE)
        shared = place is None or value.stride(place) == 0
        if place is None:
            kept = value
        else:
            kept = value.select(place, 0) if shared else value.movedim(place, 0)
        slot = self._slot(kept, value, place)
        leaf = "parameter" if shared else "path_parameter"
        flat = np.empty(count, dtype=object)
        for j in range(count):
            flat[j] = self.graph.leaf(leaf, slot, j)
            if value.dtype == torch.bool:
                flat[j] = self.graph("ne", flat[j], self.graph.literal(0.0))
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
        if self.batch in OTHER_BATCHES and self.batch in shape:
            return list(shape).index(self.batch)
        if len(shape) == 0 or shape[0] != self.batch:
            return None
        return 0 if self.batch > MAX_COMPONENTS or len(shape) == self.state_ndim else None

    def _slot(self, kept: torch.Tensor, value: torch.Tensor, place: int | None) -> int:
        key = (*_place(value), place)
        slot = self._slots.get(key)
        if slot is None:
            slot = self._slots[key] = len(self.parameters)
            self.parameters.append(kept)
            self._keep.append(value)
            self._captured.add(_memory(value))
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
        tensors = _tensors((*args, *kwargs.values()))
        if not self.learns:
            self.learns = any(v.requires_grad and not isinstance(v, Symbolic) for v in tensors)
        return aten.run(self, func, args, kwargs, tensors)

    def refuse(self, what: str, remedy: str, batch: bool = False) -> CannotFuse:
        """The error that says what stands in the way, and on which line of the equation."""
        return CannotFuse(f"{what}{line_of_user()}: {remedy}", batch)

    def mixes(self, what: str) -> CannotFuse:
        """The error for an operation under which a path depends on other paths."""
        remedy = "a path may depend on its own state only: work on the component axes, x[:, ...]"
        return self.refuse(what, remedy, batch=True)

    def mixed(self, what: str) -> Node:
        """What depends on other paths: refused only if the step's result depends on it.

        The gradient of a sum over all samples does not, whose value only its backward pass needs.
        """
        self._mixed.append(self.mixes(what))
        return self.graph.leaf("mixed", len(self._mixed) - 1)

    def check_unmixed(self, nodes: Sequence[Node]) -> None:
        """Refuse what ``mixed`` made, if these expressions depend on it."""
        for node in order_of(nodes):
            if node.op == "mixed":
                raise self._mixed[node.value[0]]

    def made(self, value: Any, given: Sequence[torch.Tensor]) -> Any:
        """Remember the memory of real tensors that the step made, no views of ``given``."""
        old = {_memory(v) for v in given}
        for v in tree_leaves(value):
            if isinstance(v, torch.Tensor) and _memory(v) not in old:
                self._made.add(_memory(v))
                self._keep.append(v)
        return value

    def converted(self, value: torch.Tensor, kwargs: Any, func: Any) -> torch.Tensor:
        """A real tensor in another type, the same tensor each time: one parameter, not several.

        An equation that writes ``self.means.to(x)`` in a step of six stages has six times the
        numbers, and six times the work on them, without this.
        """
        key = (_place(value), *sorted((k, str(v)) for k, v in kwargs.items()))
        if key in self._conversions:
            self._shared.add(_memory(self._conversions[key]))
            return self._conversions[key]
        made: torch.Tensor = self.made(func(value, **kwargs), [value])
        self._keep.append(value)
        self._conversions[key] = made
        return made

    def check_may_change(self, name: str, targets: Sequence[torch.Tensor]) -> None:
        """Refuse to write to a real tensor that the step did not make, or that a kernel reads."""
        for v in targets:
            memory = _memory(v)
            if memory in self._shared:
                raise self.refuse(
                    f"torch.{name} changes what .to() gave",
                    "make a new one: a = a + ... instead of a += ...",
                )
            kept = self._conversions.items()
            # What is written to, or made of it, is no longer the conversion that it was.
            self._conversions = {
                k: w for k, w in kept if _memory(w) != memory and k[0][0] != memory
            }
            if _memory(v) in self._captured and _memory(v) in self._made:
                raise self.refuse(
                    f"torch.{name} changes a tensor that the step has used already",
                    "make a new one: a = a + ... instead of a += ...",
                )
            if _memory(v) not in self._made:
                raise self.refuse(
                    f"torch.{name} changes a tensor that outlives the step",
                    "keep no state in the equation",
                )

    def known(self, value: Symbolic) -> np.ndarray | None:
        """The entries as numbers, where all are literals; one entry on the batch axis."""
        if any(n.op != "literal" for n in value.entries.flat):
            return None
        numbers = np.array([n.value for n in value.entries.flat], dtype=np.float64)
        whole = np.bool_ if value.dtype == torch.bool else np.int64
        kind = np.float64 if value.dtype.is_floating_point else whole
        return numbers.astype(kind).reshape(value.entries.shape)

    def check_own(self, value: Symbolic) -> None:
        """Refuse a symbolic tensor of another trace."""
        if value.tracer is not self:
            raise self.refuse(_KEPT, _FORGET)

    def checked(self, entries: np.ndarray, dtype: torch.dtype) -> np.ndarray:
        """``entries`` as a tensor of ``dtype`` holds them.

        The kernel computes in the state's type. What differs between paths and would be computed in
        another one is refused; literals are rounded to it. Times and parameters of another type
        are taken in the state's: they differ by that type's rounding.
        """
        if dtype == self.dtype or not dtype.is_floating_point:
            return entries
        entries = self.rounded(entries, dtype)
        if any(n.level == PATH for n in entries.flat):
            self.check_exact(entries, f"a {_short(dtype)} tensor", dtype)
        return entries

    def rounded(self, entries: np.ndarray, dtype: torch.dtype) -> np.ndarray:
        """``entries`` with literals rounded to a type that is not the state's."""
        if dtype == self.dtype or not dtype.is_floating_point:
            return entries
        rounded = entries.copy()
        for where, n in np.ndenumerate(entries):
            if n.op == "literal" and not n.boolean:
                rounded[where] = self.graph.literal(torch.tensor(n.value, dtype=dtype).item())
        return entries if (rounded == entries).all() else rounded

    def check_exact(self, entries: np.ndarray, what: str, dtype: torch.dtype) -> None:
        """Refuse ``what`` if some entry is not the same number in every floating-point type."""
        if all(self._exact(n, dtype) for n in entries.flat):
            return
        ours, other = _short(self.dtype), _short(dtype)
        remedy = f"write .to(x.dtype) where {other} enters"
        if dtype in (torch.float32, torch.float64):
            remedy += f", or solve in {other}: x0.to(torch.{other})"
        raise self.refuse(f"{what}, while the state is {ours}", remedy)

    def _exact(self, node: Node, dtype: torch.dtype) -> bool:
        """Whether this is the same in ``dtype`` and in wider types: a choice of its numbers."""
        if node.boolean or node.op == "float":
            return True
        if node.op == "literal":
            v = float(node.value)
            return not math.isfinite(v) or torch.tensor(v, dtype=dtype).item() == v
        if node.op in ("parameter", "path_parameter"):
            return self.parameters[node.value[0]].dtype == dtype
        if node.op in ("where", "neg"):
            return all(self._exact(n, dtype) for n in node.args[node.op == "where" :])
        if node.op == "mul" and any(n.op == "float" for n in node.args):
            return all(self._exact(n, dtype) for n in node.args)
        return node.op in ("add", "sub", "mul") and all(map(_small, node.args))


def _small(node: Node) -> bool:
    """Whether this is a small whole number, such as a count of truths."""
    if node.op == "literal":
        return abs(node.value) <= 64 and float(node.value).is_integer()
    if node.op in ("add", "sub", "mul", "neg"):
        return all(_small(n) for n in node.args)
    return node.op == "float"


def _tensors(arguments: Sequence[Any]) -> list[torch.Tensor]:
    """The tensors among an operation's arguments, and in their lists: torch nests no deeper."""
    found = []
    for v in arguments:
        if isinstance(v, torch.Tensor):
            found.append(v)
        elif isinstance(v, (list, tuple)):
            found.extend(w for w in v if isinstance(w, torch.Tensor))
    return found


def _memory(value: torch.Tensor) -> int:
    """Whose bytes these are."""
    if value.layout != torch.strided:
        raise CannotFuse(f"a sparse tensor{line_of_user()}: write .to_dense()")
    return value.untyped_storage()._cdata


def _place(value: torch.Tensor) -> tuple[object, ...]:
    """Which numbers these are."""
    start = value.data_ptr()
    return _memory(value), start, tuple(value.shape), value.stride(), value.dtype


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _filled(shape: tuple[int, ...], node: Node) -> np.ndarray:
    entries = np.empty(shape, dtype=object)
    entries[...] = node
    return entries
