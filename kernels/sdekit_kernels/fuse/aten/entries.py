"""What handlers share: arrays of expressions, types, and axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from sdekit_kernels.fuse.graph import Graph, Node
from sdekit_kernels.fuse.tracer import Symbolic, Tracer

__all__ = [
    "apply",
    "as_type",
    "dims_of",
    "filled",
    "floating",
    "left",
    "map_op",
    "new",
    "only",
    "own",
    "promoted",
    "truth",
]


def filled(shape: Sequence[int], node: Node) -> np.ndarray:
    """Entries of this shape, all of them ``node``."""
    entries = np.empty(tuple(shape), dtype=object)
    entries[...] = node
    return entries


def apply(build: Callable[..., Node], *entries: np.ndarray) -> np.ndarray:
    """``build`` on corresponding entries."""
    result = np.frompyfunc(build, len(entries), 1)(*entries)
    return result if isinstance(result, np.ndarray) else filled((), result)


def map_op(tracer: Tracer, op: str, *entries: np.ndarray) -> np.ndarray:
    """The graph's operation ``op`` on corresponding entries."""
    graph = tracer.graph
    return apply(lambda *nodes: graph(op, *nodes), *entries)


def truth(graph: Graph, x: Node) -> Node:
    """Whether a number is not zero."""
    return x if x.boolean else graph("ne", x, graph.literal(0.0))


def as_type(tracer: Tracer, entries: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """Entries as a tensor of ``dtype`` holds them: truths as 0.0 and 1.0, or numbers as truths."""
    graph = tracer.graph
    if dtype == torch.bool:
        if any(not n.boolean for n in entries.flat):
            return apply(lambda n: truth(graph, n), entries)
        return entries
    if any(n.boolean for n in entries.flat):
        entries = map_op(tracer, "float", entries)
    return tracer.rounded(entries, dtype)


def new(tracer: Tracer, dtype: torch.dtype, axis: int | None, entries: np.ndarray) -> Symbolic:
    """A symbolic tensor of these entries, converted to ``dtype``."""
    return tracer.wrap(as_type(tracer, entries, dtype), axis, dtype)


def promoted(*values: Any) -> torch.dtype:
    """The type that torch promotes these tensors and numbers to."""
    types = {v.dtype for v in values if isinstance(v, torch.Tensor)}
    if len(types) == 1 and not any(isinstance(v, complex) for v in values):
        (only_type,) = types
        if only_type.is_floating_point:
            return only_type
    with torch._C._DisableTorchDispatch():
        result: Any = values[0]
        for v in values[1:]:
            if isinstance(v, torch.Tensor) or isinstance(result, torch.Tensor):
                both = torch.result_type(_dummy(result), _dummy(v))
                dims = max(v.ndim if isinstance(v, torch.Tensor) else 0 for v in (result, v))
                result = torch.empty((1,) * min(dims, 1), dtype=both)
        if isinstance(result, torch.Tensor):
            return result.dtype
        return torch.bool if isinstance(result, bool) else torch.get_default_dtype()


def _dummy(value: Any) -> Any:
    """A tensor of one number that is promoted as this one is."""
    if isinstance(value, torch.Tensor):
        return torch.empty((1,) * min(value.ndim, 1), dtype=value.dtype)
    return value


def floating(dtype: torch.dtype) -> torch.dtype:
    """The type of a quotient or of a sine of numbers of this type."""
    return dtype if dtype.is_floating_point else torch.get_default_dtype()


def dims_of(dim: Any, ndim: int) -> list[int]:
    """Axes counted from the front; None or an empty list stands for all."""
    if dim is None or (isinstance(dim, (list, tuple)) and len(dim) == 0):
        return list(range(ndim))
    return [d % max(ndim, 1) for d in (dim if isinstance(dim, (list, tuple)) else [dim])]


def own(tracer: Tracer, x: Symbolic, dims: Sequence[int], what: str) -> None:
    """Refuse ``what`` where one of the axes ``dims`` is the batch."""
    if x.axis is not None and x.axis in dims:
        raise tracer.mixes(f"{what} over the samples of the batch")


def left(axis: int | None, dims: Sequence[int], keepdim: bool) -> int | None:
    """The batch axis once ``dims`` are reduced."""
    return axis if axis is None or keepdim else axis - sum(d < axis for d in dims)


def only(tracer: Tracer, name: str, given: dict[str, Any], *harmless: str) -> None:
    """Refuse arguments that a handler does not know."""
    for key, value in given.items():
        if value is not None and key not in harmless:
            raise tracer.refuse(f"torch.{name} with {key}={value}", f"leave {key}= away")
