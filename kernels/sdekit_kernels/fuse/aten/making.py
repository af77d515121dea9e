"""New tensors of one number, copies, and conversions."""

from __future__ import annotations

from typing import Any, Final

import torch

from sdekit_kernels.fuse.aten.entries import as_type, filled, new
from sdekit_kernels.fuse.aten.table import TABLE, Handler, handles
from sdekit_kernels.fuse.tracer import Symbolic, Tracer

__all__ = ["fill", "makes_floats"]

_FACTORIES: Final = {"zeros": 0.0, "ones": 1.0, "empty": 0.0, "_efficientzerotensor": 0.0}


def makes_floats(tracer: Tracer, name: str, kwargs: Any) -> bool:
    """Whether this makes a new tensor of one number, for values of a path, where the state is."""
    device = kwargs.get("device")
    if device is not None and torch.device(device).type != tracer.device.type:
        return False
    dtype = kwargs.get("dtype") or torch.get_default_dtype()
    if name not in _FACTORIES and name != "full":
        return False
    # The tangent of a whole number: a real one of these sends its products to the meta device.
    if not dtype.is_floating_point and name != "_efficientzerotensor":
        return False
    return kwargs.get("out") is None


def fill(tracer: Tracer, name: str, args: Any, kwargs: Any) -> Symbolic:
    """zeros, ones, full, empty of a shape that the equation worked out itself."""
    shape = tuple(args[0])
    value = _FACTORIES[name] if name in _FACTORIES else args[1]
    dtype = kwargs.get("dtype") or torch.get_default_dtype()
    return _sized(float(value))(tracer, None, shape, dtype=dtype)


def _same_device(tracer: Tracer, device: Any) -> None:
    if device is not None and torch.device(device).type != tracer.device.type:
        raise tracer.refuse(f"a tensor on {device}", f"stay on {tracer.device}, x.device")


def _number(tracer: Tracer, value: Any, dtype: torch.dtype) -> Any:
    return tracer.graph.literal(bool(value) if dtype == torch.bool else float(value))


def _like(value: float | None) -> Handler:
    def handler(
        tracer: Tracer, x: Any, *args: Any, dtype: Any = None, device: Any = None, **_: Any
    ) -> Symbolic:
        _same_device(tracer, device)
        dtype = dtype or x.dtype
        number = _number(tracer, args[0] if value is None else value, dtype)
        return new(tracer, dtype, x.axis, filled(x.entries.shape, number))

    return handler


def _sized(value: float | None) -> Handler:
    def handler(
        tracer: Tracer, x: Any, size: Any, *args: Any, dtype: Any = None, device: Any = None,
        **_: Any,
    ) -> Symbolic:  # fmt: skip
        _same_device(tracer, device)
        dtype = dtype or x.dtype
        number = _number(tracer, args[0] if value is None else value, dtype)
        axis = tracer.guess_axis(size)
        sizes = [1 if i == axis else n for i, n in enumerate(size)]
        return new(tracer, dtype, axis, filled(sizes, number))

    return handler


for _name, _value in (("zeros", 0.0), ("ones", 1.0), ("empty", 0.0), ("full", None)):
    TABLE[f"{_name}_like"] = _like(_value)
    TABLE[f"new_{_name}"] = _sized(_value)


@handles("_to_copy")
def _to_copy(tracer: Tracer, x: Any, dtype: Any = None, device: Any = None, **_: Any) -> Symbolic:
    dtype = dtype or x.dtype
    _same_device(tracer, device)
    whole = not dtype.is_floating_point and dtype != torch.bool
    if dtype.is_complex:
        raise tracer.refuse("complex numbers", "write the real and the imaginary part")
    if whole and x.dtype.is_floating_point:
        raise tracer.refuse(
            f"a conversion to {dtype}",
            "use torch.floor or torch.trunc, and torch.where for an index that changes",
        )
    if dtype.is_floating_point and dtype not in (tracer.dtype, x.dtype):
        tracer.check_exact(x.entries, f"a conversion to {dtype}", dtype)
    return tracer.wrap(as_type(tracer, x.entries, dtype).copy(), x.axis, dtype)


@handles("detach", "alias", "lift_fresh")
def _alias(tracer: Tracer, x: Any) -> Symbolic:
    return tracer.wrap(x.entries[...], x.axis, x.dtype)


@handles("clone", "lift_fresh_copy")
def _clone(tracer: Tracer, x: Any, **_: Any) -> Symbolic:
    return tracer.wrap(x.entries.copy(), x.axis, x.dtype)


@handles("is_same_size")
def _is_same_size(tracer: Tracer, a: Any, b: Any) -> bool:
    return bool(a.shape == b.shape)


@handles("_has_same_storage_numel")
def _has_same_storage(tracer: Tracer, a: Any, b: Any) -> bool:
    return bool(a.numel() == b.numel())
