"""F(x), and products of its Jacobian with many directions at once, in chunks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, final

import torch
from sdekit_kernels.checks import check_choice
from torch import Tensor
from torch.func import jvp, vjp, vmap

from sdekit.likelihood.divergence.derivative import Field, Watch
from sdekit.likelihood.divergence.memory import MEMORY, Chunks
from sdekit.sde import check_output

__all__ = ["DERIVATIVES", "Engine", "Jacobian"]

DERIVATIVES = ("forward", "reverse")


@final
class Engine:
    """How derivatives are taken: the mode, the memory, and whether the field was found to have any.

    derivative: "reverse" (v^T J, by vjp: the field is evaluated once for all directions, and its
    activations are stored) or "forward" (J v, by jvp: nothing is stored, but each chunk of
    directions evaluates the field again: 1 to 4 times as slow). memory, chunk: see ``Chunks``.
    """

    def __init__(
        self, derivative: str = "reverse", memory: int = MEMORY, chunk: int | None = None
    ) -> None:
        self.derivative = check_choice("derivative", derivative, DERIVATIVES)
        self.chunks = Chunks(memory, chunk)
        self._checked = False

    def at(self, field: Field, x: Tensor) -> Jacobian:
        """The Jacobian of ``field`` at x, (B, D...).

        Raises RuntimeError, at the first use, if the field has no derivative: see ``derivative``.
        """
        if self._checked:
            return Jacobian(field, x, self)
        watch = Watch(field, "the score", self.derivative)
        jacobian = Jacobian(watch, x, self)
        # Reverse mode has evaluated the field by now, forward mode does so with the directions.
        if self.derivative == "forward":
            jacobian.forms(lambda start, stop: torch.ones_like(x).unsqueeze(0), 1)
        watch.conclude(x)
        self._checked = True
        return jacobian


@final
class Jacobian:
    """J = dF/dx of each sample at x: a factor for directions, never a matrix.

    A trace cannot tell J from its transpose, so ``products`` are J v in forward mode and J^T v in
    reverse mode, whichever is at hand. Directions come as a function (start, stop) -> tensor of
    shape (stop - start, B or 1, D...) and their total number, so that a basis needs no memory.
    """

    def __init__(self, field: Field, x: Tensor, engine: Engine) -> None:
        self.x, self._engine = x, engine
        self._field = lambda y: check_output("the field", field(y), y)
        self._value: Tensor | None = None
        self._pullback: Callable[..., Any] | None = None
        if engine.derivative == "reverse":
            self._value, self._pullback = vjp(self._field, x)[:2]

    @property
    def value(self) -> Tensor:
        """F(x); in forward mode a by-product of the first products."""
        if self._value is None:
            self._value = self._field(self.x)
        return self._value

    def forms(self, directions: Callable[[int, int], Tensor], total: int) -> Tensor:
        """v^T J v of each direction in each sample, (B, total)."""
        return torch.cat(list(self._run(_form, directions, total))).mT

    def products(self, directions: Callable[[int, int], Tensor], total: int) -> Tensor:
        """J v or J^T v of each direction in each sample, (total, B, D...)."""
        return torch.cat(list(self._run(_product, directions, total)))

    def _run(
        self,
        what: Callable[[Tensor, Tensor], Tensor],
        directions: Callable[[int, int], Tensor],
        total: int,
    ) -> Iterator[Tensor]:
        """``what(v, J v)`` of each direction, a chunk of them at a time along the first axis."""
        chunks, samples, start = self._engine.chunks, self.x.shape[0], 0
        run = self._reverse if self._pullback is not None else self._forward
        while start < total:
            stop = min(total, start + chunks.size(samples))
            part = directions(start, stop)
            with chunks.watching(stop - start, samples, total):
                out = run(what, part)
            yield out
            start = stop

    def _reverse(self, what: Callable[[Tensor, Tensor], Tensor], part: Tensor) -> Tensor:
        assert self._pullback is not None
        pullback = self._pullback

        def one(v: Tensor) -> Tensor:
            v = v.expand_as(self.x)
            return what(v, pullback(v)[0])

        # vmap over one direction would be a fifth of a small network's evaluation, 0.2 ms of 1.1.
        return one(part[0]).unsqueeze(0) if len(part) == 1 else vmap(one)(part)

    def _forward(self, what: Callable[[Tensor, Tensor], Tensor], part: Tensor) -> Tensor:
        def one(v: Tensor) -> tuple[Tensor, Tensor]:
            v = v.expand_as(self.x)
            value, jv = jvp(self._field, (self.x,), (v,))[:2]
            return value, what(v, jv)

        try:
            if len(part) == 1:
                value, out = one(part[0])
                out = out.unsqueeze(0)
            else:
                # F(x) is the same for all directions: it is computed once, out_dims None.
                value, out = vmap(one, out_dims=(None, 0))(part)  # type: ignore[arg-type]
        except (NotImplementedError, RuntimeError) as error:
            # torch has no type of its own for this, and words it in three ways.
            if not re.search("forward (mode )?AD|forward-mode", str(error)):
                raise
            raise RuntimeError(
                "the score has an operation without a forward-mode derivative: "
                "write derivative='reverse'"
            ) from error
        if self._value is None:
            self._value = value
        return out


def _form(v: Tensor, jv: Tensor) -> Tensor:
    """v . jv in each sample, (B,)."""
    return (v * jv).flatten(1).sum(1)


def _product(v: Tensor, jv: Tensor) -> Tensor:
    return jv
