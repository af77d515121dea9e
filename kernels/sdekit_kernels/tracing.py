"""Kernels under torch's function transforms and its compiler, which cannot see into them.

* ``torch.compile``: its tracer goes around the decorated function, which runs as it stands.
* ``torch.func`` (grad, jvp, vmap ...) and forward-mode gradients hand wrapped tensors in, whose
  derivative or batch a kernel would not see: ``transformed`` says so, and the steps then make
  their update in plain torch (with the kernels' noise, which is a constant).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import Any, TypeVar, cast

import torch
from torch.autograd import forward_ad

F = TypeVar("F", bound=Callable[..., Any])

__all__ = ["around_compiler", "outside_transforms", "transformed"]


def around_compiler(function: F) -> F:
    """Let ``torch.compile`` leave this function alone.

    ``torch.compiler.disable`` itself loads the compiler, over a second of imports, so that it is
    called only where the compiler is loaded already.
    """
    untraced: Callable[..., Any] | None = None

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal untraced
        if "torch._dynamo" not in sys.modules:
            return function(*args, **kwargs)
        if untraced is None:
            untraced = torch.compiler.disable(function)
        return untraced(*args, **kwargs)

    return cast("F", call)


def transformed() -> bool:
    """Whether a transform of torch.func or a forward-mode gradient is under way."""
    return (
        forward_ad._current_level >= 0 or torch._C._functorch.peek_interpreter_stack() is not None
    )


def outside_transforms() -> AbstractContextManager[object]:
    """Tensors made in this context are plain ones, constants to every transform around it."""
    return cast(
        "AbstractContextManager[object]",
        torch._C._DisableFuncTorch() if transformed() else nullcontext(),
    )
