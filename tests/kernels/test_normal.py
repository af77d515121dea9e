"""``normal``: every backend gives the normals of the definition, to the last bit in float32."""

from __future__ import annotations

import hashlib
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sdekit_kernels import normal
from sdekit_kernels.philox import normal as module

from tests.kernels.bits import same_bits, ulp_distance
from tests.kernels.probes import naive_normal

DIMS = (*range(1, 10), 784, 5001)
BIG = (1 << 64) - 1
ACROSS = (1 << 32) - 2
"""first_sample for which the sample's high word changes inside the batch."""
DRAWS = [
    {"seed": 0, "stream": 0, "first_sample": 0},
    {"seed": -5, "stream": 7, "first_sample": ACROSS},
    {"seed": BIG, "stream": (1 << 32) - 1, "first_sample": (1 << 63) - 6},
    {"seed": -(1 << 63), "stream": 1, "first_sample": (5 << 32) - 1},
]
EPS64 = 2.0**-53


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("dim", DIMS)
def test_numba_is_the_reference_to_the_last_bit(dim, draw):
    for step in (*range(8), (1 << 32) - 1):
        expected = normal((5, dim), step=step, backend="torch", **draw)
        assert same_bits(normal((5, dim), step=step, backend="numba", **draw), expected)


@pytest.mark.parametrize("dim", DIMS)
def test_triton_is_the_reference(dim, triton_device):
    """To the last bit, under an interpreter that rounds before it adds as well."""
    for step in (0, 3, 6) if dim < 784 else (2,):
        draw = {**DRAWS[1], "step": step}
        expected = normal((3, dim), backend="torch", **draw)
        got = normal((3, dim), backend="triton", device=triton_device, **draw)
        assert same_bits(got.cpu(), expected)


@given(
    st.integers(-(1 << 63), BIG),
    st.integers(0, (1 << 32) - 1),
    st.integers(0, (1 << 32) - 1),
    st.one_of(st.integers(0, 9), st.integers(ACROSS - 4, ACROSS + 4), st.integers(0, 1 << 62)),
    st.integers(1, 12),
)
def test_layout_is_the_definition(seed, stream, step, sample, dim):
    """Which counter and which lane, against Python integers that share no code with the layout.

    naive_normal does not reduce its angle by quadrants: an error of up to 2 pi 2^-53 in it moves a
    normal of radius below 7 by 1e-14.
    """
    z = normal(
        (2, dim), seed=seed, stream=stream, step=step, first_sample=sample, dtype=torch.double
    )
    for i in range(2):
        for d in range(dim):
            expected = naive_normal(seed, stream, step, sample + i, d, dim)
            assert abs(float(z[i, d]) - expected) < 1e-14


@pytest.mark.parametrize("dim", DIMS)
def test_float64_backends_agree(dim, triton_device):
    """Each is within 5 half units of the exact value (see test_normal_accuracy)."""
    for step in (0, 1, 6):
        draw = {**DRAWS[1], "step": step, "dtype": torch.float64}
        expected = normal((3, dim), backend="torch", **draw)
        others = [normal((3, dim), backend="numba", **draw)]
        if dim < 784:
            others.append(normal((3, dim), backend="triton", device=triton_device, **draw).cpu())
        for got in others:
            assert ((got - expected).abs() <= 10 * EPS64 * expected.abs()).all()


@pytest.mark.parametrize("dim", [1, 3, 6, 8, 784])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bit_types_are_the_float32_value_rounded_once(dtype, dim, triton_device):
    draw = {**DRAWS[1], "step": 1}
    expected = normal((7, dim), backend="torch", **draw).to(dtype)
    for backend in ("torch", "numba"):
        assert same_bits(normal((7, dim), dtype=dtype, backend=backend, **draw), expected)
    got = normal((7, dim), dtype=dtype, backend="triton", device=triton_device, **draw)
    # The interpreter cuts float32 to bfloat16 instead of rounding, which a GPU does not.
    interpreted = triton_device.type == "cpu"
    assert ulp_distance(got, expected) <= (1 if interpreted and dtype == torch.bfloat16 else 0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_ties_are_rounded_to_even(dtype):
    """Some 30 (bfloat16) and 250 (float16) of 2^22 values lie in the middle of two neighbours."""
    z = normal((1024, 4096), seed=12)
    ties = (z.double() - z.to(dtype).double()).abs() == _half_unit(z.to(dtype))
    assert int(ties.sum()) > 10
    assert same_bits(normal((1024, 4096), seed=12, dtype=dtype), z.to(dtype))


def _half_unit(x: torch.Tensor) -> torch.Tensor:
    """Half the distance from x to its neighbour of larger size."""
    bits = x.view(torch.int16)
    return ((bits + 1).view(x.dtype).double() - x.double()).abs() / 2


GOLDEN = [
    # shape, draw, first digits of the SHA-256 of the float32 bytes
    ((64, 7), {"seed": 0}, "db8b6ed1a64dda1c"),
    (
        (3, 784),
        {"seed": -1, "stream": 6, "step": 5, "first_sample": ACROSS},
        "aeb7f3034e7904f7",
    ),
    ((1000, 3), {"seed": 2024, "step": 7}, "131c0b5b6789a54a"),
    ((1000,), {"seed": 1 << 40, "stream": 1 << 16, "step": 2}, "1a1040508a940d3f"),
]


@pytest.mark.parametrize(("shape", "draw", "digest"), GOLDEN)
def test_the_bits_never_change(shape, draw, digest):
    """Results of years ago can be repeated: if this fails, say so in the release's notes."""
    for backend in ("numba", "torch"):
        z = normal(shape, backend=backend, **draw)
        assert hashlib.sha256(z.numpy().tobytes()).hexdigest().startswith(digest)


@pytest.mark.parametrize("backend", ["numba", "torch", "triton"])
def test_event_is_numbered_in_row_major_order(backend, triton_device):
    device = triton_device if backend == "triton" else torch.device("cpu")
    z = normal((3, 2, 3, 5), seed=4, step=1, backend=backend, device=device)
    flat = normal((3, 30), seed=4, step=1, backend=backend, device=device)
    assert z.shape == (3, 2, 3, 5) and z.is_contiguous()
    assert same_bits(z.flatten(1), flat)
    assert normal((4,), backend=backend, device=device).shape == (4,)
    assert same_bits(
        normal((4,), backend=backend, device=device)[:, None],
        normal((4, 1), backend=backend, device=device),
    )


@pytest.mark.parametrize("backend", ["auto", "numba", "torch", "triton"])
@pytest.mark.parametrize("shape", [(0,), (0, 5), (3, 0), (0, 0), (2, 0, 4)])
def test_empty_shapes(shape, backend, triton_device):
    device = triton_device if backend == "triton" else torch.device("cpu")
    z = normal(shape, backend=backend, device=device, dtype=torch.float64)
    assert z.shape == shape and z.dtype == torch.float64


def test_meta_tensors_have_shape_and_type():
    z = normal((3, 5), device="meta", dtype=torch.bfloat16)
    assert z.device.type == "meta" and z.shape == (3, 5) and z.dtype == torch.bfloat16


def test_defaults_and_kinds_of_integers():
    assert same_bits(normal((2, 5)), normal(torch.Size((2, 5)), seed=0, stream=0, step=0))
    one = torch.tensor(1)
    assert same_bits(
        normal([2, one * 5], seed=one, step=one, stream=one, first_sample=one),
        normal((2, 5), seed=1, step=1, stream=1, first_sample=1),
    )
    assert same_bits(normal((2, 5), seed=-1), normal((2, 5), seed=BIG))


def test_every_number_of_the_five_matters():
    z = normal((2, 8), seed=3, stream=4, step=5, first_sample=6)
    for other in ({"seed": 2}, {"stream": 5}, {"step": 4}, {"first_sample": 8}):
        draw = {"seed": 3, "stream": 4, "step": 5, "first_sample": 6} | other
        assert not (normal((2, 8), **draw) == z).any()


def test_a_large_array_takes_several_launches(monkeypatch, triton_device):
    expected = normal((30, 6), seed=2, first_sample=ACROSS, backend="triton", device=triton_device)
    monkeypatch.setattr(module, "MAX_CALLS", 256 + 2 * 7)
    got = normal((30, 6), seed=2, first_sample=ACROSS, backend="triton", device=triton_device)
    assert same_bits(got, expected)


def test_values_are_finite_and_within_the_largest_radius():
    # u >= 2^-33 bounds the radius by sqrt(66 ln 2) = 6.7637.
    z = normal((1000, 1000), seed=8)
    assert z.isfinite().all() and float(z.abs().max()) <= math.sqrt(66 * math.log(2))
