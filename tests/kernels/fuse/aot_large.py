"""Compile the trajectory kernels of large states as ``aot_trajectory`` does and read them.

Run as a program (``python -m tests.kernels.fuse.aot_large --jobs 2``).
"""

from __future__ import annotations

import time
from functools import partial

from tests.kernels import aot
from tests.kernels.fuse import large
from tests.kernels.fuse.aot_trajectory import (
    ALL,
    F32,
    F64,
    Variant,
    compile_variant,
    look,
    tasks_of,
)

VARIANTS: dict[str, Variant] = {
    "64": Variant(partial(large.elementwise, 64, F32)),
    "64 saved": Variant(partial(large.elementwise, 64, F32), save=True),
    "63 pairs": Variant(partial(large.elementwise, 63, F32), pairs=True),
    "64 neighbours float64": Variant(partial(large.neighbours, 64, F64), targets=ALL),
    "32 linear float64": Variant(partial(large.linear, 32, F64)),
    "16 general": Variant(partial(large.general, 16, F32)),
    "16 general float64": Variant(partial(large.general, 16, F64), targets=("sm_90", "gfx942")),
    "64 heun float64": Variant(partial(large.heun, 64, F64)),
    "64 flow float64": Variant(partial(large.flow, 64, F64)),
    "64 one noise float64": Variant(partial(large.one_noise, 64, F64)),
    "64 longest": Variant(partial(large.sines, 64, F32, large.LONGEST)),
    "64 softmax float64": Variant(partial(large.softmax, 64, F64)),
}


def make(task: tuple[str, str]) -> aot.Piece:
    """Compile one variant for one target, and tell the processor time that it takes."""
    name, target = task
    start = time.process_time()
    piece = compile_variant(name, VARIANTS[name], target)
    return piece._replace(told=piece.told | {"seconds": time.process_time() - start})


if __name__ == "__main__":
    aot.print_report(tasks_of(VARIANTS), make, look)
