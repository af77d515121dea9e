"""What makes a training the one it is, in plain values that are the same in every run."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import math
import os
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from types import CodeType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sdekit.likelihood import DataTransform
from sdekit.sde import AffineSDE
from sdekit.train.checkpoint import transform_to_dict
from sdekit.train.spec import network_to_dict, sde_to_dict

__all__ = ["describe", "describe_network", "describe_sde"]


def describe_network(net: nn.Module) -> dict[str, Any]:
    """The network as plain values; one of the user's own by its class and its weights' shapes."""
    try:
        return network_to_dict(net)
    except TypeError:
        shapes = {name: list(p.shape) for name, p in net.named_parameters()}
        return {"name": type(net).__qualname__, "weights": shapes}


def describe_sde(sde: AffineSDE) -> dict[str, Any]:
    """The equation as plain values; one of the user's own by its class and its attributes."""
    try:
        return sde_to_dict(sde)
    except TypeError:
        return _object(sde, ())


def describe(value: Any) -> Any:
    """A function, an option: in plain values that are the same in every run.

    A function of this library is its name; another one its name, a hash of its code, and the values
    that it has bound; a tensor its shape, type and a hash; an object its class and all its
    attributes, whatever their names. What a function reads from its module is not seen.
    """
    return _describe(value, ())


def _describe(value: Any, outer: tuple[int, ...]) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if id(value) in outer:
        return {"name": type(value).__qualname__, "again": len(outer) - outer.index(id(value))}
    outer = (*outer, id(value))
    if isinstance(value, Tensor | np.ndarray):
        return _tensor(torch.as_tensor(value))
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, functools.partial):
        options = {k: _describe(v, outer) for k, v in sorted(value.keywords.items())}
        first = {"args": _describe(value.args, outer)} if value.args else {}
        return {"name": _describe(value.func, outer), **first, **options}
    if isinstance(value, DataTransform):
        return transform_to_dict(value)
    if isinstance(value, MethodType):
        return {"name": value.__qualname__, "self": _describe(value.__self__, outer)}
    if isinstance(value, FunctionType):
        return _function(value, outer)
    if isinstance(value, Mapping):
        return {str(k): _describe(v, outer) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_describe(v, outer) for v in value]
    if isinstance(value, AbstractSet):
        return sorted((_describe(v, outer) for v in value), key=json.dumps)
    if hasattr(value, "__qualname__"):
        return value.__qualname__
    return _object(value, outer)


def _function(value: FunctionType, outer: tuple[int, ...]) -> Any:
    """A function by its name; one of the user's also by its code, defaults and bound values."""
    if value.__module__.split(".")[0] == "sdekit" and "<" not in value.__qualname__:
        return value.__qualname__
    bound = inspect.getclosurevars(value).nonlocals
    return {
        "name": value.__qualname__,
        "code": hashlib.sha256(_code(value.__code__).encode()).hexdigest()[:16],
        "bound": _describe(bound, outer),
        "defaults": _describe([value.__defaults__, value.__kwdefaults__], outer),
    }


def _code(code: CodeType) -> str:
    """What a function does, without file and lines."""
    constants = [_constant(c) for c in code.co_consts]
    return repr((code.co_code, constants, code.co_names, code.co_varnames, code.co_freevars))


def _constant(value: Any) -> str:
    if isinstance(value, CodeType):
        return _code(value)
    # The order of a set of strings is another in each process.
    return repr(sorted(map(repr, value))) if isinstance(value, frozenset) else repr(value)


def _tensor(value: Tensor) -> dict[str, Any]:
    """Shape, type and a hash; float64 to the bits of float32.

    The last bits of what was computed, the nodes of a law of times, are another on another machine.
    """
    kept = value.detach().cpu()
    kept = kept.to(torch.float32) if kept.dtype == torch.float64 else kept
    raw = kept.contiguous().flatten().view(torch.uint8).numpy().tobytes()
    digest = hashlib.sha256(raw).hexdigest()[:16]
    return {"tensor": list(value.shape), "dtype": str(value.dtype), "sha256": digest}


def _object(value: Any, outer: tuple[int, ...]) -> Any:
    """An object by its class and its attributes, those in slots among them."""
    name = type(value).__qualname__
    if isinstance(value, nn.Module):
        own = {k: v for k, v in vars(value).items() if not k.startswith("_") and k != "training"}
        weights = {k: _tensor(v) for k, v in value.state_dict().items()}
        return {"name": name, **_attributes(own, outer), "weights": weights}
    if is_dataclass(value):
        plain = {f.name: getattr(value, f.name) for f in fields(value)}
        if all(v is None or isinstance(v, bool | int | float | str) for v in plain.values()):
            return repr(value)
    own = dict(getattr(value, "__dict__", {}))
    for kind in type(value).__mro__:
        slots = vars(kind).get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            hidden = f"_{kind.__name__}{slot}" if slot.startswith("__") else slot
            if slot not in ("__dict__", "__weakref__") and hasattr(value, hidden):
                own[hidden] = getattr(value, hidden)
    # What was computed once and kept says nothing that the others do not.
    cached = {
        k for k in own if isinstance(getattr(type(value), k, None), functools.cached_property)
    }
    if not own and " at 0x" not in repr(value):
        return repr(value)
    return {"name": name, **_attributes({k: own[k] for k in own.keys() - cached}, outer)}


def _attributes(own: Mapping[str, Any], outer: tuple[int, ...]) -> dict[str, Any]:
    return {k: _describe(own[k], outer) for k in sorted(own) if k != "name"} | (
        {"name=": _describe(own["name"], outer)} if "name" in own else {}
    )
