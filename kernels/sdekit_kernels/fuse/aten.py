"""What each torch operation means for the components of symbolic tensors.

``run`` is called for every operation of a trace. A handler from the table says what happens to the
entries; the shape of a result is that of its entries, its type follows torch's promotion. An
operation that has no row is decomposed by torch into core operations that do. (Asking torch for
shapes, on tensors without data, would load its compiler: a second and a half.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import torch
from torch.utils._pytree import tree_leaves

from sdekit_kernels.fuse.graph import Node
from sdekit_kernels.fuse.tracer import Symbolic, Tracer

__all__ = ["run"]

Handler = Callable[..., Any]
_TABLE: Final[dict[str, Handler]] = {}
_FACTORIES: Final = {"zeros": 0.0, "ones": 1.0, "empty": 0.0, "_efficientzerotensor": 0.0}


def run(tracer: Tracer, func: Any, args: Any, kwargs: Any) -> Any:
    """Carry out one operation of a trace."""
    name = func._schema.name.removeprefix("aten::")
    leaves = tree_leaves((args, kwargs))
    if torch.Tag.nondeterministic_seeded in func.tags:
        raise tracer.refuse(
            f"torch.{name}, a source of random numbers of its own",
            "draw nothing in the equation: its noise enters through the diffusion",
        )
    if any(isinstance(v, Symbolic) for v in leaves):
        return _run_symbolic(tracer, func, name, args, kwargs)
    device = kwargs.get("device")
    here = device is None or torch.device(device).type == tracer.device.type
    if here and _makes_floats(name, args, kwargs):
        return _fill(tracer, func, name, args, kwargs)
    if func._schema.is_mutable:
        target = args[0]
        if not tracer.may_change(target):
            raise tracer.refuse(
                f"torch.{name} changes a tensor that outlives the step",
                "keep no state in the equation",
            )
    return tracer.made(func(*args, **kwargs))


def _run_symbolic(tracer: Tracer, func: Any, name: str, args: Any, kwargs: Any) -> Any:
    if func._schema.is_mutable:
        return _in_place(tracer, func, name, args, kwargs)
    if name in ("_local_scalar_dense", "is_nonzero", "item", "equal", "nonzero", "allclose"):
        raise tracer.refuse(
            "a value that decides what Python does (if, while, float(), .item())",
            "use torch.where, torch.minimum, torch.sin and the like on the tensors themselves",
        )
    if name == "index" and any(isinstance(v, Symbolic) for v in tree_leaves(args[1])):
        raise tracer.refuse(
            "an index or mask that depends on the path", "use torch.where, which keeps the shape"
        )
    handler = _TABLE.get(name)
    if handler is None:
        return _decompose(tracer, func, name, args, kwargs)
    return handler(tracer, *args, **kwargs)


def _decompose(tracer: Tracer, func: Any, name: str, args: Any, kwargs: Any) -> Any:
    rule = _decompositions().get(func)
    if rule is None:
        raise tracer.refuse(
            f"torch.{name}, which has no form for a kernel",
            "write it with arithmetic, exp, log, sqrt, where, sums and the like",
        )
    with tracer:
        return rule(*args, **kwargs)


def _decompositions() -> Any:
    from torch._decomp import core_aten_decompositions, get_decompositions

    global _RULES
    if _RULES is None:
        aten = torch.ops.aten
        _RULES = dict(core_aten_decompositions().items())
        _RULES.update(get_decompositions([aten.addcmul, aten.addcdiv, aten.lerp, aten.var]))
    return _RULES


_RULES: Any = None


def _in_place(tracer: Tracer, func: Any, name: str, args: Any, kwargs: Any) -> Any:
    """An operation that writes: the value of its twin that does not, stored into the entries."""
    target = args[0]
    if kwargs.get("out") is not None or not name.endswith("_") or name.startswith("_"):
        raise tracer.refuse(f"torch.{name} with out=", "use its result instead")
    if not isinstance(target, Symbolic):
        raise tracer.refuse(
            f"torch.{name} writes values of a path into a tensor that is not the step's own",
            "make it in the drift with torch.zeros_like(x), or use torch.stack",
        )
    twin = name[:-1]
    if twin == "copy":
        value = _align(tracer, target.shape, target.axis, [args[1]])[0]
        value = _as_type(tracer, value, target.dtype)
    elif twin == "zero":
        value = _full(target.entries.shape, tracer.graph.literal(0.0))
    elif twin == "fill":
        value = _align(tracer, target.shape, target.axis, [args[1]])[0]
    elif twin == "index_put":
        return _index_put(tracer, target, *args[1:], **kwargs)
    else:
        packet = getattr(torch.ops.aten, twin, None)
        if packet is None:
            raise tracer.refuse(f"torch.{name} in place", "write it out of place")
        with tracer:
            made = packet(*args, **kwargs)
        if made.shape != target.shape or made.axis != target.axis:
            raise tracer.refuse(f"torch.{name} in place", "write it out of place")
        value = made.entries
    _store(tracer, name, target, ..., value)
    return target


def _store(tracer: Tracer, name: str, target: Symbolic, where: Any, value: Any) -> None:
    if not target.entries.flags.writeable:
        raise tracer.refuse(
            f"torch.{name} changes the state, or a broadcast view, in place",
            "write x = x + ... instead of x += ..., and .clone() what is expanded",
        )
    target.entries[where] = value


def _index_put(
    tracer: Tracer, target: Symbolic, indices: Any, values: Any, accumulate: bool = False
) -> Symbolic:
    where, _ = _index(tracer, target, indices)
    if accumulate or (isinstance(values, Symbolic) and values.axis not in (None, target.axis)):
        raise tracer.refuse("an assignment by index", "use torch.where or torch.stack")
    value = tracer.symbolic(values, tracer.batch_place(values, target.ndim, target.axis))
    _store(tracer, "index_put_", target, where, value.entries)
    return target


# -- helpers ---------------------------------------------------------------------------------------


def _full(shape: Sequence[int], node: Node) -> np.ndarray:
    entries = np.empty(tuple(shape), dtype=object)
    entries[...] = node
    return entries


def _map(tracer: Tracer, op: str, *entries: np.ndarray) -> np.ndarray:
    graph = tracer.graph
    result = np.frompyfunc(lambda *nodes: graph(op, *nodes), len(entries), 1)(*entries)
    return result if isinstance(result, np.ndarray) else _full((), result)


def _result_axis(tracer: Tracer, ndim: int, values: Sequence[Any]) -> int | None:
    """The batch axis of what these tensors broadcast to."""
    axes = {
        v.axis + ndim - v.ndim for v in values if isinstance(v, Symbolic) and v.axis is not None
    }
    if not axes:
        for v in values:
            place = tracer.batch_place(v, ndim, None)
            if place is not None:
                axes.add(place + ndim - v.ndim)
    if len(axes) > 1:
        raise _mixes(tracer, "an operation that sets samples of the batch against each other")
    return axes.pop() if axes else None


def _mixes(tracer: Tracer, what: str) -> Exception:
    return tracer.refuse(
        what, "a path may depend on its own state only: work on the component axes, x[:, ...]"
    )


def _align(
    tracer: Tracer, sizes: Sequence[int], axis: int | None, values: Sequence[Any]
) -> list[np.ndarray]:
    """Entries of each value, broadcast to those of a result of these sizes."""
    shape = tuple(1 if i == axis else n for i, n in enumerate(sizes))
    ndim = len(shape)
    aligned = []
    for v in values:
        s = tracer.symbolic(v, tracer.batch_place(v, ndim, axis))
        if s.axis is not None and s.axis + ndim - s.ndim != axis:
            raise _mixes(tracer, "an operation that sets samples of the batch against each other")
        entries = s.entries
        place = None if axis is None else axis - (ndim - s.ndim)
        if s.axis is None and place is not None and place >= 0 and entries.shape[place] > 1:
            first = np.take(entries, [0], axis=place)
            if not (entries == first).all():
                raise _mixes(tracer, "values that differ between the samples of the batch")
            entries = first
        aligned.append(np.broadcast_to(entries, shape))
    return aligned


def _as_type(tracer: Tracer, entries: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """Booleans as 0.0 and 1.0 where the result is a number."""
    if dtype == torch.bool:
        if any(not n.boolean for n in entries.flat):
            zero = tracer.graph.literal(0.0)
            return _map(tracer, "ne", entries, _full(entries.shape, zero))
        return entries
    return _map(tracer, "float", entries) if any(n.boolean for n in entries.flat) else entries


def _broadcast(tracer: Tracer, values: Sequence[Any]) -> tuple[int | None, list[np.ndarray]]:
    """The batch axis of what these broadcast to, and the entries of each, broadcast."""
    shapes = [tuple(v.shape) if isinstance(v, torch.Tensor) else () for v in values]
    sizes = np.broadcast_shapes(*shapes)
    axis = _result_axis(tracer, len(sizes), values)
    return axis, _align(tracer, sizes, axis, values)


def _common_type(*values: Any) -> torch.dtype:
    """The type that torch promotes these to."""
    result: Any = values[0]
    for v in values[1:]:
        if isinstance(v, torch.Tensor) or isinstance(result, torch.Tensor):
            promoted = torch.result_type(_dummy(result), _dummy(v))
            dims = max(v.ndim if isinstance(v, torch.Tensor) else 0 for v in (result, v))
            result = torch.empty((1,) * min(dims, 1), dtype=promoted)
    if isinstance(result, torch.Tensor):
        return result.dtype
    return torch.bool if isinstance(result, bool) else torch.get_default_dtype()


def _dummy(value: Any) -> Any:
    """A tensor of one number that is promoted as this one is."""
    if isinstance(value, torch.Tensor):
        return torch.empty((1,) * min(value.ndim, 1), dtype=value.dtype)
    return value


def _floating(dtype: torch.dtype) -> torch.dtype:
    return dtype if dtype.is_floating_point else torch.get_default_dtype()


def _new(tracer: Tracer, dtype: torch.dtype, axis: int | None, entries: np.ndarray) -> Symbolic:
    return tracer.wrap(_as_type(tracer, entries, dtype), axis, dtype)


def _dims(dim: Any, ndim: int) -> list[int]:
    if dim is None or (isinstance(dim, (list, tuple)) and len(dim) == 0):
        return list(range(ndim))
    return [d % max(ndim, 1) for d in (dim if isinstance(dim, (list, tuple)) else [dim])]


def _own(tracer: Tracer, x: Symbolic, dims: Sequence[int], what: str) -> None:
    if x.axis is not None and x.axis in dims:
        raise _mixes(tracer, f"{what} over the samples of the batch")


def _left(axis: int | None, dims: Sequence[int], keepdim: bool) -> int | None:
    """The batch axis once ``dims`` are reduced."""
    return axis if axis is None or keepdim else axis - sum(d < axis for d in dims)


def _handles(*names: str) -> Callable[[Handler], Handler]:
    def register(handler: Handler) -> Handler:
        for name in names:
            _TABLE[name] = handler
        return handler

    return register


# -- elementwise -----------------------------------------------------------------------------------


def _elementwise(name: str, build: Callable[..., Node], kind: str = "number") -> None:
    """kind: "number" keeps the promoted type, "real" makes it floating, "test" takes numbers and
    gives booleans, "logic" takes anything and gives booleans.
    """

    def handler(tracer: Tracer, *values: Any, **_: Any) -> Symbolic:
        with torch._C._DisableTorchDispatch():
            dtype = _common_type(*values)
        dtype = torch.bool if kind in ("test", "logic") else dtype
        axis, aligned = _broadcast(tracer, values)
        if kind != "logic":
            aligned = [_as_type(tracer, a, torch.float64) for a in aligned]
        graph = tracer.graph
        made = np.frompyfunc(lambda *n: build(graph, *n), len(aligned), 1)(*aligned)
        made = made if isinstance(made, np.ndarray) else _full((), made)
        return _new(tracer, _floating(dtype) if kind == "real" else dtype, axis, made)

    _TABLE[name] = handler


def _op(op: str) -> Callable[..., Node]:
    return lambda g, *nodes: g(op, *nodes)


def _one(g: Any) -> Node:
    return g.literal(1.0)  # type: ignore[no-any-return]


def _sigmoid(g: Any, x: Node) -> Node:
    return g("div", _one(g), g("add", _one(g), g("exp", g("neg", x))))  # type: ignore[no-any-return]


def _sign(g: Any, x: Node) -> Node:
    zero = g.literal(0.0)
    up = g("float", g("gt", x, zero))
    return g("sub", up, g("float", g("lt", x, zero)))  # type: ignore[no-any-return]


def _remainder(g: Any, a: Node, b: Node) -> Node:
    return g("sub", a, g("mul", b, g("floor", g("div", a, b))))  # type: ignore[no-any-return]


def _fmod(g: Any, a: Node, b: Node) -> Node:
    return g("sub", a, g("mul", b, g("trunc", g("div", a, b))))  # type: ignore[no-any-return]


def _times_log2(op: str) -> Callable[..., Node]:
    return lambda g, x: g(
        "mul", g.literal(1.0 / math.log(2.0 if op == "log2" else 10.0)), g("log", x)
    )


for _name in ("sqrt", "exp", "log", "sin", "cos", "tan", "tanh", "sinh", "cosh", "asin", "acos",
              "atan", "expm1", "log1p", "erf", "erfc", "atan2"):  # fmt: skip
    _elementwise(_name, _op(_name), "real")
for _name in ("floor", "ceil", "round", "trunc", "neg", "abs", "pow"):
    _elementwise(_name, _op(_name))
for _name in ("lt", "le", "gt", "ge", "eq", "ne", "isnan"):
    _elementwise(_name, _op(_name), "test")
for _name, _node in (("logical_and", "and"), ("logical_or", "or"), ("logical_xor", "xor")):
    _elementwise(_name, lambda g, a, b, _n=_node: g(_n, _truth(g, a), _truth(g, b)), "logic")
_elementwise("logical_not", lambda g, a: g("not", _truth(g, a)), "logic")
for _name, _node in (("bitwise_and", "and"), ("bitwise_or", "or"), ("bitwise_xor", "xor")):
    _elementwise(_name, _op(_node), "logic")
_elementwise("bitwise_not", _op("not"), "logic")
_elementwise("rsqrt", lambda g, x: g("div", _one(g), g("sqrt", x)), "real")
_elementwise("reciprocal", lambda g, x: g("div", _one(g), x), "real")
_elementwise("square", lambda g, x: g("mul", x, x))
_elementwise("sigmoid", _sigmoid, "real")
_elementwise("silu", lambda g, x: g("mul", x, _sigmoid(g, x)), "real")
_elementwise("relu", lambda g, x: g("max", x, g.literal(0.0)))
_elementwise("sign", _sign)
_elementwise("sgn", _sign)
_elementwise("frac", lambda g, x: g("sub", x, g("trunc", x)))
_elementwise("exp2", lambda g, x: g("exp", g("mul", g.literal(math.log(2.0)), x)), "real")
_elementwise("log2", _times_log2("log2"), "real")
_elementwise("log10", _times_log2("log10"), "real")
_elementwise("maximum", _op("max"))
_elementwise("minimum", _op("min"))
_elementwise("remainder", _remainder)
_elementwise("fmod", _fmod)
_elementwise("isinf", lambda g, x: g("eq", g("abs", x), g.literal(math.inf)), "test")


def _truth(g: Any, x: Node) -> Node:
    return x if x.boolean else g("ne", x, g.literal(0.0))


def _promoted(*values: Any) -> torch.dtype:
    with torch._C._DisableTorchDispatch():
        return _common_type(*values)


@_handles("mul")
def _mul(tracer: Tracer, a: Any, b: Any) -> Symbolic:
    dtype = _promoted(a, b)
    axis, (x, y) = _broadcast(tracer, (a, b))
    if dtype == torch.bool:
        return _new(tracer, dtype, axis, _map(tracer, "and", x, y))
    x, y = (_as_type(tracer, v, dtype) for v in (x, y))
    return _new(tracer, dtype, axis, _map(tracer, "mul", x, y))


def _linear(op: str, swapped: bool = False) -> Handler:
    def handler(tracer: Tracer, a: Any, b: Any, alpha: Any = 1) -> Symbolic:
        axis, aligned = _broadcast(tracer, (a, b))
        x, y = (_as_type(tracer, v, torch.float64) for v in aligned)
        scaled = x if swapped else y
        if alpha != 1:
            factor = _full(scaled.shape, tracer.graph.literal(alpha))
            scaled = _map(tracer, "mul", factor, scaled)
        pair = (y, scaled) if swapped else (x, scaled)
        return _new(tracer, _promoted(a, b), axis, _map(tracer, op, *pair))

    return handler


_TABLE["add"], _TABLE["sub"], _TABLE["rsub"] = _linear("add"), _linear("sub"), _linear("sub", True)


@_handles("div")
def _div(tracer: Tracer, a: Any, b: Any, rounding_mode: str | None = None) -> Symbolic:
    axis, aligned = _broadcast(tracer, (a, b))
    made = _map(tracer, "div", *(_as_type(tracer, v, torch.float64) for v in aligned))
    if rounding_mode is not None:
        made = _map(tracer, rounding_mode, made)
    return _new(tracer, _floating(_promoted(a, b)), axis, made)


@_handles("clamp", "clamp_min", "hardtanh")
def _clamp(tracer: Tracer, x: Any, low: Any = None, high: Any = None, **given: Any) -> Symbolic:
    low, high = given.get("min", low), given.get("max", high)
    values = [v for v in (x, low, high) if v is not None]
    axis, aligned = _broadcast(tracer, values)
    made, *limits = aligned
    if low is not None:
        made = _map(tracer, "max", made, limits.pop(0))
    if high is not None:
        made = _map(tracer, "min", made, limits.pop(0))
    return _new(tracer, _promoted(*values), axis, made)


@_handles("clamp_max")
def _clamp_max(tracer: Tracer, x: Any, high: Any) -> Symbolic:
    return _clamp(tracer, x, None, high)


@_handles("where")
def _where(tracer: Tracer, condition: Any, a: Any, b: Any) -> Symbolic:
    dtype = _promoted(a, b)
    axis, (c, x, y) = _broadcast(tracer, (condition, a, b))
    c = _as_type(tracer, c, torch.bool)
    if dtype == torch.bool:
        graph = tracer.graph
        both = np.frompyfunc(
            lambda c, x, y: graph("or", graph("and", c, x), graph("and", graph("not", c), y)), 3, 1
        )(c, x, y)
        return _new(tracer, dtype, axis, both)
    x, y = (_as_type(tracer, v, dtype) for v in (x, y))
    return _new(tracer, dtype, axis, _map(tracer, "where", c, x, y))


@_handles("softplus")
def _softplus(tracer: Tracer, x: Any, beta: float = 1, threshold: float = 20) -> Symbolic:
    graph = tracer.graph
    b, limit = graph.literal(beta), graph.literal(threshold)

    def one(v: Node) -> Node:
        scaled = graph("mul", b, v)
        soft = graph("div", graph("log1p", graph("exp", scaled)), b)
        return graph("where", graph("gt", scaled, limit), v, soft)

    made = np.frompyfunc(one, 1, 1)(x.entries)
    made = made if isinstance(made, np.ndarray) else _full((), made)
    return _new(tracer, x.dtype, x.axis, made)


@_handles("_to_copy")
def _to_copy(tracer: Tracer, x: Any, dtype: Any = None, device: Any = None, **_: Any) -> Symbolic:
    dtype = dtype or x.dtype
    if device is not None and torch.device(device).type != tracer.device.type:
        raise tracer.refuse(f"a copy to {device}", f"stay on {tracer.device}")
    other = dtype.is_floating_point and dtype != tracer.dtype
    if other and tracer.depends_on_path(x):
        raise tracer.refuse(
            f"a conversion of the state to {dtype}, while it is {tracer.dtype}",
            f"solve in {dtype} throughout (x0.to({dtype})), or leave the conversion away",
        )
    if not dtype.is_floating_point and dtype != torch.bool and x.dtype.is_floating_point:
        raise tracer.refuse(f"a conversion to {dtype}", "use torch.floor or torch.trunc")
    return tracer.wrap(_as_type(tracer, x.entries, dtype).copy(), x.axis, dtype)


@_handles("detach", "alias", "lift_fresh")
def _alias(tracer: Tracer, x: Any) -> Symbolic:
    return tracer.wrap(x.entries[...], x.axis, x.dtype)


@_handles("clone", "lift_fresh_copy")
def _clone(tracer: Tracer, x: Any, **_: Any) -> Symbolic:
    return tracer.wrap(x.entries.copy(), x.axis, x.dtype)


# -- making ----------------------------------------------------------------------------------------


def _makes_floats(name: str, args: Any, kwargs: Any) -> bool:
    """Whether this makes a new tensor of one floating-point number."""
    dtype = kwargs.get("dtype") or torch.get_default_dtype()
    if (name not in _FACTORIES and name != "full") or not dtype.is_floating_point:
        return False
    return kwargs.get("out") is None


def _fill(tracer: Tracer, func: Any, name: str, args: Any, kwargs: Any) -> Symbolic:
    """zeros, ones, full, empty of a shape that the equation worked out itself."""
    shape = tuple(args[0])
    value = _FACTORIES[name] if name in _FACTORIES else args[1]
    dtype = kwargs.get("dtype") or torch.get_default_dtype()
    return _sized(float(value))(tracer, None, shape, dtype=dtype)


def _like(value: float | None) -> Handler:
    def handler(tracer: Tracer, x: Any, *args: Any, dtype: Any = None, **_: Any) -> Symbolic:
        number = tracer.graph.literal(float(args[0] if value is None else value))
        return _new(tracer, dtype or x.dtype, x.axis, _full(x.entries.shape, number))

    return handler


def _sized(value: float | None) -> Handler:
    def handler(
        tracer: Tracer, x: Any, size: Any, *args: Any, dtype: Any = None, **_: Any
    ) -> Symbolic:
        number = tracer.graph.literal(float(args[0] if value is None else value))
        axis = tracer.guess_axis(size)
        sizes = [1 if i == axis else n for i, n in enumerate(size)]
        return _new(tracer, dtype or x.dtype, axis, _full(sizes, number))

    return handler


for _name, _number in (("zeros", 0.0), ("ones", 1.0), ("empty", 0.0), ("full", None)):
    _TABLE[f"{_name}_like"] = _like(_number)
    _TABLE[f"new_{_name}"] = _sized(_number)


# -- views -----------------------------------------------------------------------------------------


@_handles("view", "reshape", "_unsafe_view")
def _view(tracer: Tracer, x: Any, size: Any, *_: Any) -> Symbolic:
    axis = None
    known = math.prod(n for n in size if n >= 0)
    sizes = [n if n >= 0 else x.numel() // max(known, 1) for n in size]
    if x.axis is not None:
        before = math.prod(x.shape[: x.axis])
        places = [
            i for i, n in enumerate(sizes) if n == tracer.batch and math.prod(sizes[:i]) == before
        ]
        if not places:
            raise tracer.refuse(
                f"a reshape from {tuple(x.shape)} to {tuple(sizes)}, which merges the batch axis",
                "keep the batch axis apart",
            )
        axis = x.axis if x.axis in places else places[0]
        sizes[axis] = 1
    return tracer.wrap(x.entries.reshape(sizes), axis, x.dtype)


@_handles("unsqueeze")
def _unsqueeze(tracer: Tracer, x: Any, dim: int) -> Symbolic:
    dim %= x.ndim + 1
    axis = None if x.axis is None else x.axis + (x.axis >= dim)
    return tracer.wrap(np.expand_dims(x.entries, dim), axis, x.dtype)


@_handles("squeeze")
def _squeeze(tracer: Tracer, x: Any, dim: Any = None) -> Symbolic:
    dims = [d for d in _dims(dim, x.ndim) if x.shape[d] == 1]
    if dim is not None:
        _own(tracer, x, dims, "a squeeze")
    elif x.axis in dims:
        raise _mixes(tracer, "a squeeze of all axes, which drops that of a batch of one")
    return tracer.wrap(np.squeeze(x.entries, tuple(dims)), _left(x.axis, dims, False), x.dtype)


@_handles("permute")
def _permute(tracer: Tracer, x: Any, dims: Any) -> Symbolic:
    order = _dims(dims, x.ndim) if len(dims) else []
    axis = None if x.axis is None else order.index(x.axis)
    return tracer.wrap(x.entries.transpose(order), axis, x.dtype)


@_handles("transpose")
def _transpose(tracer: Tracer, x: Any, a: int, b: int) -> Symbolic:
    order = list(range(x.ndim))
    a, b = a % x.ndim, b % x.ndim
    order[a], order[b] = order[b], order[a]
    return _permute(tracer, x, order)


@_handles("t")
def _t(tracer: Tracer, x: Any) -> Symbolic:
    return _permute(tracer, x, list(range(x.ndim))[::-1])


@_handles("select")
def _select(tracer: Tracer, x: Any, dim: int, index: int) -> Symbolic:
    dim %= x.ndim
    _own(tracer, x, [dim], "reading one sample, an index")
    where = (slice(None),) * dim + (index, ...)
    return tracer.wrap(x.entries[where], _left(x.axis, [dim], False), x.dtype)


@_handles("slice")
def _slice(
    tracer: Tracer,
    x: Any,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Symbolic:
    dim %= x.ndim
    if dim == x.axis:
        if len(range(*slice(start, end, step).indices(x.shape[dim]))) != x.shape[dim]:
            raise _mixes(tracer, "reading some samples of the batch, a slice")
        return tracer.wrap(x.entries[...], x.axis, x.dtype)
    where = (slice(None),) * dim + (slice(start, end, step),)
    return tracer.wrap(x.entries[where], x.axis, x.dtype)


@_handles("expand")
def _expand(tracer: Tracer, x: Any, size: Any, **_: Any) -> Symbolic:
    lead = len(size) - x.ndim
    sizes = [x.shape[i - lead] if n == -1 else n for i, n in enumerate(size)]
    axis = None if x.axis is None else x.axis + lead
    if axis is None:
        axis = tracer.guess_axis(sizes)
        if axis is not None and axis >= lead and x.shape[axis - lead] != 1:
            axis = None
    sizes = [1 if i == axis else n for i, n in enumerate(sizes)]
    return tracer.wrap(np.broadcast_to(x.entries, sizes), axis, x.dtype)


@_handles("unbind")
def _unbind(tracer: Tracer, x: Any, dim: int = 0) -> Any:
    return tuple(_select(tracer, x, dim, i) for i in range(x.shape[dim]))


@_handles("split", "split_with_sizes")
def _split(tracer: Tracer, x: Any, sizes: Any, dim: int = 0) -> Any:
    dim %= x.ndim
    if isinstance(sizes, int):
        total = x.shape[dim]
        sizes = [min(sizes, total - start) for start in range(0, total, sizes)]
    ends = np.cumsum(sizes).tolist()
    return tuple(_slice(tracer, x, dim, end - n, end) for n, end in zip(sizes, ends, strict=True))


@_handles("flip")
def _flip(tracer: Tracer, x: Any, dims: Any) -> Symbolic:
    _own(tracer, x, _dims(dims, x.ndim), "a flip")
    return tracer.wrap(np.flip(x.entries, _dims(dims, x.ndim)), x.axis, x.dtype)


@_handles("roll")
def _roll(tracer: Tracer, x: Any, shifts: Any, dims: Any = ()) -> Symbolic:
    if len(dims) == 0:
        raise tracer.refuse("torch.roll over all axes", "give dims=")
    _own(tracer, x, _dims(dims, x.ndim), "a roll")
    return tracer.wrap(
        np.roll(x.entries, tuple(shifts), tuple(_dims(dims, x.ndim))), x.axis, x.dtype
    )


@_handles("diagonal")
def _diagonal(tracer: Tracer, x: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Symbolic:
    dims = [dim1 % x.ndim, dim2 % x.ndim]
    _own(tracer, x, dims, "a diagonal")
    made = np.diagonal(x.entries, offset, *dims)
    return tracer.wrap(made, _left(x.axis, dims, False), x.dtype)


@_handles("diag_embed")
def _diag_embed(tracer: Tracer, x: Any, offset: int = 0, *dims: int) -> Symbolic:
    if offset or any(d not in (-2, -1) for d in dims):
        raise tracer.refuse("torch.diag_embed off the last diagonal", "place it with torch.stack")
    _own(tracer, x, [x.ndim - 1], "a diagonal")
    n = x.shape[-1]
    made = _full((*x.entries.shape, n), tracer.graph.literal(0.0))
    for i in range(n):
        made[..., i, i] = x.entries[..., i]
    return tracer.wrap(made, x.axis, x.dtype)


@_handles("tril", "triu")
def _tril(tracer: Tracer, x: Any, diagonal: int = 0, *, lower: bool = True) -> Symbolic:
    _own(tracer, x, [x.ndim - 1, x.ndim - 2], "a triangle")
    made = x.entries.copy()
    rows, cols = np.indices(made.shape[-2:])
    outside = cols - rows > diagonal if lower else cols - rows < diagonal
    made[..., outside] = tracer.graph.literal(0.0)
    return tracer.wrap(made, x.axis, x.dtype)


_TABLE["triu"] = lambda tracer, x, diagonal=0: _tril(tracer, x, diagonal, lower=False)


@_handles("cat")
def _cat(tracer: Tracer, tensors: Any, dim: int = 0) -> Symbolic:
    tensors = [v for v in tensors if tuple(v.shape) != (0,)]
    ndim = tensors[0].ndim
    dim %= ndim
    axis = _result_axis(tracer, ndim, tensors)
    if axis == dim:
        raise _mixes(tracer, "torch.cat along the batch axis")
    dtype = _promoted(*tensors)
    parts = [_as_type(tracer, _align(tracer, v.shape, axis, [v])[0], dtype) for v in tensors]
    return tracer.wrap(np.concatenate(parts, dim), axis, dtype)


@_handles("stack")
def _stack(tracer: Tracer, tensors: Any, dim: int = 0) -> Symbolic:
    dim %= tensors[0].ndim + 1
    axis = _result_axis(tracer, tensors[0].ndim, tensors)
    dtype = _promoted(*tensors)
    parts = [_as_type(tracer, _align(tracer, v.shape, axis, [v])[0], dtype) for v in tensors]
    axis = None if axis is None else axis + (axis >= dim)
    return tracer.wrap(np.stack(parts, dim), axis, dtype)


def _index(tracer: Tracer, x: Symbolic, indices: Sequence[Any]) -> tuple[Any, int | None]:
    """A torch index as one for the entries, and the batch axis of what it picks."""
    where = tuple(slice(None) if i is None else i.cpu().numpy() for i in indices)
    if x.axis is None:
        return where, None
    if x.axis < len(indices) and indices[x.axis] is not None:
        raise _mixes(tracer, "reading some samples of the batch, an index")
    mark = 7919  # a size that no component axis has
    sizes = [mark if i == x.axis else n for i, n in enumerate(x.shape)]
    return where, np.broadcast_to(np.int8(0), sizes)[where].shape.index(mark)


@_handles("index")
def _index_tensor(tracer: Tracer, x: Any, indices: Any) -> Symbolic:
    where, axis = _index(tracer, x, indices)
    return tracer.wrap(x.entries[where], axis, x.dtype)


@_handles("index_select")
def _index_select(tracer: Tracer, x: Any, dim: int, index: Any) -> Symbolic:
    dim %= x.ndim
    return _index_tensor(tracer, x, [None] * dim + [index])


# -- reductions ------------------------------------------------------------------------------------


def _reduced(
    tracer: Tracer,
    x: Any,
    dim: Any,
    keepdim: bool,
    fold: Callable[[Sequence[Node]], Node],
    what: str,
    dtype: torch.dtype | None = None,
) -> Symbolic:
    dims = _dims(dim, x.ndim)
    _own(tracer, x, dims, what)
    rest = [i for i in range(x.ndim) if i not in dims]
    moved = x.entries.transpose(rest + dims)
    flat = moved.reshape(*moved.shape[: len(rest)], -1)
    made = np.empty(flat.shape[:-1], dtype=object)
    for where in np.ndindex(made.shape):
        made[where] = fold(list(flat[where]))
    if keepdim:
        made = made.reshape([1 if i in dims else n for i, n in enumerate(x.entries.shape)])
    return tracer.wrap(made, _left(x.axis, dims, keepdim), dtype or x.dtype)


def _counted(x: Any) -> torch.dtype:
    """Sums of booleans are integers."""
    return x.dtype if x.dtype.is_floating_point else torch.int64


def _numbers(tracer: Tracer, nodes: Sequence[Node]) -> list[Node]:
    return [tracer.graph("float", n) if n.boolean else n for n in nodes]


@_handles("sum")
def _sum(tracer: Tracer, x: Any, dim: Any = None, keepdim: bool = False, **_: Any) -> Symbolic:
    def fold(n: Sequence[Node]) -> Node:
        return tracer.graph.total(_numbers(tracer, n))

    return _reduced(tracer, x, dim, keepdim, fold, "a sum", _counted(x))


@_handles("mean")
def _mean(tracer: Tracer, x: Any, dim: Any = None, keepdim: bool = False, **_: Any) -> Symbolic:
    def fold(n: Sequence[Node]) -> Node:
        graph = tracer.graph
        return graph("mul", graph.literal(1.0 / len(n)), graph.total(_numbers(tracer, n)))

    return _reduced(tracer, x, dim, keepdim, fold, "a mean")


@_handles("prod")
def _prod(tracer: Tracer, x: Any, dim: Any = None, keepdim: bool = False, **_: Any) -> Symbolic:
    def fold(n: Sequence[Node]) -> Node:
        return tracer.graph.reduce("mul", _numbers(tracer, n))

    return _reduced(tracer, x, dim, keepdim, fold, "a product", _counted(x))


def _extreme(op: str) -> Handler:
    def handler(tracer: Tracer, x: Any, dim: Any = None, keepdim: bool = False) -> Symbolic:
        def fold(n: Sequence[Node]) -> Node:
            return tracer.graph.reduce(op, n)

        return _reduced(tracer, x, dim, keepdim, fold, f"a {op}imum")

    return handler


_TABLE["amax"], _TABLE["amin"] = _extreme("max"), _extreme("min")


def _extreme_or_place(op: str) -> Handler:
    def handler(tracer: Tracer, x: Any, dim: Any = None, keepdim: bool = False) -> Any:
        if dim is None:
            return _TABLE[f"a{op}"](tracer, x)
        graph = tracer.graph
        values = _TABLE[f"a{op}"](tracer, x, dim, keepdim)

        def first(nodes: Sequence[Node]) -> Node:
            best, place = nodes[0], graph.literal(0.0)
            for j, node in enumerate(nodes[1:], 1):
                better = graph("gt" if op == "max" else "lt", node, best)
                place = graph("where", better, graph.literal(j), place)
                best = graph(op, best, node)
            return place

        return values, _reduced(tracer, x, dim, keepdim, first, f"a {op}imum", torch.int64)

    return handler


_TABLE["max"], _TABLE["min"] = _extreme_or_place("max"), _extreme_or_place("min")


def _quantified(op: str) -> Handler:
    def handler(tracer: Tracer, x: Any, dim: Any = None, keepdim: bool = False) -> Symbolic:
        def fold(n: Sequence[Node]) -> Node:
            return tracer.graph.reduce(op, [_truth(tracer.graph, v) for v in n])

        return _reduced(tracer, x, dim, keepdim, fold, "a test", torch.bool)

    return handler


_TABLE["any"], _TABLE["all"] = _quantified("or"), _quantified("and")


@_handles("linalg_vector_norm")
def _norm(
    tracer: Tracer, x: Any, order: float = 2, dim: Any = None, keepdim: bool = False, **_: Any
) -> Symbolic:
    g = tracer.graph

    def fold(n: Sequence[Node]) -> Node:
        if order == 2:
            return g("sqrt", g.total(g("mul", v, v) for v in n))
        sizes = [g("abs", v) for v in n]
        if order == 1:
            return g.total(sizes)
        if order in (math.inf, -math.inf):
            return g.reduce("max" if order > 0 else "min", sizes)
        if order == 0:
            return g.total(g("float", g("ne", v, g.literal(0.0))) for v in n)
        power = g.total(g("pow", v, g.literal(order)) for v in sizes)
        return g("pow", power, g.literal(1.0 / order))

    return _reduced(tracer, x, dim, keepdim, fold, "a norm")


def _shifted_exponentials(g: Any, nodes: Sequence[Node]) -> tuple[Node, list[Node], Node]:
    """max, exp(x - max), and their sum."""
    top = g.reduce("max", nodes)
    exponentials = [g("exp", g("sub", n, top)) for n in nodes]
    return top, exponentials, g.total(exponentials)


@_handles("logsumexp")
def _logsumexp(tracer: Tracer, x: Any, dim: Any, keepdim: bool = False) -> Symbolic:
    g = tracer.graph

    def fold(nodes: Sequence[Node]) -> Node:
        top, _, total = _shifted_exponentials(g, nodes)
        # An infinite maximum is the answer; infinity less infinity would be no number.
        endless = g("eq", g("abs", top), g.literal(math.inf))
        return g("where", endless, top, g("add", top, g("log", total)))  # type: ignore[no-any-return]

    return _reduced(tracer, x, dim, keepdim, fold, "a logsumexp")


def _along(tracer: Tracer, x: Any, dim: int, each: Any, what: str) -> Symbolic:
    """``each(nodes)`` gives as many nodes as it gets, along one axis."""
    dim %= max(x.ndim, 1)
    _own(tracer, x, [dim], what)
    moved = np.moveaxis(x.entries, dim, -1)
    made = np.empty(moved.shape, dtype=object)
    for where in np.ndindex(moved.shape[:-1]):
        made[where] = each(list(moved[where]))
    return tracer.wrap(np.moveaxis(made, -1, dim), x.axis, x.dtype)


@_handles("_softmax", "softmax")
def _softmax(tracer: Tracer, x: Any, dim: int, *_: Any) -> Symbolic:
    g = tracer.graph

    def each(nodes: Sequence[Node]) -> list[Node]:
        _, exponentials, total = _shifted_exponentials(g, nodes)
        share = g("div", g.literal(1.0), total)
        return [g("mul", e, share) for e in exponentials]

    return _along(tracer, x, dim, each, "a softmax")


@_handles("_log_softmax", "log_softmax")
def _log_softmax(tracer: Tracer, x: Any, dim: int, *_: Any) -> Symbolic:
    g = tracer.graph

    def each(nodes: Sequence[Node]) -> list[Node]:
        top, _, total = _shifted_exponentials(g, nodes)
        shift = g("log", total)
        return [g("sub", g("sub", n, top), shift) for n in nodes]

    return _along(tracer, x, dim, each, "a log_softmax")


@_handles("cumsum")
def _cumsum(tracer: Tracer, x: Any, dim: int, **_: Any) -> Symbolic:
    def each(nodes: Sequence[Node]) -> list[Node]:
        return [tracer.graph.total(nodes[: j + 1]) for j in range(len(nodes))]

    return _along(tracer, x, dim, each, "a cumulative sum")


# -- matrix products -------------------------------------------------------------------------------


def _product(tracer: Tracer, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(n, k) x (k, m)."""
    g = tracer.graph
    made = np.empty((a.shape[0], b.shape[1]), dtype=object)
    for i, j in np.ndindex(made.shape):
        made[i, j] = g.total(g("mul", u, v) for u, v in zip(a[i], b[:, j], strict=True))
    return made


@_handles("mm")
def _mm(tracer: Tracer, a: Any, b: Any) -> Symbolic:
    a, b = tracer.symbolic(a), tracer.symbolic(b)
    if a.axis == 1 or b.axis == 0 or (a.axis is not None and b.axis is not None):
        raise _mixes(tracer, "a matrix product over the samples of the batch")
    axis = 0 if a.axis == 0 else b.axis
    return tracer.wrap(_product(tracer, a.entries, b.entries), axis, a.dtype)


@_handles("addmm")
def _addmm(tracer: Tracer, c: Any, a: Any, b: Any, beta: Any = 1, alpha: Any = 1) -> Symbolic:
    product = _mm(tracer, a, b)
    if alpha != 1:
        product = _mul(tracer, product, alpha)
    return _TABLE["add"](tracer, product, c, beta)  # type: ignore[no-any-return]


@_handles("mv")
def _mv(tracer: Tracer, a: Any, b: Any) -> Symbolic:
    a, b = tracer.symbolic(a), tracer.symbolic(b)
    if b.axis == 0 or a.axis == 1:
        raise _mixes(tracer, "a matrix product over the samples of the batch")
    made = _product(tracer, a.entries, b.entries[:, None])[:, 0]
    return tracer.wrap(made, a.axis, a.dtype)


@_handles("dot")
def _dot(tracer: Tracer, a: Any, b: Any) -> Symbolic:
    a, b = tracer.symbolic(a), tracer.symbolic(b)
    if a.axis is not None or b.axis is not None:
        raise _mixes(tracer, "a product over the samples of the batch")
    made = _product(tracer, a.entries[None], b.entries[:, None])
    return tracer.wrap(made.reshape(()), None, a.dtype)


@_handles("bmm")
def _bmm(tracer: Tracer, a: Any, b: Any) -> Symbolic:
    first = any(isinstance(v, Symbolic) and v.axis == 0 for v in (a, b))
    a, b = (tracer.symbolic(v, tracer.batch_place(v, 3, 0) if first else None) for v in (a, b))
    axes = {v.axis for v in (a, b) if v.axis is not None}
    if a.axis == 2 or b.axis == 1 or len(axes) > 1:
        raise _mixes(tracer, "a matrix product over the samples of the batch")
    axis = axes.pop() if axes else None
    count = max(a.entries.shape[0], b.entries.shape[0])
    stacked = [
        _product(
            tracer,
            a.entries[i if a.entries.shape[0] > 1 else 0],
            b.entries[i if b.entries.shape[0] > 1 else 0],
        )
        for i in range(count)
    ]
    return tracer.wrap(np.stack(stacked), axis, a.dtype)


@_handles("is_same_size")
def _is_same_size(tracer: Tracer, a: Any, b: Any) -> bool:
    return bool(a.shape == b.shape)


@_handles("_has_same_storage_numel")
def _has_same_storage(tracer: Tracer, a: Any, b: Any) -> bool:
    return bool(a.numel() == b.numel())
