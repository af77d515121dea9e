"""The fused steps against their formulas in float64, in every type, shape, backend and coefficient.

Outputs are poisoned with NaN first. Tolerances are rounding: a step is three roundings of numbers
of the size of its largest term, in the type it is computed in, and one in the type it is stored in.
"""

from __future__ import annotations

import itertools

import pytest
import torch
from sdekit_kernels import em_step, langevin_step, normal, predictor_step

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
SHAPES = [(5,), (3, 1), (7, 2), (4, 3), (9, 4), (2, 3, 5), (3, 1, 8, 8), (2, 1027), (130, 17)]
DRAW = {"seed": 11, "stream": 2, "step": 6, "first_sample": 5}
BACKENDS = ["numba", "triton", "torch"]
# Triton's interpreter takes a second for a case. 16-bit numbers differ in what is loaded and stored
# alone, so each kind takes half of the shapes there; of one lane, aligned and not, all take one.
HALVES = {torch.bfloat16: SHAPES[::2], torch.float16: [*SHAPES[1::2], (9, 4)]}
CASES = [
    pytest.param(shape, dtype, backend, id=f"{shape}-{dtype}-{backend}")
    for shape in SHAPES
    for dtype in DTYPES
    for backend in BACKENDS
    if backend != "triton" or shape in HALVES.get(dtype, SHAPES)
]


def inputs(shape, dtype, device):
    g = torch.Generator().manual_seed(sum(shape))
    return (torch.randn(shape, generator=g, dtype=torch.float64).to(dtype).to(device) for _ in "xs")


def noise(x):
    """The z of DRAW in float64, from the float32 (or float64) bits that a step uses."""
    compute = torch.float64 if x.dtype == torch.float64 else torch.float32
    return normal(tuple(x.shape), **DRAW, dtype=compute, device=x.device).double()


def device_of(backend, triton_device):
    return triton_device if backend == "triton" else torch.device("cpu")


def assert_close(got, expected, scale, backend):
    """Within four roundings of ``scale``, the largest term of each sum."""
    compute = torch.float64 if got.dtype == torch.float64 else torch.float32
    eps = 4 * torch.finfo(compute).eps + torch.finfo(got.dtype).eps * (got.dtype != compute)
    if got.dtype == torch.bfloat16 and backend == "triton" and got.device.type == "cpu":
        eps *= 2  # Triton's interpreter cuts bfloat16 off instead of rounding it
    assert got.isfinite().all()
    assert ((got.double() - expected).abs() <= eps * scale + 1e-7 * (eps > 1e-4)).all()


def coefficients(x):
    """One coefficient of each kind: number, 0-d, one a sample (twice), a component, an element."""
    event = (1,) * (x.ndim - 1)
    batch = torch.linspace(0.2, 1.1, x.shape[0], dtype=torch.float64, device=x.device)
    full = torch.linspace(-1, 2, x.numel(), dtype=torch.float64, device=x.device).view(x.shape)
    kinds = [0.37, torch.tensor(0.61, device=x.device), batch.to(x.dtype), batch.view(-1, *event)]
    return [*kinds, full[:1], full.to(x.dtype)]


def as_full(c, x):
    c = torch.as_tensor(c, dtype=torch.float64, device=x.device)
    return c.view(-1, *(1,) * (x.ndim - 1)) if c.shape == x.shape[:1] else c


@pytest.mark.parametrize(("shape", "dtype", "backend"), CASES)
def test_steps_are_their_formulas(shape, dtype, backend, triton_device):
    x, s = inputs(shape, dtype, device_of(backend, triton_device))
    z, xd, sd = noise(x), x.double(), s.double()
    kinds = coefficients(x)
    if backend == "triton":  # the interpreter is slow: each kind once in each place
        combinations = [(kinds[i], kinds[(i + 2) % 6], kinds[(i + 3) % 6]) for i in range(6)]
    else:
        combinations = list(itertools.product(kinds[::2], kinds[1::2], kinds[::2]))
    for a, b, c in combinations:
        out, mean_out = torch.full_like(x, torch.nan), torch.full_like(x, torch.nan)
        af, bf, cf = as_full(a, x), as_full(b, x), as_full(c, x)
        got, mean = predictor_step(
            x, s, a, b, c, **DRAW, out=out, mean_out=mean_out, backend=backend
        )
        assert got is out and mean is mean_out
        scale = (af * xd).abs() + (bf * sd).abs() + (cf * z).abs()
        assert_close(mean, af * xd + bf * sd, scale, backend)
        assert_close(got, af * xd + bf * sd + cf * z, scale, backend)
        dt = b if not isinstance(b, torch.Tensor) else b.abs()
        df = as_full(dt, x)
        got = em_step(x, s, c, dt, **DRAW, out=torch.full_like(x, torch.nan), backend=backend)
        scale = xd.abs() + (df * sd).abs() + (cf * df.sqrt() * z).abs()
        assert_close(got, xd + df * sd + cf * df.sqrt() * z, scale, backend)


@pytest.mark.parametrize(("shape", "dtype", "backend"), CASES)
@pytest.mark.parametrize("norm", ["sample", "batch"])
def test_langevin_step_is_its_formula(shape, dtype, backend, norm, triton_device):
    x, s = inputs(shape, dtype, device_of(backend, triton_device))
    z, xd, sd = noise(x), x.double(), s.double()
    zn, sn = z.reshape(len(x), -1).norm(dim=1), sd.reshape(len(x), -1).norm(dim=1)
    ratio = zn / sn if norm == "sample" else (zn.mean() / sn.mean()).expand(len(x))
    alpha = torch.linspace(0.5, 1, len(x), device=x.device)
    eps = as_full(2 * alpha.double() * (0.3 * ratio) ** 2, x)
    got, mean = langevin_step(x, s, snr=0.3, alpha=alpha, norm=norm, **DRAW, backend=backend)
    # The step size carries the rounding of two sums of squares: some 10 units.
    scale = xd.abs() + 10 * ((eps * sd).abs() + ((2 * eps).sqrt() * z).abs())
    assert_close(mean, xd + eps * sd, scale, backend)
    assert_close(got, xd + eps * sd + (2 * eps).sqrt() * z, scale, backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_langevin_step_with_given_step_size(backend, triton_device):
    x, s = inputs((6, 5), torch.float64, device_of(backend, triton_device))
    z = noise(x)
    for step_size in (0.0, 0.02, torch.linspace(0, 1, 6, dtype=x.dtype, device=x.device)):
        eps = as_full(step_size, x)
        got, mean = langevin_step(x, s, step_size=step_size, **DRAW, backend=backend)
        assert torch.allclose(mean, x + eps * s, rtol=1e-14)
        assert torch.allclose(got, x + eps * s + (2 * eps).sqrt() * z, rtol=1e-14)


@pytest.mark.parametrize("backend", BACKENDS)
def test_zero_and_non_finite_scores_stay_with_their_sample(backend, triton_device):
    x, s = inputs((4, 6), torch.float32, device_of(backend, triton_device))
    s[1] = 0.0
    s[2, 3] = torch.nan
    got, _ = langevin_step(x, s, snr=0.2, **DRAW, backend=backend)
    assert torch.equal(got[1], x[1])  # no score, no step, no division by zero
    assert got[2].isnan().all() and got[[0, 3]].isfinite().all()


@pytest.mark.parametrize("backend", ["numba", "triton"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_in_place_strided_and_empty(dtype, backend, triton_device):
    x, s = inputs((6, 4, 5), dtype, device_of(backend, triton_device))
    expected, mean = predictor_step(x, s, 0.9, 0.2, 0.5, **DRAW, backend=backend)
    for make in (
        lambda v: v.clone(),
        lambda v: v.transpose(1, 2).contiguous().transpose(1, 2),
        lambda v: torch.stack([v, v], -1)[..., 0],
        lambda v: v.flip(0).flip(0),
    ):
        y = make(x)
        got, y_mean = predictor_step(y, make(s), 0.9, 0.2, 0.5, **DRAW, out=y, backend=backend)
        assert got is y and torch.equal(y, expected) and torch.equal(y_mean, mean)
    got, none = predictor_step(x, s, 0.9, 0.2, 0.5, **DRAW, want_mean=False, backend=backend)
    assert none is None and torch.equal(got, expected)
    empty = x[:0]
    assert em_step(empty, empty, 1.0, 0.1, **DRAW, backend=backend).shape == (0, 4, 5)
    assert langevin_step(empty, empty, snr=0.1, **DRAW, backend=backend)[0].shape == (0, 4, 5)


@pytest.mark.parametrize("backend", ["numba", "triton"])
def test_a_sample_does_not_know_its_batch(backend, triton_device):
    for shape in ((37, 3), (12, 64), (3, 3000)):
        x, s = inputs(shape, torch.float32, device_of(backend, triton_device))
        whole = langevin_step(x, s, snr=0.2, **DRAW, backend=backend)[0]
        first = DRAW["first_sample"]
        for n in (1, 2):
            part = langevin_step(
                x[n:], s[n:], snr=0.2, **DRAW | {"first_sample": first + n}, backend=backend
            )[0]
            assert torch.equal(part, whole[n:])


@pytest.mark.parametrize("backend", ["numba", "triton"])
def test_a_network_of_lower_precision_moves_a_float32_state(backend, triton_device):
    x, s = inputs((5, 12), torch.float32, device_of(backend, triton_device))
    for dtype in (torch.bfloat16, torch.float16):
        got = em_step(x, s.to(dtype), 0.5, 0.1, **DRAW, backend=backend)
        assert got.dtype == torch.float32
        assert torch.equal(got, em_step(x, s.to(dtype).float(), 0.5, 0.1, **DRAW, backend=backend))
        assert langevin_step(x, s.to(dtype), snr=0.1, **DRAW, backend=backend)[0].isfinite().all()


def test_numba_and_triton_give_the_same_bits(triton_device):
    """float32: every operation is written as one rounding, in the same order, on both."""
    if triton_device.type == "cuda":
        devices = (torch.device("cpu"), triton_device)
    else:
        devices = (torch.device("cpu"), torch.device("cpu"))
    for shape in ((40, 2), (9, 16), (3, 781)):
        pairs = []
        for backend, device in zip(("numba", "triton"), devices, strict=True):
            x, s = inputs(shape, torch.float32, device)
            g = torch.linspace(0.1, 1, shape[0], device=device)
            pairs.append(em_step(x, s, g, 0.05, **DRAW, backend=backend).cpu())
        # The interpreter's fused multiply-add rounds twice, differently once in 10^8 times.
        assert torch.equal(*pairs)


@pytest.mark.parametrize("dt", [-0.25, torch.tensor(-0.25)])
def test_a_negative_dt_goes_back_in_time(dt):
    x, s = inputs((5, 3), torch.float64, torch.device("cpu"))
    got = em_step(x, s, 2.0, dt, **DRAW)
    assert torch.allclose(got, x - 0.25 * s + noise(x))


@pytest.mark.parametrize("backend", ["numba", "torch"])
@pytest.mark.parametrize("dim", [3, 8, 3000])
def test_very_large_scores(backend, dim):
    """At |s| = 1e20 the square leaves float32's range; eps s falls as 1 / |s| all the same."""
    x, s = inputs((2, dim), torch.float32, torch.device("cpu"))
    _, mean = langevin_step(0 * x, s * 1e20, snr=0.3, **DRAW, backend=backend)
    _, one = langevin_step(0 * x, s, snr=0.3, **DRAW, backend=backend)
    # eps is some 1e-41, a subnormal number with a dozen bits left.
    assert torch.allclose(mean.double() * 1e20, one.double(), rtol=1e-2)


def test_two_outputs_in_one_place_are_refused():
    x, s = inputs((2, 4), torch.float32, torch.device("cpu"))
    with pytest.raises(ValueError, match="same tensor"):
        predictor_step(x, s, 1.0, 0.1, 1.0, **DRAW, out=x, mean_out=x)
