r"""Divergences of a field F: (B, D...) -> (B, D...) whose samples do not see each other.

Both estimators are quadratic forms v^T J v of each sample's Jacobian J = dF/dx:

- exact: div F = \sum_j e_j^T J e_j over the D basis vectors;
- Hutchinson 1990 (first used for flows by Grathwohl et al. 2019): v^T J v has the mean div F if
  E[v v^T] = 1, so each of n probes v gives one unbiased estimate.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import sdekit_kernels
import torch
from sdekit_kernels.checks import check_choice, check_int_range
from torch import Tensor
from torch.func import jvp, vjp, vmap

from sdekit.noise import keys
from sdekit.sde import check_output

__all__ = ["DERIVATIVES", "PROBES", "draw_probes", "field_divergence"]

Field = Callable[[Tensor], Tensor]
DERIVATIVES = ("forward", "reverse")
PROBES = ("rademacher", "gaussian")

# Numbers of x's kind that all directions in one go may hold together: 16 MiB of float32, and some
# tens of times that in the activations of a network that is much wider than its input.
_BUDGET = 1 << 22


def field_divergence(
    field: Field,
    x: Tensor,
    *,
    probes: Tensor | None = None,
    derivative: str = "reverse",
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    r"""F(x) of x's shape, and its divergence in each sample: exact (B, 1), or (B, n) by n probes.

    field: x (B, D...) -> F(x) of the same shape; row i of F may depend on row i of x alone.
    probes: (n, B, D...), one quadratic form v^T J v for each; None for the exact divergence.
    derivative: "reverse" (v^T J, by vjp: the field is evaluated once for all directions, and its
    activations are stored) or "forward" (J v, by jvp: nothing is stored, but each direction
    evaluates the field again: 1 to 4 times as slow). chunk: how many directions are vectorized at
    a time; None chooses by memory. Neither changes the value beyond rounding.
    Raises ValueError for an unknown ``derivative``, chunk < 1, x without components, probes or an
    F(x) of another shape, and RuntimeError, naming the way out, if forward mode meets an operation
    without it.
    """
    check_choice("derivative", derivative, DERIVATIVES)
    if x.ndim < 2 or x.shape[1:].numel() == 0:
        raise ValueError(f"x must have the shape (B, D...) with D >= 1, got {tuple(x.shape)}")
    if probes is not None and (probes.shape[1:] != x.shape or len(probes) == 0):
        raise ValueError(
            f"probes must have the shape (n, B, D...), n >= 1, for x of shape {tuple(x.shape)}, "
            f"got {tuple(probes.shape)}"
        )
    total = x.shape[1:].numel() if probes is None else probes.shape[0]
    if chunk is None:
        chunk = max(1, _BUDGET // max(1, x.numel()))
    chunk = min(check_int_range("chunk", chunk, 1, 1 << 62), total)
    forms = _forward_forms if derivative == "forward" else _reverse_forms
    directions = _basis(x, chunk) if probes is None else iter(probes.split(chunk))

    def checked(x: Tensor) -> Tensor:
        return check_output("the field", field(x), x)

    value, columns = forms(checked, x, directions)
    if probes is None:
        columns = columns.sum(1, keepdim=True)
    return value, columns


def draw_probes(
    n: int,
    x: Tensor,
    *,
    kind: str = "rademacher",
    seed: int = 0,
    first_sample: int = 0,
) -> Tensor:
    """n probe vectors a sample, (n, B, D...), with E[v v^T] = 1.

    kind: "rademacher" (signs: the least variance of all independent entries) or "gaussian". Probe
    j of a sample is a function of the seed and the sample's number alone: stream PROBE, step j.
    """
    check_choice("probes", kind, PROBES)
    z = torch.stack(
        [
            sdekit_kernels.normal(
                tuple(x.shape),
                seed=seed,
                stream=keys.PROBE,
                step=j,
                first_sample=first_sample,
                dtype=x.dtype,
                device=x.device,
            )
            for j in range(n)
        ]
    )
    # Not sign(): a normal can be 0 in float32, and a probe's entry must not.
    return torch.where(z < 0, -1.0, 1.0).to(x.dtype) if kind == "rademacher" else z


def _basis(x: Tensor, chunk: int) -> Iterator[Tensor]:
    """The D basis vectors of the event, (<= chunk, 1, D...) at a time: never D^2 numbers."""
    event = x.shape[1:]
    d = event.numel()
    for start in range(0, d, chunk):
        n = min(chunk, d - start)
        rows = torch.zeros(n, d, dtype=x.dtype, device=x.device)
        rows.diagonal(start).fill_(1.0)
        yield rows.view(n, 1, *event)


def _form(v: Tensor, jv: Tensor) -> Tensor:
    """v . jv in each sample, (B,)."""
    return (v * jv).flatten(1).sum(1)


def _forward_forms(field: Field, x: Tensor, directions: Iterator[Tensor]) -> tuple[Tensor, Tensor]:
    """F(x), and v^T (J v) for each direction v, (B, directions)."""

    def form(v: Tensor) -> tuple[Tensor, Tensor]:
        value, jv = jvp(field, (x,), (v.expand_as(x),))[:2]
        return value, _form(v, jv)

    values, columns = [], []
    for part in directions:
        try:
            # F(x) is the same for all directions: it is computed once, out_dims None.
            value, column = vmap(form, out_dims=(None, 1))(part)  # type: ignore[arg-type]
        except (NotImplementedError, RuntimeError) as error:
            # torch has no type of its own for this, and words it in three ways.
            if not re.search("forward (mode )?AD|forward-mode", str(error)):
                raise
            raise RuntimeError(
                "the score has an operation without a forward-mode derivative: "
                "write derivative='reverse'"
            ) from error
        values.append(value)
        columns.append(column)
    return values[0], torch.cat(columns, dim=1)


def _reverse_forms(field: Field, x: Tensor, directions: Iterator[Tensor]) -> tuple[Tensor, Tensor]:
    """F(x), and (v^T J) v for each direction v, (B, directions)."""
    value, pullback = vjp(field, x)[:2]

    def form(v: Tensor) -> Tensor:
        return _form(v, pullback(v.expand_as(x))[0])

    def forms(part: Tensor) -> Tensor:
        # vmap over one direction would be a fifth of a small network's evaluation, 0.2 ms of 1.1.
        return form(part[0]).unsqueeze(1) if len(part) == 1 else vmap(form, out_dims=1)(part)

    return value, torch.cat([forms(part) for part in directions], dim=1)
