"""What a kernel does with its states in place of saving them, as lines of its source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from sdekit_kernels.fuse.statistics import Group

__all__ = ["FUNCTIONS", "POINTERS", "SIZES", "WHERE", "reductions"]

FUNCTIONS: Final = ("add_counts", "add_sum", "away", "is_number")
"""What the lines call, of ``statistics``."""
POINTERS: Final = ("at", "moments", "counts")
"""Arguments of the kernel in place of ``saved``: the fields of ``Statistics``."""
SIZES: Final = ("results", "bins", "shards", "last")
"""Their sizes, and whether the other groups are reduced after the last step."""
_WHERE: Final = (*POINTERS, "results", "bins", "part", "shard", "inside")
WHERE: Final = ("slots", *_WHERE)
"""What ``save`` needs beside the state. part, shard: of ``moments`` and ``counts``."""


def reductions(groups: Sequence[Group], states: Sequence[str]) -> Iterator[str]:
    """The functions ``save``, for after each step, and ``save_last``, for after the last one."""
    for g, group in enumerate(groups):
        yield from _reduction(groups, g, states[group.first : group.first + group.size])
    yield "\n@triton.jit"
    yield f"def save(k, {', '.join([*WHERE, *states])}):"
    yield '    """Reduce the state after step k where the step has a slot."""'
    yield "    slot = tl.load(slots + k)"
    yield "    if slot >= 0:"
    yield f"        {_call(groups, 0, 'slot', states)}"
    yield ""
    yield "\n@triton.jit"
    yield f"def save_last({', '.join([*_WHERE, *states])}):"
    yield '    """Reduce what is wanted of the last state alone."""'
    for g in range(1, len(groups)):
        yield f"    {_call(groups, g, f'results - {len(groups) - g}', states)}"
    if len(groups) == 1:
        yield "    pass"
    yield ""


def _call(groups: Sequence[Group], g: int, result: str, states: Sequence[str]) -> str:
    part = states[groups[g].first : groups[g].first + groups[g].size]
    return f"reduce_{g}({result}, {', '.join([*_WHERE, *part])})"


def _reduction(groups: Sequence[Group], g: int, x: Sequence[str]) -> Iterator[str]:
    """The function that reduces group g, made of the states x, into one result."""
    wide = max(group.size for group in groups)
    entries = max(len(group.entries) for group in groups)
    yield "\n@triton.jit"
    yield f"def reduce_{g}(result, {', '.join([*_WHERE, *x])}):"
    yield f'    """Sums and counts of {x[0]} to {x[-1]}."""'
    yield f"    ok = inside & {' & '.join(f'is_number({name})' for name in x)}"
    yield f"    centre = at + result * {wide}"
    yield "    w0 = ok.to(tl.float64)"
    for j, name in enumerate(x):
        yield f"    w{j + 1} = away({name}, centre + {j}, ok)"
    yield f"    mine = moments + (part * results + result) * {entries}"
    for m, (i, j) in enumerate(groups[g].entries):
        terms = f"w{j}" if i == 0 else f"w{i} * w{j}"
        yield f"    add_sum(mine + {m}, {terms})"
    yield "    if bins > 0:"
    yield f"        low = centre + results * {wide}"
    yield f"        scale = low + results * {wide}"
    yield f"        row = counts + (shard * results + result) * {wide} * (bins + 3)"
    for j, name in enumerate(x):
        yield f"        add_counts({name}, ok, low + {j}, scale + {j}, row, bins)"
        if j + 1 < len(x):
            yield "        row += bins + 3"
    yield ""
