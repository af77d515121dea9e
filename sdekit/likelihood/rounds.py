r"""How many probes a standard error takes: a first set decides, a second one answers.

If a sample stopped as soon as the spread of its own probes happened to be small, its value would
be biased (in a skewed law mean and spread go together) and its error would be told too small. So a
first set of n_1 probes, whose spread says sigma_1, chooses no more than the number of the next,

    n_2 = 2 n_1 (sigma_1 / asked)^2,

and an independent second set alone gives the value: two stages, after Stein 1945 ("A two-sample
test for a linear hypothesis whose power is independent of the variance"), but without his pooling
of the means, which is unbiased for normal numbers only. The 2 pays for the degrees of freedom of
the first set: over columns from normal to chi^2_1 the root mean square of the error is 0.6 to 0.9
of what was asked, where 1.5 gives up to 0.98.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

__all__ = ["LEAST", "first_set", "per_call", "second_error", "second_sets"]

LEAST: Final = {"hutchinson": 2, "hutch++": 4, "xtrace": 4}
"""Probes of which a method can tell an error: two columns that are free to differ."""

# 16 columns: 15 degrees of freedom.
_FIRST: Final = {"hutchinson": 16, "hutch++": 48, "xtrace": 32}
_DEGREES: Final = 15.0
_MARGIN: Final = 2.0
_SHARED: Final = 1.5


def per_call(kind: str, n_probes: int) -> int:
    """Products with the Jacobian that ``n_probes`` of a method take at each call."""
    return n_probes - n_probes // 3 if kind == "hutch++" else n_probes


def first_set(kind: str, n_probes: int, max_probes: int, dim: int) -> tuple[str, int, bool]:
    """(method, number of probes, whether a second set follows) of all samples.

    Where two sets cost what D directions do, the exact divergence; where ``max_probes`` has no room
    for two, one set of that many, whose number no spread has chosen.
    """
    n = max(n_probes, _FIRST[kind])
    if 2 * per_call(kind, n) >= dim and dim <= max_probes:
        return "exact", n, False
    if 2 * n > max_probes:
        return kind, max_probes, False
    return kind, n, True


def second_sets(
    error: Tensor, asked: float, kind: str, n_first: int, max_probes: int, dim: int
) -> list[tuple[str, int, Tensor]]:
    """(method, number of probes, which samples) of the second sets, by the errors of the first.

    error: (B,), of the first set of n_first. Numbers are rounded up to n_first times 1, 1.5, 2, 3,
    4, 6 ..., so that few solves serve all samples; to max_probes less n_first at the most.
    """
    room = max_probes - n_first
    need = (_MARGIN * (error.double() / asked).square()).clamp(min=1.0)
    power = need.log2().floor().exp2()
    factor = torch.where(need <= power, 1.0, torch.where(need <= 1.5 * power, 1.5, 2.0))
    # 1e9: what no memory holds, but an integer can.
    counts = (n_first * power * factor).clamp(max=min(room, 10**9)).ceil().to(torch.int64)
    sets: dict[tuple[str, int], Tensor] = {}
    for n in counts.unique().tolist():
        chosen = counts == n
        key = ("exact", n_first) if per_call(kind, n) >= dim and dim <= room else (kind, n)
        sets[key] = sets[key] | chosen if key in sets else chosen
    return [(name, n, chosen) for (name, n), chosen in sets.items()]


def second_error(own: Tensor, first: Tensor, kind: str, n_first: int, n: int) -> Tensor:
    r"""The error that a second set's value is given: its own spread's, or, if larger, the first's.

    For hutchinson, whose variance falls as 1 / n, the first set says \sigma_1 \sqrt{n_1 / n}, times
    the square root of nu / (nu - 2), Student's variance, for its nu degrees of freedom. By either
    alone 2 to 6 of 100 errors were beyond three times that in skewed columns, by the larger 1.
    XTrace's columns share their sketches, and its own estimate is too small: over spectra 1 / j to
    2^-j its variance was 1.1 to 1.7 times what it tells; here it is given 1.5.
    """
    if kind == "xtrace":
        return math.sqrt(_SHARED) * own
    if kind != "hutchinson":
        return own
    degrees = max(_DEGREES, n_first - 1.0)
    factor = math.sqrt(degrees / (degrees - 2.0) * n_first / n)
    return torch.maximum(own, factor * first)
