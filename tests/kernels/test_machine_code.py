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
# 5 % above the larger of what Triton 3.7.1 (the pinned one) and 3.9 give.
BUDGETS: dict[str, dict[str, float]] = {
    # lanes=1 (samples of 1 to 3 components): a call for each normal, three words unused at a time.
    "normal fp32 lanes=4 aligned=True": {"sm_80": 56, "sm_90": 55, "gfx942": 71},
    "normal fp32 lanes=4 aligned=False": {"sm_80": 79, "sm_90": 79, "gfx942": 104},
    "normal fp32 lanes=1": {"sm_80": 160, "sm_90": 162, "gfx942": 217},
    "normal fp64 lanes=4 aligned=True": {"sm_80": 89, "sm_90": 98, "gfx942": 111},
    "normal fp64 lanes=4 aligned=False": {"sm_80": 106, "sm_90": 117, "gfx942": 129},
    "normal fp64 lanes=1": {"sm_80": 212, "sm_90": 233, "gfx942": 292},
    "normal bf16 lanes=4 aligned=True": {"sm_90": 56, "gfx942": 78},
    "normal bf16 lanes=4 aligned=False": {"sm_90": 80, "gfx942": 110},
    "normal bf16 lanes=1": {"sm_90": 163, "gfx942": 224},
    "normal fp16 lanes=4 aligned=True": {"sm_90": 56},
    "normal fp16 lanes=4 aligned=False": {"sm_90": 80},
    "normal fp16 lanes=1": {"sm_90": 163},
    "em_step fp32 lanes=4 aligned=True": {"sm_80": 62, "sm_90": 64, "gfx942": 82},
    "em_step fp32 lanes=4 aligned=False": {"sm_80": 94, "sm_90": 96, "gfx942": 130},
    "em_step fp32 lanes=1": {"sm_80": 178, "sm_90": 180, "gfx942": 255},
    "em_step fp64 lanes=4 aligned=True": {"sm_80": 101, "sm_90": 111, "gfx942": 130},
    "em_step fp64 lanes=4 aligned=False": {"sm_80": 122, "sm_90": 136, "gfx942": 158},
    "em_step fp64 lanes=1": {"sm_80": 237, "sm_90": 256, "gfx942": 329},
    "em_step bf16 lanes=4 aligned=True": {"sm_90": 67, "gfx942": 91},
    "em_step bf16 lanes=4 aligned=False": {"sm_90": 99, "gfx942": 137},
    "em_step bf16 lanes=1": {"sm_90": 185, "gfx942": 262},
    "em_step fp16 lanes=4 aligned=True": {"sm_90": 66},
    "em_step fp16 lanes=4 aligned=False": {"sm_90": 99},
    "em_step fp16 lanes=1": {"sm_90": 185},
    "em_step full g fp32 lanes=4 aligned=True": {"sm_80": 67, "sm_90": 68, "gfx942": 85},
    "em_step full g fp64 lanes=4 aligned=True": {"sm_80": 110, "sm_90": 122, "gfx942": 145},
    "em_step full g bf16 lanes=4 aligned=True": {"sm_90": 71, "gfx942": 94},
    "em_step full g fp16 lanes=4 aligned=True": {"sm_90": 70},
    "predictor_step fp32 lanes=4 aligned=True": {"sm_80": 62, "sm_90": 62, "gfx942": 78},
    "predictor_step fp64 lanes=4 aligned=True": {"sm_80": 102, "sm_90": 111, "gfx942": 127},
    "predictor_step bf16 lanes=4 aligned=True": {"sm_90": 66, "gfx942": 93},
    "predictor_step fp16 lanes=4 aligned=True": {"sm_90": 65},
    "langevin_step fp32 lanes=4 aligned=True": {"sm_80": 63, "sm_90": 64, "gfx942": 79},
    "langevin_step fp64 lanes=4 aligned=True": {"sm_80": 103, "sm_90": 116, "gfx942": 136},
    "langevin_step bf16 lanes=4 aligned=True": {"sm_90": 67, "gfx942": 88},
    "langevin_step fp16 lanes=4 aligned=True": {"sm_90": 66},
    # |s|^2 and |z|^2; where rows are whole calls, without sines and square roots.
    "norms fp32 whole=True": {"sm_80": 30, "sm_90": 31, "gfx942": 43},
    "norms fp32 whole=False": {"sm_80": 68, "sm_90": 69, "gfx942": 84},
    "norms fp64 whole=True": {"sm_80": 38, "sm_90": 39, "gfx942": 50},
    "norms fp64 whole=False": {"sm_80": 96, "sm_90": 100, "gfx942": 104},
    "norms bf16 whole=True": {"sm_90": 32, "gfx942": 43},
    "norms bf16 whole=False": {"sm_90": 70, "gfx942": 84},
    "norms fp16 whole=True": {"sm_90": 30},
    "norms fp16 whole=False": {"sm_90": 70},
    # From the sums to eps, one a sample: nothing beside the D elements of a sample.
    "step size fp32": {"sm_80": 68, "sm_90": 197, "gfx942": 125},
    "step size fp64": {"sm_80": 102, "sm_90": 109, "gfx942": 160},
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
    "rk_finish fp64 dim=3072 watched=True": {"sm_80": 352, "sm_90": 377, "gfx942": 579},
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
    return read_report("tests.kernels.aot")


@pytest.fixture(scope="module")
def report(everything) -> dict[tuple[str, str], dict[str, Any]]:
    """The same without the controls."""
    return {key: read for key, read in everything.items() if not key[0].startswith("control")}


def test_every_target_is_compiled(report):
    for prefix in {variant.split()[0] for variant, _ in report}:
        seen = {target for variant, target in report if variant.split()[0] == prefix}
        assert seen == set(TARGETS), prefix


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
    # The same noise for half the bytes, and a call of four words for each normal.
    "em_step bf16 lanes=4 aligned=True": (6, False),
    "langevin_step bf16 lanes=4 aligned=True": (6, False),
    "norms bf16 whole=True": (2, False),
    "em_step fp32 lanes=1 aligned=True": (12, False),
}


def test_which_steps_an_h200_has_the_instructions_for(report):
    """Whether 85 % of a copy's bandwidth is within reach at all, by counting; not a measurement.

    For the aligned steps of float32 it is, as far as starts of instructions go; some kinds of them
    take more than one. For those of 16-bit states and of samples of up to three components it is
    not: the noise is the bound, whatever memory could do.
    """
    for variant, (moved, within) in MEMORY_OR_NOISE.items():
        read = report[variant, "sm_90"]
        per_element = read["instructions"] / read["per_thread"]
        assert (per_element * AIM / moved < STARTED) is within, variant


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
