"""How arrays are cut: the division by multiplication is exact, blocks cover every element once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sdekit_kernels.geometry import CPU_BLOCK, cpu_block, gpu_tiling, magic_division

LIMIT = 1 << 31
DIVISORS = st.one_of(
    st.integers(1, 5000),
    st.integers(1, LIMIT - 1),
    st.integers(0, 30).map(lambda i: 1 << i),
    st.integers(2, 31).map(lambda i: (1 << i) - 1),
    st.integers(1, 30).map(lambda i: (1 << i) + 1),
)


def divide(n: int, d: int) -> int:
    """n // d as the GPU does it; every intermediate number must fit into 32 bits."""
    magic, shift = magic_division(d)
    assert 0 <= magic < 1 << 32 and 0 <= shift < 32
    total = ((n * magic) >> 32) + n
    assert total < 1 << 32
    return total >> shift


@given(DIVISORS, st.integers(0, LIMIT - 1))
def test_magic_division(d, n):
    borders = {n, n // d * d, n // d * d - 1, n // d * d + d, LIMIT - 1, (LIMIT - 1) // d * d - 1}
    for m in borders:
        if 0 <= m < LIMIT:
            assert divide(m, d) == m // d


@pytest.mark.parametrize("d", [1, 2, 3, 4, 5, 6, 7, 196, 641, 1251, 65535, 65537, LIMIT - 1])
def test_magic_division_at_every_kind_of_border(d):
    multiples = {*range(50), *((LIMIT - 1) // d - i for i in range(50))}
    for q in multiples:
        for n in (q * d - 1, q * d, q * d + 1):
            if 0 <= n < LIMIT:
                assert divide(n, d) == n // d


@given(st.integers(0, 20000), st.integers(1, 5000))
def test_cpu_blocks_are_whole_samples_or_whole_calls(dim, elements):
    block = cpu_block(dim, elements)
    assert block.rows >= 1 and block.cols >= 1
    assert block.rows == 1 or block.cols == dim
    assert block.cols == max(dim, 1) or block.cols % 4 == 0
    # Scratch arrays are in proportion: at most the given number, or one Philox call.
    assert block.rows * block.cols <= max(elements, 4)


@pytest.mark.parametrize("dim", [1, 2, 3, 4, 5, 17, 60])
def test_blocks_of_many_samples_leave_nothing_to_scalar_loops(dim):
    assert cpu_block(dim).rows % 16 == 0
    assert cpu_block(dim).rows * dim > CPU_BLOCK // 2


def test_default_cpu_block_divides_in_float32():
    """``block_words`` finds a call's row by a float32 product, exact below 2^22 calls a block."""
    for dim in (*range(1, 10), 784, 5001):
        block = cpu_block(dim)
        assert block.rows * (-(-block.cols // 4) if dim >= 4 else block.cols) <= CPU_BLOCK < 1 << 22


@given(st.integers(1, LIMIT - 1))
def test_gpu_tiling_has_a_place_for_every_component(dim):
    tiling = gpu_tiling(dim)
    assert tiling.lanes == (4 if dim >= 4 else 1)
    assert 0 <= tiling.per_row * tiling.lanes - dim < tiling.lanes
    assert tiling.aligned == (dim % tiling.lanes == 0)
