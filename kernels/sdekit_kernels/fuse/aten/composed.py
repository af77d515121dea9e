"""Operations written in torch with others: traced as if the equation had written them out."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch

from sdekit_kernels.fuse.aten.table import TABLE, Handler
from sdekit_kernels.fuse.refusal import CannotFuse, line_of_user
from sdekit_kernels.fuse.tracer import Tracer

__all__: list[str] = []


def _composed(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a function of tensors, run under the trace."""

    def register(formula: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(formula)
        def handler(tracer: Tracer, *args: Any, **kwargs: Any) -> Any:
            with tracer:
                return formula(*args, **kwargs)

        entered: Handler = handler
        for name in names:
            TABLE[name] = entered
        return formula

    return register


@_composed("lerp")
def _lerp(start: Any, end: Any, weight: Any) -> Any:
    return start + weight * (end - start)


@_composed("addcmul")
def _addcmul(x: Any, a: Any, b: Any, value: float = 1) -> Any:
    return x + value * (a * b)


@_composed("addcdiv")
def _addcdiv(x: Any, a: Any, b: Any, value: float = 1) -> Any:
    return x + value * (a / b)


@_composed("logaddexp2")
def _logaddexp2(a: Any, b: Any) -> Any:
    return torch.logaddexp(a * math.log(2.0), b * math.log(2.0)) / math.log(2.0)


@_composed("logit")
def _logit(x: Any, eps: float | None = None) -> Any:
    if eps is not None:
        x = x.clamp(eps, 1 - eps)
    return torch.log(x / (1 - x))


@_composed("sinc")
def _sinc(x: Any) -> Any:
    angle = math.pi * x
    return torch.where(x == 0, 1.0, torch.sin(angle) / angle)


@_composed("nan_to_num")
def _nan_to_num(x: Any, nan: Any = None, posinf: Any = None, neginf: Any = None) -> Any:
    ends = torch.finfo(x.dtype)
    top = ends.max if posinf is None else posinf
    bottom = ends.min if neginf is None else neginf
    x = torch.where(torch.isnan(x), 0.0 if nan is None else nan, x)
    return torch.where(x == math.inf, top, torch.where(x == -math.inf, bottom, x))


@_composed("linalg_cross", "cross")
def _cross(a: Any, b: Any, dim: int = -1) -> Any:
    a, b = torch.broadcast_tensors(a, b)
    a0, a1, a2 = a.unbind(dim)
    b0, b1, b2 = b.unbind(dim)
    return torch.stack([a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0], dim)


@_composed("trace")
def _trace(x: Any) -> Any:
    return torch.diagonal(x).sum()


def _minor(x: Any, i: int, j: int) -> Any:
    """x (..., n, n) without row i and column j."""
    n = x.shape[-1]
    rows, cols = ([k for k in range(n) if k != m] for m in (i, j))
    return torch.stack([torch.stack([x[..., r, c] for c in cols], -1) for r in rows], -2)


def _determinant(x: Any) -> Any:
    """By the first row; n up to 3."""
    n = x.shape[-1]
    if n > 3:
        raise CannotFuse(
            f"a determinant or inverse of {n} x {n} numbers{line_of_user()}: kernels have those up "
            "to 3 x 3; invert constant matrices outside of the step"
        )
    if n == 1:
        return x[..., 0, 0]
    terms = [(-1.0) ** j * x[..., 0, j] * _determinant(_minor(x, 0, j)) for j in range(n)]
    return functools.reduce(torch.add, terms)


@_composed("_linalg_det")
def _linalg_det(x: Any) -> Any:
    """The determinant, and the factorization that torch would return beside it."""
    return _determinant(x), x, None


@_composed("linalg_inv_ex")
def _linalg_inv_ex(x: Any, check_errors: bool = False) -> Any:
    """Cofactors over the determinant; a singular matrix gives infinities where torch raises."""
    n = x.shape[-1]
    share = 1.0 / _determinant(x)
    if n == 1:
        return share[..., None, None], None
    rows = [
        torch.stack([(-1.0) ** (i + j) * _determinant(_minor(x, i, j)) for i in range(n)], -1)
        for j in range(n)
    ]
    return torch.stack(rows, -2) * share[..., None, None], torch.zeros((), dtype=torch.int32)


@_composed("_linalg_solve_ex")
def _linalg_solve_ex(a: Any, b: Any, left: bool = True, check_errors: bool = False) -> Any:
    inverse = _linalg_inv_ex(a)[0]
    vector = b.ndim == a.ndim - 1
    right = b[..., None] if vector else b
    made = inverse @ right if left else right @ inverse
    none = torch.zeros((), dtype=torch.int32)
    return (made[..., 0] if vector else made), a, none, none


@_composed("native_layer_norm")
def _native_layer_norm(x: Any, shape: Any, weight: Any, bias: Any, eps: float) -> Any:
    dims = list(range(x.ndim - len(shape), x.ndim))
    mean = x.mean(dims, keepdim=True)
    apart = x - mean
    scale = torch.rsqrt((apart * apart).mean(dims, keepdim=True) + eps)
    made = apart * scale
    made = made if weight is None else made * weight
    return (made if bias is None else made + bias), mean, scale


@_composed("index_put")
def _index_put(x: Any, indices: Any, values: Any, accumulate: bool = False) -> Any:
    return x.clone().index_put_(indices, values, accumulate)


@_composed("native_batch_norm", "_native_batch_norm_legit_no_training")
def _batch_norm(x: Any, weight: Any, bias: Any, mean: Any, variance: Any, *rest: Any) -> Any:
    """With the running statistics; rest: training, momentum, eps (no training in the second)."""
    if (len(rest) == 3 and rest[0]) or mean is None:
        raise CannotFuse(
            f"batch normalization in training{line_of_user()}: write .eval(), or LayerNorm"
        )
    shape = (1, -1, *(1,) * (x.ndim - 2))
    scale = torch.rsqrt(variance + rest[-1])
    scale = scale if weight is None else scale * weight
    made = (x - mean.view(shape)) * scale.view(shape)
    made = made if bias is None else made + bias.view(shape)
    return made, x.new_empty(0), x.new_empty(0)
