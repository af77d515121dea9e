"""From the names that a user types to a divergence, and divergences of a single call."""

from __future__ import annotations

import torch
from sdekit_kernels.checks import check_choice, check_int_range
from torch import Tensor

from sdekit.likelihood.divergence.derivative import Field
from sdekit.likelihood.divergence.estimator import Divergence, Exact, Hutchinson
from sdekit.likelihood.divergence.hutchpp import HutchPP
from sdekit.likelihood.divergence.memory import MEMORY
from sdekit.likelihood.divergence.probes import PROBES, draw_normals, draw_probes
from sdekit.likelihood.divergence.products import Engine
from sdekit.likelihood.divergence.xtrace import XTrace

__all__ = ["KINDS", "field_divergence", "make_divergence"]

KINDS = ("exact", "hutchinson", "hutch++", "xtrace")


def make_divergence(
    kind: str,
    x: Tensor,
    *,
    n_probes: int = 1,
    probes: str | None = None,
    seed: int = 0,
    first_sample: int = 0,
    step0: int = 0,
    derivative: str = "reverse",
    memory: int = MEMORY,
    chunk: int | None = None,
) -> Divergence:
    """The divergence of fields on samples shaped like x, (B, D...), as an ODE loop uses it.

    Args:
        kind: "exact"; "hutchinson", ``n_probes`` probes; "hutch++", n_probes products of which a
            third each goes to the sketch, to its part of the trace and to residual probes;
            "xtrace", n_probes // 2 test vectors.
        probes: "rademacher" (the default), "gaussian" or "orthogonal" for hutchinson and for the
            residual of hutch++; "gaussian" (the default, normalized) or "rademacher" for xtrace.
        seed, first_sample: who draws. step0: probe j is step ``step0 + j`` of the stream PROBE; at
            most n_probes are drawn, so ``step0 + n_probes`` starts an independent set.
        derivative, memory, chunk: "reverse" or "forward"; bytes that the directions processed
            together may take; or their number. Neither changes a value beyond rounding: see
            ``Engine`` and ``Chunks``.

    Where a method would take D products a call or more, the exact divergence, which takes D, is
    returned instead; so it is for D orthogonal probes, whose mean is exact. ``.kind`` says so.
    Raises TypeError or ValueError for arguments out of their range.
    """
    check_choice("divergence", kind, KINDS)
    dim = _check_events(x)
    if x.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"x must be float32 or float64, got {x.dtype}: write x.float()")
    engine = Engine(derivative, memory, chunk)
    least = {"hutch++": 3, "xtrace": 2}.get(kind, 1)
    if kind != "exact" and isinstance(n_probes, int) and 1 <= n_probes < least:
        raise ValueError(f"{kind} splits its probes: n_probes must be {least} or more")
    n = check_int_range("n_probes", n_probes, 1, 1 << 31)
    law = check_choice("probes", probes or ("gaussian" if kind == "xtrace" else PROBES[0]), PROBES)
    if kind == "xtrace" and law == "orthogonal":
        raise ValueError("xtrace needs independent vectors: write probes='gaussian'")
    third = n // 3
    products = {"hutchinson": n, "hutch++": n - third, "xtrace": n - n % 2}.get(kind, dim)
    whole = products >= dim and (kind != "hutchinson" or law == "orthogonal")
    if kind == "exact" or whole:
        return Exact(engine, dim)
    drawn = {"seed": seed, "first_sample": first_sample}
    if kind == "hutchinson":
        vectors = draw_probes(n, x, kind=law, step0=step0, **drawn)
        return Hutchinson(engine, vectors, dim if law == "orthogonal" else None)
    if kind == "xtrace":
        vectors = draw_probes(n // 2, x, kind=law, step0=step0, **drawn)
        return XTrace(engine, vectors, normalized=law == "gaussian")
    sketch = draw_normals(third, x, step0=step0, **drawn)
    after = step0 + third
    if law == "orthogonal":
        rest = draw_normals(n - 2 * third, x, step0=after, **drawn)
    else:
        rest = draw_probes(n - 2 * third, x, kind=law, step0=after, **drawn)
    return HutchPP(engine, sketch, rest, orthogonal=law == "orthogonal")


def field_divergence(
    field: Field,
    x: Tensor,
    *,
    probes: Tensor | None = None,
    derivative: str = "reverse",
    memory: int = MEMORY,
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    r"""F(x) of x's shape, and its divergence in each sample: exact (B, 1), or (B, n) by n probes.

    field: x (B, D...) -> F(x) of the same shape; row i of F may depend on row i of x alone.
    probes: (n, B, D...), one quadratic form v^T J v for each; None for the exact divergence.
    derivative: "reverse" (v^T J, by vjp: the field is evaluated once for all directions, and its
    activations are stored) or "forward" (J v, by jvp: nothing is stored, but each chunk of
    directions evaluates the field again: 1 to 4 times as slow). memory: bytes that the directions
    vectorized at a time may take (see ``Chunks``). chunk: their number instead. Neither changes the
    value beyond rounding.
    Raises ValueError for an unknown ``derivative``, memory or chunk < 1, x without components,
    probes or an F(x) of another shape, and RuntimeError, naming the way out, if forward mode meets
    an operation without it or F has no derivative.
    """
    engine = Engine(derivative, memory, chunk)
    dim = _check_events(x)
    if probes is None:
        return Exact(engine, dim)(field, x)
    if probes.shape[1:] != x.shape or len(probes) == 0:
        raise ValueError(
            f"probes must have the shape (n, B, D...), n >= 1, for x of shape {tuple(x.shape)}, "
            f"got {tuple(probes.shape)}"
        )
    return Hutchinson(engine, probes)(field, x)


def _check_events(x: Tensor) -> int:
    """D, the number of components of a sample."""
    if not isinstance(x, torch.Tensor) or not x.is_floating_point():
        given = x.dtype if isinstance(x, torch.Tensor) else type(x).__name__
        raise TypeError(f"x must be a floating-point torch.Tensor, got {given}")
    if x.ndim < 2 or x.shape[1:].numel() == 0:
        raise ValueError(f"x must have the shape (B, D...) with D >= 1, got {tuple(x.shape)}")
    return x.shape[1:].numel()
