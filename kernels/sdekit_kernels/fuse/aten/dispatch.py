"""Carry out one operation of a trace."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final, NamedTuple

import torch
from torch.utils._pytree import tree_leaves

from sdekit_kernels.fuse.aten.in_place import run_in_place
from sdekit_kernels.fuse.aten.making import fill, makes_floats
from sdekit_kernels.fuse.aten.table import TABLE
from sdekit_kernels.fuse.tracer import Symbolic, Tracer

__all__ = ["run"]

_DECIDES: Final = frozenset(
    {"_local_scalar_dense", "is_nonzero", "item", "equal", "nonzero", "allclose"}
)
"""Operations that turn a tensor into a value, or a shape, that Python sees."""

_SELECTS: Final = frozenset(
    {"masked_select", "masked_scatter", "take", "unique", "_unique2", "unique_dim"}
)
_SORTS: Final = frozenset({"sort", "topk", "argsort", "kthvalue", "median", "mode", "msort"})
_COMPLEX: Final = frozenset({"complex", "polar", "view_as_complex", "linalg_eig"})
_WHERE: Final = "use torch.where, which keeps the shape"


class _Facts(NamedTuple):
    """What torch's schema says of an operation."""

    name: str
    random: bool
    mutable: bool


@cache
def _facts(func: Any) -> _Facts:
    schema = func._schema
    random = torch.Tag.nondeterministic_seeded in func.tags
    return _Facts(schema.name.removeprefix("aten::"), random, schema.is_mutable)


def run(tracer: Tracer, func: Any, args: Any, kwargs: Any, tensors: Sequence[torch.Tensor]) -> Any:
    """The result of ``func``; symbolic where an argument is, real where all of them are.

    tensors: those among the arguments.
    """
    name, random, mutable = _facts(func)
    if random:
        raise tracer.refuse(
            f"torch.{name}, a source of random numbers of its own",
            "draw nothing in the equation, whose noise enters through the diffusion; a network "
            "with dropout needs .eval()",
        )
    symbolic = False
    for v in tensors:
        if isinstance(v, Symbolic):
            symbolic = True
            tracer.check_own(v)
    if symbolic and not mutable:
        return _run_symbolic(tracer, func, name, args, kwargs)
    if symbolic:
        return run_in_place(tracer, func, name, args, kwargs)
    if makes_floats(tracer, name, kwargs):
        return fill(tracer, name, args, kwargs)
    if mutable:
        tracer.check_may_change(name, _written(func, args, kwargs))
    if name == "_to_copy" and tensors:
        return tracer.converted(args[0], kwargs, func)
    return tracer.made(func(*args, **kwargs), tensors)


def _written(func: Any, args: Any, kwargs: Any) -> list[torch.Tensor]:
    """The arguments that an operation writes to."""
    schema = func._schema.arguments
    given = [
        args[j] if j < len(args) else kwargs.get(a.name)
        for j, a in enumerate(schema)
        if a.alias_info is not None and a.alias_info.is_write
    ]
    return [v for v in tree_leaves(given) if isinstance(v, torch.Tensor)]


def _run_symbolic(tracer: Tracer, func: Any, name: str, args: Any, kwargs: Any) -> Any:
    if name in _DECIDES:
        known = tracer.known(args[0])
        if name == "_local_scalar_dense" and known is not None:
            return known.item()
        raise tracer.refuse(
            "a value that decides what Python does (if, while, float(), .item())",
            "use torch.where, torch.minimum, torch.sin and the like on the tensors themselves",
        )
    if name in _SELECTS or (
        name == "index"
        and any(isinstance(v, Symbolic) and tracer.known(v) is None for v in tree_leaves(args[1]))
    ):
        raise tracer.refuse("an index or mask that depends on the path", _WHERE)
    if name in _SORTS:
        raise tracer.refuse(
            f"torch.{name}, which moves numbers about by their values",
            "use torch.amax, torch.amin or torch.where",
        )
    if name.startswith("_fft") or name in _COMPLEX:
        raise tracer.refuse("complex numbers", "write the real and the imaginary part")
    handler = TABLE.get(name)
    if handler is None:
        return _decompose(tracer, func, name, args, kwargs)
    return handler(tracer, *args, **kwargs)


def _decompose(tracer: Tracer, func: Any, name: str, args: Any, kwargs: Any) -> Any:
    rule = _decompositions().get(func)
    if rule is None and torch._C._dispatch_has_kernel_for_dispatch_key(
        func.name(), "CompositeImplicitAutograd"
    ):
        rule = func.decompose
    if rule is None:
        raise tracer.refuse(
            f"torch.{name}, which has no form for a kernel",
            "write it with arithmetic, exp, log, sqrt, where, sums and the like",
        )
    with tracer:
        return rule(*args, **kwargs)


_RULES: Any = None


def _decompositions() -> Any:
    """Torch's rules, loaded when the first operation without a row is met."""
    from torch._decomp import core_aten_decompositions

    global _RULES
    if _RULES is None:
        _RULES = dict(core_aten_decompositions().items())
    return _RULES
