"""Machine code of the kernels of large states, compiled ahead of time and read.

Up to 64 components, and 16 x 16 of general noise, in float32 and float64, stay in registers. What
does not is counted, and what would take too long to compile is no kernel.
"""

from __future__ import annotations

from typing import Any

import pytest
from sdekit_kernels.fuse._triton.build import MAX_LINES, Gpu, fits, launch_shape
from sdekit_kernels.fuse._triton.registers import care_of, live_words
from sdekit_kernels.fuse._triton.size import lines_of, unrolls
from sdekit_kernels.fuse.run import kernel_obstacle

from tests.kernels.aot_report import read_report
from tests.kernels.fuse import large

# Instructions in the loop for each normal (of "one noise", a quarter of a step; of "flow", which
# has none, a step) and its share of the step, on sm_90 and sm_80: 3 % above what Triton 3.7.1 gives
# for the costlier one.
BUDGETS: dict[str, float] = {
    "64": 38,
    "64 saved": 41.5,
    "63 pairs": 39,
    "64 neighbours float64": 100.5,
    "32 linear float64": 161,
    "16 general": 87.5,
    "16 general float64": 146,
    "64 heun float64": 109,
    "64 flow float64": 1344,
    "64 one noise float64": 91.5,
    "64 longest": 115,
    "64 softmax float64": 177,
}
# 15 warps a processor, or 16. Held to 128, "64" has the instructions that it has without a limit,
# but the longest step spills.
REGISTERS = {"64": 136, "64 saved": 128, "63 pairs": 128, "16 general": 128}
SPILLS = {"64 softmax float64": 0.02}  # 266 words at once; the share of the loop's instructions
SECONDS = 40  # of a processor, for the longest; some 6 where nothing else runs


@pytest.fixture(scope="module")
def report() -> dict[tuple[str, str], dict[str, Any]]:
    """(variant, target) -> what was read."""
    return read_report("tests.kernels.fuse.aot_large")


def test_large_states_stay_in_registers(report):
    for key, read in report.items():
        if key[0] not in SPILLS:
            used = {name: read.get(name, 0) for name in ("local", "stack", "local_access")}
            assert not any(used.values()), (key, used)
        assert read["shared_access"] == 0, key


def test_few_words_beyond_the_registers_cost_little(report):
    for name, share in SPILLS.items():
        read = report[name, "sm_90"]
        assert 0 < read["local_access"] <= share * read["loop"], read


def test_warps_have_room_beside_each_other(report):
    for name, limit in REGISTERS.items():
        assert report[name, "sm_90"]["registers"] <= limit, name


def test_instructions_are_within_the_budget(report):
    over = []
    for (variant, target), read in report.items():
        if "loop" in read:
            cost, limit = read["loop"] / read["normals"], BUDGETS[variant]
            if not 0.7 * limit < cost <= limit:
                over.append(f"{variant} {target}: {cost:.1f} a normal, budget {limit}")
    assert not over, "\n".join(over)


def test_every_budget_is_used(report):
    assert {variant for variant, _ in report} == set(BUDGETS)


def test_the_longest_kernel_compiles_in_time(report):
    assert report["64 longest", "sm_90"]["seconds"] < SECONDS


def test_a_step_that_is_too_long_is_no_kernel_for_a_gpu():
    longest = large.sines(64, large.F32, large.LONGEST)
    longer = large.sines(64, large.F32, large.LONGEST + 1)
    assert 0.8 * MAX_LINES < lines_of(longest) <= MAX_LINES < lines_of(longer)
    assert fits(longest) == kernel_obstacle(longest, "triton") == ""
    assert f"{lines_of(longer)} operations" in kernel_obstacle(longer, "triton")
    assert kernel_obstacle(longer, "numba") == ""


def test_words_that_are_live_at_once():
    """By hand: the state, the normals of one call, the next state that is made meanwhile."""
    elementwise = large.elementwise(64, large.F32)
    # All 64 old or new states, three normals still to be used, and two numbers of a sum.
    assert 64 + 3 <= live_words(elementwise) <= 64 + 6
    assert live_words(large.elementwise(64, large.F64)) == 2 * live_words(elementwise)
    # The old state and the next one, but for what is begun late.
    assert 2 * (64 - 3) <= live_words(large.linear(32, large.F64)) <= 2 * (64 + 6)


def test_care_is_taken_where_it_is_needed():
    assert care_of(large.elementwise(4, large.F32)) == (0, False)
    assert care_of(large.elementwise(8, large.F32)) == (1, False)
    assert care_of(large.elementwise(64, large.F32)) == (2, False)
    assert care_of(large.linear(16, large.F32)).reload
    assert care_of(large.flow(64, large.F64)).hide == 1
    assert unrolls(large.one_noise(3, large.F32))
    assert not unrolls(large.one_noise(64, large.F64))
    gpu = Gpu(132, 32, False)
    assert launch_shape(large.neighbours(64, large.F64), 1 << 20, gpu).registers == 255
    assert launch_shape(large.neighbours(64, large.F64), 1 << 20, Gpu(304, 64, True))[2] is None
