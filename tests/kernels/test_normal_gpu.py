"""The noise on a GPU is the noise on the CPU, to the last bit. Needs a CUDA or ROCm device."""

from __future__ import annotations

import pytest
import torch
from sdekit_kernels import normal

from tests.kernels.bits import same_bits

pytest.importorskip("numba", reason="what the GPU is held to is Numba on the CPU")
from tests.kernels.probes import (
    extreme_words,
    numba_pairs,
    numba_words,
    torch_pairs,
    triton_pairs,
    triton_roots,
    triton_words,
)

pytestmark = pytest.mark.gpu

SHAPES = [
    *((5, d) for d in range(1, 10)),
    (1, 784),
    (3, 784),
    (257, 784),
    (7, 5001),
    (1000, 3),
    (100_003, 1),
    (33, 3, 32, 32),
    (2, 1_000_003),
]
STEPS = (*range(8), (1 << 32) - 1)
DRAW = {"seed": -5, "stream": 7, "first_sample": (1 << 32) - 2}
EPS64 = 2.0**-53


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_triton_on_the_gpu_is_numba_on_the_cpu(shape, dtype):
    for step in STEPS:
        draw = {**DRAW, "step": step, "dtype": dtype}
        expected = normal(shape, device="cpu", backend="numba", **draw)
        got = normal(shape, device="cuda", backend="triton", **draw)
        assert got.device.type == "cuda" and same_bits(got, expected), step


@pytest.mark.parametrize("shape", SHAPES)
def test_float64_is_the_same_to_rounding(shape):
    """Both sides are within 5 half units of the exact value."""
    for step in STEPS:
        draw = {**DRAW, "step": step, "dtype": torch.float64}
        expected = normal(shape, device="cpu", backend="numba", **draw)
        got = normal(shape, device="cuda", backend="triton", **draw).cpu()
        assert ((got - expected).abs() <= 10 * EPS64 * expected.abs()).all()


@pytest.mark.parametrize("shape", [(5, 1), (5, 3), (5, 6), (3, 784), (2, 5001)])
def test_reference_on_the_gpu_is_the_reference_on_the_cpu(shape):
    for step in (0, 1, 2, 3):
        expected = normal(shape, backend="torch", step=step, **DRAW)
        got = normal(shape, device="cuda", backend="torch", step=step, **DRAW)
        assert same_bits(got, expected)
        assert same_bits(normal(shape, device="cuda", step=step, **DRAW), expected)


def test_auto_is_triton():
    expected = normal((100, 6), device="cuda", backend="triton", **DRAW)
    assert same_bits(normal((100, 6), device="cuda", **DRAW), expected)


def test_words_of_2_to_the_20_counters(triton_device):
    generator = torch.Generator().manual_seed(5)
    counters = torch.randint(0, 1 << 32, (1 << 20, 4), generator=generator)
    keys = torch.randint(0, 1 << 32, (1 << 20, 2), generator=generator)
    assert torch.equal(triton_words(counters, keys, triton_device), numba_words(counters, keys))


def test_normals_of_2_to_the_26_pairs_of_words(triton_device):
    generator = torch.Generator().manual_seed(6)
    for _ in range(16):
        w0 = torch.randint(0, 1 << 32, (1 << 22,), generator=generator)
        w1 = torch.randint(0, 1 << 32, (1 << 22,), generator=generator)
        got = triton_pairs(w0, w1, torch.float32, triton_device)
        assert same_bits(got, numba_pairs(w0, w1, torch.float32))


def test_normals_of_extreme_words(triton_device):
    extreme = extreme_words(near=1024)
    generator = torch.Generator().manual_seed(7)
    partner = torch.randint(0, 1 << 32, extreme.shape, generator=generator)
    for w0, w1 in ((extreme, partner), (partner, extreme), (extreme, extreme.flip(0))):
        got = triton_pairs(w0, w1, torch.float32, triton_device)
        assert same_bits(got, numba_pairs(w0, w1, torch.float32))
        assert same_bits(got, torch_pairs(w0, w1, torch.float32))


def test_splitting_a_batch_on_the_gpu():
    whole = normal((1000, 37), device="cuda", **DRAW)
    parts = []
    for first, n in ((0, 1), (1, 2), (3, 500), (503, 497)):
        draw = DRAW | {"first_sample": DRAW["first_sample"] + first}
        parts.append(normal((n, 37), device="cuda", **draw))
    assert same_bits(torch.cat(parts), whole)


def test_more_than_2_to_the_31_elements():
    """Offsets need 64 bits: the last samples of 9 GiB are those drawn alone (16-bit type)."""
    if torch.cuda.mem_get_info()[0] < 12 << 30:
        pytest.skip("needs 12 GiB of GPU memory")
    n, dim = (1 << 20) + 5, 4099
    whole = normal((n, dim), device="cuda", dtype=torch.bfloat16, seed=3)
    for first in (0, n // 2, n - 7):
        part = normal((7, dim), device="cuda", dtype=torch.bfloat16, seed=3, first_sample=first)
        assert same_bits(whole[first : first + 7], part)


def test_current_stream_is_used():
    """On a side stream, with the work in order and no synchronization in between."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        z = normal((64, 784), device="cuda", seed=9)
        doubled = z + z
    stream.synchronize()
    assert same_bits(doubled.cpu(), 2 * normal((64, 784), seed=9))


def test_every_square_root_is_the_right_one():
    """Of all numbers in [1, 4); the others are these times powers of four."""
    first, last = (torch.tensor(v).view(torch.int32).item() for v in (1.0, 4.0))
    x = torch.arange(first, last, dtype=torch.int32).view(torch.float32)
    assert torch.equal(triton_roots(x, torch.device("cuda")), x.double().sqrt().float())
