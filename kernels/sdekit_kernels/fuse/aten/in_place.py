"""Operations that write: the value of their twin that does not, stored into the entries."""

from __future__ import annotations

from typing import Any

import torch

from sdekit_kernels.fuse.aten.align import align
from sdekit_kernels.fuse.aten.entries import as_type, filled
from sdekit_kernels.fuse.aten.indexing import locate
from sdekit_kernels.fuse.tracer import Symbolic, Tracer

__all__ = ["run_in_place"]


def run_in_place(tracer: Tracer, func: Any, name: str, args: Any, kwargs: Any) -> Any:
    """Carry out an operation that writes; its first argument is what it writes to."""
    if kwargs.get("out") is not None or not name.endswith("_") or name.startswith("_"):
        raise tracer.refuse(f"torch.{name} with out=", "use its result instead")
    target = args[0]
    if not isinstance(target, Symbolic):
        raise tracer.refuse(
            f"torch.{name} writes values of a path into a tensor that is not the step's own",
            "make it in the drift with torch.zeros_like(x), or use torch.stack",
        )
    if any(node.op == "mixed" for node in target.entries.flat):
        # What reads one sample is no view of the others' entries: a write would be lost.
        raise tracer.mixes("writing to some samples of the batch")
    twin = name[:-1]
    if torch.Tag.inplace_view in func.tags:
        return _reshape(tracer, func, twin, args, kwargs)
    if twin in ("copy", "fill"):
        value = align(tracer, target.shape, target.axis, [args[1]])[0]
    elif twin == "zero":
        value = filled(target.entries.shape, tracer.graph.literal(0.0))
    elif twin == "index_put":
        return _index_put(tracer, target, *args[1:], **kwargs)
    else:
        packet = getattr(torch.ops.aten, twin, None)
        if packet is None:
            raise tracer.refuse(f"torch.{name} in place", "write it out of place")
        with tracer:
            made = packet(*args, **kwargs)
        if made.shape != target.shape:
            raise tracer.refuse(f"torch.{name} in place", "write it out of place")
        value = align(tracer, target.shape, target.axis, [made])[0]
    _store(tracer, name, target, ..., value)
    return target


def _reshape(tracer: Tracer, func: Any, twin: str, args: Any, kwargs: Any) -> Any:
    """Operations such as ``squeeze_``, which change the shape of what they are given."""
    with tracer:
        made = getattr(torch.ops.aten, twin)(*args, **kwargs)
    with torch._C._DisableTorchDispatch():
        func(*args, **kwargs)
    args[0].entries, args[0].axis = made.entries, made.axis
    return args[0]


def _store(tracer: Tracer, name: str, target: Symbolic, where: Any, value: Any) -> None:
    if not target.entries.flags.writeable:
        raise tracer.refuse(
            f"torch.{name} changes the state, or a broadcast view, in place",
            "write x = x + ... instead of x += ..., and .clone() what is expanded",
        )
    value = as_type(tracer, value, target.dtype)
    target.entries[where] = tracer.checked(value, target.dtype)


def _index_put(
    tracer: Tracer, target: Symbolic, indices: Any, values: Any, accumulate: bool = False
) -> Symbolic:
    mask = indices[0] if len(indices) == 1 else None
    if isinstance(mask, Symbolic) and mask.shape == target.shape and values.numel() == 1:
        with tracer:  # x[x > 1] = 1
            made = torch.where(mask, values.reshape(()).to(target.dtype), target)
        value = align(tracer, target.shape, target.axis, [made])[0]
        _store(tracer, "index_put_", target, ..., value)
        return target
    where, axis, ndim = locate(tracer, target, indices)
    if accumulate:
        raise tracer.refuse("torch.index_put_ with accumulate=True", "add one entry after another")
    place = None if axis is None else axis - (ndim - values.ndim)
    if isinstance(values, Symbolic) and values.axis not in (None, place):
        raise tracer.mixes("an assignment by index that sets samples against each other")
    value = tracer.symbolic(values, tracer.batch_place(values, ndim, axis))
    _store(tracer, "index_put_", target, where, value.entries)
    return target
