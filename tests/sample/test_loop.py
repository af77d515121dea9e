"""The loop: chunks, paths, status, dtypes, offsets, and that it never waits for the device."""

from __future__ import annotations

import sys
from itertools import pairwise

import pytest
import torch
from sdekit_kernels import normal
from torch.utils._python_dispatch import TorchDispatchMode

from sdekit.noise import keys
from sdekit.sample import sample
from sdekit.score import MLP, Gaussian, GaussianMixture
from sdekit.sde import OU
from tests.sample.cases import PREDICTORS, SDES

VP = SDES["vp"]
GAUSS = Gaussian([0.3, -0.5, 1.0], [0.5, 1.0, 0.2], VP)
MIX = GaussianMixture([[1.0, 0.0, -1.0], [-1.0, 2.0, 0.0]], 0.3, [0.3, 0.7], VP)
FEW = {"steps": 25, "seed": 9}


@pytest.mark.parametrize("corrector", ["none", "langevin", "annealed"])
@pytest.mark.parametrize("predictor", PREDICTORS)
def test_chunks_are_the_whole_bit_for_bit(predictor, corrector):
    how = {"predictor": predictor, "corrector": corrector, "corrector_steps": 2, **FEW}
    whole = sample(VP, GAUSS, (11, 3), first_sample=100, **how)
    cuts = ((100, 1), (101, 7), (108, 3))
    parts = [sample(VP, GAUSS, (n, 3), first_sample=at, **how) for at, n in cuts]
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(sample(VP, GAUSS, (11, 3), first_sample=100, **how), whole)
    other = sample(VP, GAUSS, (11, 3), first_sample=100, **(how | {"seed": 10}))
    assert not torch.equal(other, whole)


def test_batch_norms_tie_samples_together_by_name_only():
    how = {"corrector": "langevin", **FEW}
    alone, together = (sample(VP, MIX, (n, 3), **how)[:2] for n in (2, 6))
    torch.testing.assert_close(alone, together, rtol=1e-5, atol=1e-6)
    alone, together = (sample(VP, MIX, (n, 3), norm="batch", **how)[:2] for n in (2, 6))
    assert not torch.allclose(alone, together, rtol=1e-3)


def test_nothing_to_do_returns_the_start():
    x = sample(VP, GAUSS, (5, 3), predictor="none", steps=3, seed=2)
    assert torch.equal(x, normal((5, 3), seed=2, stream=keys.PRIOR))
    again = sample(VP, GAUSS, (5, 3), predictor="none", steps=3, x_init=x)
    assert torch.equal(again, x) and again.data_ptr() != x.data_ptr()


@pytest.mark.parametrize("shape", [(0, 3), (0, 2, 4, 4)])
def test_an_empty_batch_returns_empty_and_asks_for_no_score(shape):
    def score(t, x):
        raise AssertionError("asked")

    x, info = sample(VP, score, shape, corrector="langevin", return_info=True, **FEW)
    assert x.shape == shape and x.dtype == torch.float32
    assert info.nfe == 0 and info.status.shape == (0,)


@pytest.mark.parametrize("norm", ["sample", "batch"])
def test_a_zero_score_makes_no_nan(norm):
    def score(t, x):
        return torch.cat([torch.zeros_like(x[:1]), -x[1:]])

    how = {"corrector": "langevin", "norm": norm, **FEW}
    assert bool(torch.isfinite(sample(VP, score, (4, 3), **how)).all())
    still = sample(VP, lambda t, x: torch.zeros_like(x), (4, 3), predictor="none", **how)
    assert torch.equal(still, VP.prior_sample((4, 3), seed=9))


def test_a_sample_that_leaves_the_finite_numbers_is_reported_alone():
    def score(t, x):
        s = GAUSS(t, x)
        s[2] = torch.where(t < 0.5, torch.inf, s[2])
        return s

    times = torch.linspace(1.0, 0.01, 26)
    good = sample(VP, GAUSS, (4, 3), times=times, corrector="langevin", seed=9, fuse=False)
    bad, info = sample(
        VP, score, (4, 3), times=times, corrector="langevin", seed=9, return_info=True
    )
    # The corrector of step i sees t_{i+1}: the first below 0.5 decides.
    step = int((times[1:] < 0.5).nonzero()[0])
    assert info.status.tolist() == [0, 0, 1, 0] and info.status.dtype == torch.int8
    assert info.nonfinite_step.tolist() == [-1, -1, step, -1]
    assert not torch.isfinite(bad[2]).all()
    assert torch.equal(bad[[0, 1, 3]], good[[0, 1, 3]])


def test_path_and_report():
    x, info = sample(
        VP, GAUSS, (4, 3), corrector="annealed", corrector_steps=2, return_info=True,
        path_points=6, **FEW,
    )  # fmt: skip
    assert torch.equal(x, sample(VP, GAUSS, (4, 3), corrector="annealed", corrector_steps=2, **FEW))
    assert info.nfe == 25 * 3
    assert info.backend == "numba"
    assert info.reason.startswith("CPU tensors; step by step: ")
    assert info.path.shape == (6, 4, 3)
    torch.testing.assert_close(
        info.path_t, torch.linspace(1.0, 1e-3, 6, dtype=torch.float64), rtol=0.0, atol=1e-12
    )
    assert torch.equal(info.path[0], VP.prior_sample((4, 3), seed=9))
    assert torch.equal(info.path[-1], x)
    # The state at step 5 of 25 is where a run over the first fifth of the grid ends.
    times = torch.linspace(1.0, 1e-3, 26, dtype=torch.float64)[:6]
    part = sample(VP, GAUSS, (4, 3), times=times, predictor="ancestral", denoise=False, seed=9)
    _, info = sample(
        VP, GAUSS, (4, 3), predictor="ancestral", return_info=True, path_points=6, **FEW
    )
    torch.testing.assert_close(info.path[1], part)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_dtypes(dtype):
    seen = []

    def score(t, x):
        seen.append((t.dtype, t.ndim, x.dtype))
        return -x

    x = sample(VP, score, (6, 2, 3), dtype=dtype, corrector="langevin", **FEW)
    assert x.dtype == dtype and x.shape == (6, 2, 3)
    wanted = torch.float64 if dtype == torch.float64 else torch.float32
    assert set(seen) == {(wanted, 0, dtype)}
    # The score of N(0, 1): VP holds that law, coarsely here.
    assert 0.5 < float(x.double().std()) < 1.5


def test_x_init_is_the_state_at_the_first_time():
    x_init = torch.linspace(-1.0, 1.0, 12, dtype=torch.float64).view(4, 3)
    kept = x_init.clone()
    times = [0.4, 0.3, 0.25, 0.2]
    x = sample(VP, GAUSS, (4, 3), times=times, x_init=x_init, predictor="probability_flow")
    assert x.dtype == torch.float64 and torch.equal(x_init, kept)
    y = x_init
    for t, u in pairwise(times):
        t, u = torch.tensor(t, dtype=torch.float64), torch.tensor(u, dtype=torch.float64)
        beta = (0.1 + 19.9 * t) * (t - u)
        y = (2 - (1 - beta).sqrt()) * y + 0.5 * beta * GAUSS(t, y)
    torch.testing.assert_close(x, y)


def test_no_graph_is_recorded_and_a_network_is_a_score():
    net = MLP((3,), 16, 1, sde=VP)
    x = sample(VP, net, (5, 3), corrector="langevin", **FEW)
    assert not x.requires_grad and bool(torch.isfinite(x).all())
    start = torch.zeros(5, 3, requires_grad=True)
    assert not sample(VP, net, (5, 3), x_init=start, **FEW).requires_grad


def test_backends_agree():
    for corrector in ("none", "langevin", "annealed"):
        how = {"corrector": corrector, **FEW}
        fused, plain = (sample(VP, GAUSS, (6, 3), backend=b, **how) for b in ("numba", "torch"))
        # A few ulp a step: the fused step rounds once where torch rounds twice.
        torch.testing.assert_close(fused, plain, rtol=1e-4, atol=1e-5)


def test_progress(capsys):
    x = sample(VP, GAUSS, (2, 3), progress=True, **FEW)
    assert torch.equal(x, sample(VP, GAUSS, (2, 3), **FEW))
    assert "25/25" in capsys.readouterr().err


def test_the_function_hides_the_package_and_imports_still_find_it():
    import sdekit
    from sdekit.sample import polynomial_times

    assert sdekit.sample is sample
    assert sys.modules["sdekit.sample"].polynomial_times is polynomial_times


class Conversions(TorchDispatchMode):
    """Counts copies of tensors to another dtype or device."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._to_copy.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("corrector", ["none", "annealed"])
def test_offsets_are_moved_before_the_loop(corrector):
    # mu lies on the CPU in float64: on a GPU every copy of it would wait for the device.
    sde = OU([0.5, -0.3], [0.7, 0.1], [0.9, 1.2])
    counts = []

    def score(t, x):
        counts.append(counter.count)
        return -x

    with Conversions() as counter:
        sample(sde, score, (4, 2), corrector=corrector, steps=5, return_info=True, path_points=3)
    assert counts[0] > 0 and counts == [counts[0]] * len(counts)


@pytest.mark.gpu
@pytest.mark.parametrize("corrector", ["none", "langevin", "annealed"])
@pytest.mark.parametrize("sde", [VP, OU(1.3, torch.ones(3, 8, 8), 0.9)], ids=["vp", "ou_offsets"])
def test_the_loop_never_waits_for_the_gpu(sde, corrector):
    def score(t, x):
        if watched:
            torch.cuda.set_sync_debug_mode("error")
        return -x

    how = {"corrector": corrector, "device": "cuda", "return_info": True, "path_points": 3, **FEW}
    watched: list[bool] = []
    sample(sde, score, (64, 3, 8, 8), **how)  # compiles the kernels
    watched.append(True)
    try:
        x, info = sample(sde, score, (64, 3, 8, 8), **how)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert info.backend == "triton" and bool(torch.isfinite(x).all())


@pytest.mark.gpu
@pytest.mark.parametrize("predictor", PREDICTORS)
def test_gpu_and_cpu_give_the_same_bits(predictor):
    def score(t, x):
        return -0.7 * x

    how = {"predictor": predictor, "corrector": "none", **FEW}
    cpu, gpu = (sample(VP, score, (33, 3, 8, 8), device=d, **how).cpu() for d in ("cpu", "cuda"))
    assert torch.equal(cpu, gpu)
