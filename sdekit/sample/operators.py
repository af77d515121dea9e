"""Linear measurements m = A x of samples, and their adjoints, for any A that torch can compute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor

__all__ = ["LinearOperator"]


@final
class LinearOperator:
    r"""A and A^T on batches: x (B, D...) to m (B, M...), from a mask or from a function.

    operator: a boolean tensor of shape (D...), True where x is known, so that A x = x[:, mask],
    (B, M); or a function (B, D...) -> (B, M...) that is linear and treats each sample alone, such
    as a blur, a downsampling, a projection. A^T u is the gradient of <A x, u>: nothing else is to
    be written.
    Raises TypeError for another kind of operator, ValueError for a mask that knows nothing or is of
    another shape, or for a function that is not linear (checked once, on x = 0 and a pattern).
    """

    def __init__(self, operator: Any, shape: tuple[int, ...], like: Tensor) -> None:
        self._shape = shape
        self._zero = torch.zeros((1, *shape), dtype=like.dtype, device=like.device)
        self._apply = self._of(operator)
        self._check_linear()

    def __call__(self, x: Tensor) -> Tensor:
        """A x."""
        return self._apply(x)

    def adjoint(self, u: Tensor) -> Tensor:
        """A^T u, (B, M...) to (B, D...)."""
        with torch.enable_grad():
            x = self._zero.expand(len(u), *self._shape).clone().requires_grad_()
            (back,) = torch.autograd.grad(self._apply(x), x, u)
        return back

    def _of(self, operator: Any) -> Callable[[Tensor], Tensor]:
        if isinstance(operator, Tensor):
            if operator.dtype != torch.bool:
                raise TypeError(
                    f"a mask must be boolean, True where x is known, got {operator.dtype}: write "
                    "mask.bool(), or a function x -> A x for another linear operator"
                )
            if tuple(operator.shape) != self._shape:
                raise ValueError(
                    f"the mask has shape {tuple(operator.shape)}, a sample {self._shape}: give one "
                    "entry for each component"
                )
            if not bool(operator.any()):
                raise ValueError("the mask knows no component: write sample(...) instead")
            places = operator.flatten().nonzero().squeeze(1).to(self._zero.device)
            return lambda x: x.flatten(1)[:, places]
        if not callable(operator):
            raise TypeError(
                "operator must be a boolean mask or a linear function x -> A x, got "
                f"{type(operator).__name__}"
            )
        function: Callable[[Tensor], Tensor] = operator
        return function

    def _check_linear(self) -> None:
        """A 0 = 0 and A (x - 2 y) = A x - 2 A y on a pattern, to the dtype's rounding."""
        zero = self._apply(self._zero)
        if not isinstance(zero, Tensor) or zero.ndim < 2 or len(zero) != 1:
            given = tuple(zero.shape) if isinstance(zero, Tensor) else type(zero).__name__
            raise ValueError(f"operator(x) must be (B, M...) for x of (B, D...), got {given}")
        n = self._zero.numel()
        count = torch.arange(2 * n, dtype=torch.float64, device=self._zero.device)
        x, y = (torch.sin(1.0 + count**1.5)).to(self._zero).view(2, 1, *self._shape)
        a, b, both = self._apply(x), self._apply(y), self._apply(x - 2.0 * y)
        size = float(torch.stack([a.abs().max(), b.abs().max()]).max())
        off = float((both - a + 2.0 * b).abs().max()) + float(zero.abs().max())
        if not off <= 1e3 * torch.finfo(self._zero.dtype).eps * max(size, 1.0):
            raise ValueError(
                "operator is not linear: A (x - 2 y) differs from A x - 2 A y (or A 0 from 0) by "
                f"{off:.3g} on a test pattern; subtract its constant, A x = f(x) - f(0)"
            )
