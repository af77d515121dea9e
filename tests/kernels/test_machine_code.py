"""The machine code of every Triton kernel, compiled ahead of time for three GPUs, and read.

No spills to local memory, and no more instructions an element than a stated budget: the noise must
stay in registers, and an innocent change (a stock sine, a division) must not double its price.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.kernels.aot_report import read_report

ROOT = Path(__file__).parents[2]
TARGETS = ("sm_80", "sm_90", "gfx942")

# Instructions an element, by the beginning of the variant's name (the longest one counts): about
# 5 % above what Triton 3.7.1 gives, the pinned one; on sm_90 3.6 gives the same within 4 %.
BUDGETS: dict[str, dict[str, float]] = {
    # lanes=1 (samples of 1 to 3 components): a call for each normal, three words unused at a time.
    "normal fp32 lanes=4 aligned=True": {"sm_80": 43, "sm_90": 43, "gfx942": 60},
    "normal fp32 lanes=4 aligned=False": {"sm_80": 65, "sm_90": 66, "gfx942": 91},
    "normal fp32 lanes=1": {"sm_80": 125, "sm_90": 126, "gfx942": 181},
    "normal fp64 lanes=4 aligned=True": {"sm_80": 84, "sm_90": 98, "gfx942": 103},
    "normal fp64 lanes=4 aligned=False": {"sm_80": 102, "sm_90": 117, "gfx942": 122},
    "normal fp64 lanes=1": {"sm_80": 192, "sm_90": 217, "gfx942": 273},
    "normal bf16 lanes=4 aligned=True": {"sm_90": 44, "gfx942": 66},
    "normal bf16 lanes=4 aligned=False": {"sm_90": 67, "gfx942": 96},
    "normal bf16 lanes=1": {"sm_90": 128, "gfx942": 187},
    "normal fp16 lanes=4 aligned=True": {"sm_90": 44},
    "normal fp16 lanes=4 aligned=False": {"sm_90": 67},
    "normal fp16 lanes=1": {"sm_90": 128},
    "em_step fp32 lanes=4 aligned=True": {"sm_80": 47, "sm_90": 48, "gfx942": 65},
    "em_step fp32 lanes=4 aligned=False": {"sm_80": 79, "sm_90": 80, "gfx942": 112},
    "em_step fp32 lanes=1": {"sm_80": 133, "sm_90": 136, "gfx942": 199},
    "em_step fp64 lanes=4 aligned=True": {"sm_80": 91, "sm_90": 103, "gfx942": 115},
    "em_step fp64 lanes=4 aligned=False": {"sm_80": 115, "sm_90": 128, "gfx942": 143},
    "em_step fp64 lanes=1": {"sm_80": 201, "sm_90": 227, "gfx942": 286},
    "em_step bf16 lanes=4 aligned=True": {"sm_90": 51, "gfx942": 73},
    "em_step bf16 lanes=4 aligned=False": {"sm_90": 83, "gfx942": 118},
    "em_step bf16 lanes=1": {"sm_90": 140, "gfx942": 208},
    "em_step fp16 lanes=4 aligned=True": {"sm_90": 50},
    "em_step fp16 lanes=4 aligned=False": {"sm_90": 83},
    "em_step fp16 lanes=1": {"sm_90": 140},
    "em_step full g fp32 lanes=4 aligned=True": {"sm_80": 51, "sm_90": 52, "gfx942": 71},
    "em_step full g fp64 lanes=4 aligned=True": {"sm_80": 99, "sm_90": 110, "gfx942": 127},
    "em_step full g bf16 lanes=4 aligned=True": {"sm_90": 55, "gfx942": 79},
    "em_step full g fp16 lanes=4 aligned=True": {"sm_90": 54},
    "predictor_step fp32 lanes=4 aligned=True": {"sm_80": 50, "sm_90": 50, "gfx942": 66},
    "predictor_step fp64 lanes=4 aligned=True": {"sm_80": 95, "sm_90": 107, "gfx942": 120},
    "predictor_step bf16 lanes=4 aligned=True": {"sm_90": 54, "gfx942": 81},
    "predictor_step fp16 lanes=4 aligned=True": {"sm_90": 53},
    "langevin_step fp32 lanes=4 aligned=True": {"sm_80": 49, "sm_90": 49, "gfx942": 66},
    "langevin_step fp64 lanes=4 aligned=True": {"sm_80": 97, "sm_90": 110, "gfx942": 125},
    "langevin_step bf16 lanes=4 aligned=True": {"sm_90": 53, "gfx942": 74},
    "langevin_step fp16 lanes=4 aligned=True": {"sm_90": 52},
    # |s|^2 and |z|^2; where rows are whole calls, without sines and square roots.
    "norms fp32 whole=True": {"sm_80": 24, "sm_90": 25, "gfx942": 38},
    "norms fp32 whole=False": {"sm_80": 50, "sm_90": 50, "gfx942": 74},
    "norms fp64 whole=True": {"sm_80": 34, "sm_90": 35, "gfx942": 50},
    "norms fp64 whole=False": {"sm_80": 88, "sm_90": 91, "gfx942": 98},
    "norms bf16 whole=True": {"sm_90": 26, "gfx942": 39},
    "norms bf16 whole=False": {"sm_90": 52, "gfx942": 73},
    "norms fp16 whole=True": {"sm_90": 25},
    "norms fp16 whole=False": {"sm_90": 52},
    # From the sums to eps, one a sample: nothing beside the D elements of a sample.
    "step size fp32": {"sm_80": 68, "sm_90": 197, "gfx942": 125},
    "step size fp64": {"sm_80": 102, "sm_90": 109, "gfx942": 160},
    # A root alone, with its load and store; on gfx942 half of the lanes have nothing to do.
    "root": {"sm_80": 18, "sm_90": 19, "gfx942": 59},
    "root stock": {"sm_80": 26, "sm_90": 29, "gfx942": 90},
    # A stage of six slopes, and the end of a step of seven: there the decisions about a sample are
    # counted as well, and three components share them.
    "rk_stage fp32 whole=True": {"sm_80": 30, "sm_90": 31, "gfx942": 40},
    "rk_stage fp32 whole=False": {"sm_80": 42, "sm_90": 44, "gfx942": 82},
    "rk_stage fp64 whole=True": {"sm_80": 34, "sm_90": 35, "gfx942": 62},
    "rk_stage fp64 whole=False": {"sm_80": 42, "sm_90": 43, "gfx942": 84},
    "rk_finish fp32 dim=3 watched=True": {"sm_80": 887, "sm_90": 973, "gfx942": 975},
    "rk_finish fp32 dim=3 watched=False": {"sm_80": 843, "sm_90": 929, "gfx942": 906},
    "rk_finish fp32 dim=512 watched=True": {"sm_80": 344, "sm_90": 371, "gfx942": 567},
    "rk_finish fp32 dim=3072 watched=True": {"sm_80": 347, "sm_90": 374, "gfx942": 585},
    "rk_finish fp64 dim=3 watched=True": {"sm_80": 908, "sm_90": 992, "gfx942": 963},
    "rk_finish fp64 dim=3 watched=False": {"sm_80": 864, "sm_90": 954, "gfx942": 895},
    "rk_finish fp64 dim=512 watched=True": {"sm_80": 349, "sm_90": 375, "gfx942": 560},
    "rk_finish fp64 dim=3072 watched=True": {"sm_80": 338, "sm_90": 377, "gfx942": 579},
}

# Narrow accesses of global memory that a thread may make in the aligned float32 variants: loads of
# coefficients (for each element of a stage its sample's step), stores of sums.
NARROW = {"em_step full g": 1, "predictor_step": 3, "langevin_step": 4, "norms": 2, "rk_stage": 14}


def budget(variant: str, target: str) -> float | None:
    """The budget of a variant: the row with the longest name that begins it."""
    rows = [name for name in BUDGETS if variant.startswith(name)]
    return BUDGETS[max(rows, key=len)].get(target) if rows else None


@pytest.fixture(scope="module")
def everything() -> dict[tuple[str, str], dict[str, Any]]:
    """(variant, target) -> what was read, the controls included."""
    return read_report("tests.kernels.aot_steps")


@pytest.fixture(scope="module")
def report(everything) -> dict[tuple[str, str], dict[str, Any]]:
    """The same without the controls."""
    return {key: read for key, read in everything.items() if not key[0].startswith("control")}


def test_every_target_is_compiled(report):
    for prefix in {variant.split()[0] for variant, _ in report}:
        seen = {target for variant, target in report if variant.split()[0] == prefix}
        assert seen >= set(TARGETS), prefix


def spilled(read: dict[str, Any]) -> bool:
    """Whether a kernel touches memory that is private to a thread."""
    return any(read.get(key, 0) for key in ("local", "stack", "spills", "local_access"))


def test_nothing_spills(report):
    guilty = {key: read for key, read in report.items() if spilled(read)}
    assert not guilty


def test_a_kernel_that_spills_is_found(everything):
    """The same reading finds a kernel that was given too few registers guilty."""
    controls = [read for (variant, _), read in everything.items() if variant.startswith("control")]
    assert controls and all(spilled(read) for read in controls)


def test_instructions_are_within_the_budget(report):
    over = []
    for (variant, target), read in report.items():
        if target not in TARGETS:
            continue
        per_element = read["instructions"] / read["per_thread"]
        limit = budget(variant, target)
        if limit is None or not 0.5 * limit < per_element <= limit:
            over.append(f"{variant} {target}: {per_element:.1f} an element, budget {limit}")
    # Below half of its budget the row is stale, or the reading is broken.
    assert not over, "\n".join(over)


# An H200 by its datasheet: 132 multiprocessors start 128 instructions a cycle each (of one thread;
# 32 of a warp at a time) at 1.98 GHz at the most, and memory moves 4.8 TB/s, of which copies reach
# nine tenths.
STARTED = 132 * 128 * 1.98e9
AIM = 0.85 * 0.9 * 4.8e12

# Bytes an element that a kernel must move; whether an H200 can start its instructions meanwhile.
MEMORY_OR_NOISE = {
    "em_step fp32 lanes=4 aligned=True": (12, True),
    "predictor_step fp32 lanes=4 aligned=True": (16, True),
    "langevin_step fp32 lanes=4 aligned=True": (12, True),
    "norms fp32 whole=True": (4, True),
    "em_step fp64 lanes=4 aligned=True": (24, True),
    "predictor_step bf16 lanes=4 aligned=True": (8, True),
    "em_step bf16 lanes=4 aligned=True": (6, True),
    "langevin_step bf16 lanes=4 aligned=True": (6, True),
    # The same noise for few bytes, and a call of four words for each normal.
    "norms bf16 whole=True": (2, False),
    "em_step fp32 lanes=1 aligned=True": (12, False),
}


# From an estimate y of 1 / sqrt x.
ROOT = "(((x * y) * -(x * y) + x) * (0.5 * y) + (x * y))"


def test_which_steps_an_h200_has_the_instructions_for(report):
    """Whether 85 % of a copy's bandwidth is within reach at all, by counting; not a measurement.

    For the aligned steps it is, as far as starts of instructions go; some kinds of them take more
    than one. For the norms of 16-bit scores and for an ``em_step`` of float32 samples of up to
    three components it is not: the noise is the bound, whatever memory could do.
    """
    for variant, (moved, within) in MEMORY_OR_NOISE.items():
        read = report[variant, "sm_90"]
        per_element = read["instructions"] / read["per_thread"]
        assert (per_element * AIM / moved < STARTED) is within, variant


def test_the_root_is_the_stock_one_without_its_jumps(report):
    """NVIDIA's root is correctly rounded, and this is what it does with the numbers of the noise.

    The stock one takes the short way for numbers whose bits, less 0xd000000, are 0x727fffff at the
    most: from 2^-101 on. ``test_root.py`` has what is proved of the roots on other machines.
    """
    targets = {target for name, target in report if name == "root"} - {"gfx942"}
    assert targets == {"sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"}
    for target in targets:
        ours, stock = report["root", target], report["root stock", target]
        assert ours["formula"] == stock["formula"] == ROOT, target
        assert {"-0xd000000", "0x727fffff"} <= set(stock["numbers"]), target
        assert ours["instructions"] < stock["instructions"]


def test_every_budget_is_used(report):
    used = {name for variant, _ in report for name in BUDGETS if variant.startswith(name)}
    assert used == set(BUDGETS)


def test_aligned_float32_moves_16_bytes_at_a_time(report):
    """Samples of a whole number of calls: every tensor is moved by accesses of 128 bits."""
    checked = 0
    for (variant, target), read in report.items():
        name, whole, _ = variant.partition(" fp32 lanes=4 aligned=True")
        if not whole:
            name, whole, _ = variant.partition(" fp32 whole=True")
        if whole:
            narrow = read["global"] - read["wide"]
            assert read["wide"] > 0 and narrow <= NARROW.get(name, 0), (variant, target, read)
            checked += 1
    assert checked >= len(TARGETS)


def test_aligned_float32_needs_no_shared_memory(report):
    """The four lanes of a call stay in the thread that made them."""
    for (variant, target), read in report.items():
        if variant.startswith("normal fp32 lanes=4 aligned=True"):
            assert read["shared_access"] == 0, (variant, target)
