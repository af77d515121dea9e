"""Whole trajectories in one kernel: the same paths as step by step, whatever is asked of them."""

from __future__ import annotations

import gc
import json
import math
import os
import subprocess
import sys
import weakref

import numpy as np
import pytest
import torch
from torch.autograd import forward_ad

import sdekit as sk
from tests.solve.paths import OU, X0, Plain, both, close


def test_saved_states_equal_those_of_single_steps():
    times = [0.0, 0.1, 0.155, 0.157, 0.5, 0.999, 1.0]
    fused, stepwise = both(sk.OU(**OU), save_at=times, seed=3)
    assert fused.x.shape == (7, 150, 2) and torch.equal(fused.t, stepwise.t)
    assert close(fused.x, stepwise.x)
    one = sk.solve(sk.OU(**OU), X0, save_at=[0.155], seed=3)
    assert torch.equal(one.x, fused.x[2:3])
    assert sk.solve(sk.OU(**OU), X0, save_at=[], seed=3).x.shape == (0, 150, 2)


@pytest.mark.parametrize("shape", [(2,), (1, 2), (150, 1), (150, 2)])
def test_parameters_of_every_shape(shape):
    """A sweep: one parameter a path is one launch, and each path is that of its own parameter."""
    theta = torch.linspace(0.5, 2.0, math.prod(shape)).view(shape)
    sde = Plain(lambda t, x: -theta * x, lambda t, x: 0.3 * torch.cos(t) * theta * x)
    fused, stepwise = both(sde)
    assert close(fused.x, stepwise.x)
    pieces = sk.solve(sde, X0, max_memory=8 * 4 * 2 * 40)
    assert torch.equal(pieces.x, fused.x)


def test_scalar_and_general_noise():
    scalar = Plain(lambda t, x: -x, lambda t, x: 0.5 * x, noise_type="scalar")
    fused, stepwise = both(scalar)
    assert close(fused.x, stepwise.x)
    weights = torch.linspace(-1, 1, 10).view(2, 5)
    general = Plain(
        lambda t, x: -x,
        lambda t, x: torch.sin(x)[:, :, None] * weights,
        noise_type="general",
        interpretation="stratonovich",
    )
    fused, stepwise = both(general, method="heun", steps=30)
    assert close(fused.x, stepwise.x)


@pytest.mark.parametrize("shape", [(150,), (10, 2, 3, 2)])
def test_events_of_any_shape(shape):
    fused, stepwise = both(sk.OU(**OU), X0.reshape(-1)[: math.prod(shape)].view(shape))
    assert fused.x.shape == shape and close(fused.x, stepwise.x)


def test_bits_do_not_depend_on_how_the_batch_is_split(restore_threads):
    sde = sk.OU(**OU)
    x0 = torch.linspace(-1, 1, 7000).view(7000, 1)
    torch.set_num_threads(1)
    whole = sk.solve(sde, x0, steps=37, seed=9)
    torch.set_num_threads(2)
    assert torch.equal(sk.solve(sde, x0, steps=37, seed=9).x, whole.x)
    for r0, r1 in ((0, 1), (1, 1500), (4095, 7000)):
        part = sk.solve(sde, x0[r0:r1], steps=37, seed=9, first_sample=r0)
        assert torch.equal(part.x, whole.x[r0:r1])
    assert torch.equal(sk.solve(sde, x0, steps=37, seed=9, max_memory=8 * 4 * 999).x, whole.x)
    assert torch.equal(sk.solve(sde, x0, steps=37, seed=9, progress=True).x, whole.x)
    assert torch.equal(sk.solve(sde, x0.t().contiguous().t(), steps=37, seed=9).x, whole.x)


def kernels():
    """Names of the kernels that this process has loaded."""
    return {name for name in sys.modules if name.startswith("sdekit_kernels.generated.")}


def test_a_changed_parameter_is_seen_and_compiles_nothing():
    theta = torch.tensor([1.0, 2.0])
    sde = sk.OU(theta, 0.0, 0.1)
    first = sk.solve(sde, X0).x
    compiled = kernels()
    theta.mul_(0.5)
    second = sk.solve(sde, X0).x
    sk.solve(sk.OU(torch.tensor([3.0, 4.0]), 0.0, 0.77), X0)
    assert kernels() == compiled
    assert not torch.equal(first, second)
    assert close(second, sk.solve(sde, X0, fuse=False).x)


def test_the_cache_of_kernels_keeps_no_parameters_alive():
    theta = torch.rand(150, 1)
    sk.solve(
        Plain(lambda t, x, a=theta: -a * x, lambda t, x, a=theta: 0.3 * torch.cos(t) * a * x),
        X0,
        steps=3,
    )
    alive = weakref.ref(theta)
    del theta
    gc.collect()
    assert alive() is None


def test_numbers_of_other_integer_types():
    """uint8 200 + 100 wraps around; a sample's number does not."""
    wanted = sk.solve(sk.OU(**OU), X0, steps=3, first_sample=200)
    for first in (np.uint8(200), torch.tensor(200)):
        got = sk.solve(sk.OU(**OU), X0, steps=3, first_sample=first, max_memory=8 * 4 * 2 * 20)
        assert torch.equal(got.x, wanted.x)


def test_float64():
    x0 = X0.double()
    fused, stepwise = both(sk.OU(**OU), x0)
    assert (fused.x - stepwise.x).abs().max() < 100 * 2.0**-52


def test_nonfinite_paths_are_named_and_leave_the_others_alone():
    x0 = torch.tensor([[0.1], [10.0], [0.2]])
    cubic = Plain(lambda t, x: x**3, lambda t, x: 0.01 * torch.ones_like(x))
    fused, stepwise = both(cubic, x0, steps=20, seed=4)
    assert torch.equal(fused.stats.nonfinite_step, stepwise.stats.nonfinite_step)
    assert fused.status.tolist() == [0, 1, 0]
    assert close(fused.x[::2], stepwise.x[::2])


def test_gradients_go_step_by_step():
    theta = torch.tensor([1.0, 2.0], requires_grad=True)
    sol = sk.solve(sk.OU(theta, 0.0, 0.1), X0, steps=4)
    assert "gradient" in sol.stats.reason and sol.x.requires_grad
    with torch.no_grad():
        assert sk.solve(sk.OU(theta, 0.0, 0.1), X0, steps=4).stats.path == "trajectory_kernel"
    sol = sk.solve(sk.OU(**OU), X0.clone().requires_grad_(), steps=4)
    assert "gradient" in sol.stats.reason and sol.x.requires_grad
    learned = Plain(lambda t, x: -(theta * 2) * x, lambda t, x: 0.1 * torch.ones_like(x))
    assert "gradient" in sk.solve(learned, X0, steps=4).stats.reason


def test_forward_mode_gradients_go_step_by_step():
    """A tangent is no requires_grad: OU's is (1 - theta dt)^steps for each initial state."""
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(X0, torch.ones_like(X0))
        sol = sk.solve(sk.OU(**OU), dual, steps=4)
        tangent = forward_ad.unpack_dual(sol.x).tangent
    assert "forward-mode" in sol.stats.reason
    assert torch.allclose(tangent, torch.tensor((1 - 1.3 / 4) ** 4))
    with forward_ad.dual_level():
        theta = forward_ad.make_dual(torch.tensor(1.3), torch.tensor(1.0))
        sol = sk.solve(sk.OU(theta, 0.2, 0.7), X0, steps=4)
        assert forward_ad.unpack_dual(sol.x).tangent.abs().min() > 0


BRANCHES = {
    "if": (lambda t, x: x if t > 0.5 else -x, "use torch.where"),
    "float(t)": (lambda t, x: -x * float(t), "torch.sin"),
    "rand": (lambda t, x: -x * torch.rand(1, generator=torch.Generator().manual_seed(1)), "random"),
    "batch": (lambda t, x: x.mean(0) - x, "own state only"),
    "in place": (lambda t, x: x.mul_(1.0) * -1.0, "in place"),
    "lgamma": (lambda t, x: torch.lgamma(x.abs() + 1.0), "lgamma"),
}


@pytest.mark.parametrize("name", BRANCHES)
def test_what_stands_in_the_way_is_named_and_the_answer_is_the_same(name):
    drift, remedy = BRANCHES[name]
    sde = Plain(drift, lambda t, x: 0.3 * torch.ones_like(x))
    sol = sk.solve(sde, X0, steps=5, seed=2)
    assert sol.stats.path == "step_kernel"
    assert remedy in sol.stats.reason and "test_trajectory.py line" in sol.stats.reason
    assert sk.explain(sde, x0=X0).reason == sol.stats.reason
    torch_only = sk.solve(sde, X0, steps=5, seed=2, backend="torch")
    assert close(sol.x, torch_only.x)
    with pytest.raises(RuntimeError, match="cannot be one kernel"):
        sk.solve(sde, X0, steps=5, fuse=True)


def test_ctrl_c_is_heard_within_seconds_of_an_equation_of_many_operations():
    from sdekit.solve.trajectory import _pace

    assert _pace(10**6, 1 << 20, False) == 1024  # 2^30 numbers
    assert _pace(10**6, 1 << 29, False) == 4 and _pace(640, 1, True) == 8
    assert _pace(3, 1, False) == 4 and _pace(10**9, 1, False) == 1 << 16


def test_a_state_that_is_too_large():
    sol = sk.solve(sk.OU(**OU), torch.zeros(3, 65), steps=2)
    assert sol.stats.path == "step_kernel" and "65 components" in sol.stats.reason
    half = sk.solve(sk.OU(**OU), torch.zeros(3, 2, dtype=torch.bfloat16), steps=2)
    assert half.stats.path == "step_kernel" and "bfloat16" in half.stats.reason


def test_explain_shows_the_kernel():
    path = sk.explain(sk.OU(**OU), source=True)
    assert path.name == "trajectory_kernel" and "def trajectory" in path.source
    assert path.source in str(path) and "# u0 (one number a step) = (-1.3 * dt)" in path.source
    lorenz = Plain(
        lambda t, x: torch.stack([x[:, 1], x[:, 2], -x[:, 0] * x[:, 1]], 1),
        lambda t, x: torch.ones_like(x),
    )
    assert sk.explain(lorenz).name == "trajectory_kernel"  # it finds that the state has three
    with pytest.raises(TypeError, match="steps"):
        sk.explain(sk.OU(), steps=3)
    # What solve refuses, explain refuses in the same words.
    for arguments, error, message in (
        (dict(x0=torch.tensor(1.0)), ValueError, r"x0\[None\]"),
        (dict(x0=[1.0]), TypeError, "as_tensor"),
        (dict(stop=3), TypeError, "stop must be a function"),
        (dict(functionals=[3]), TypeError, "mapping"),
    ):
        with pytest.raises(error, match=message):
            sk.explain(sk.OU(), **arguments)
    flat = Plain(lambda t, x: -x.view(len(x)), lambda t, x: torch.ones(len(x)))
    assert "give x0=" not in sk.explain(flat).reason  # a state of no axis but the batch's


BAD = {
    "save_at with own times": (dict(t1=torch.ones(150), save_at=[0.5]), ValueError, "one grid"),
    "times of another batch": (dict(t1=torch.ones(7)), ValueError, "one entry a sample"),
    "steps of another batch": (dict(steps=torch.ones(7).long()), ValueError, "one entry a sample"),
    "float steps": (dict(steps=torch.ones(150)), TypeError, "long"),
    "no steps": (dict(steps=torch.arange(150)), ValueError, "sample 0 has 0"),
    "equal times": (dict(t1=torch.linspace(0, 1, 150)), ValueError, "sample 0"),
    "backwards": (dict(t1=torch.linspace(-1, 1.1, 150)), ValueError, "sample 0 goes"),
    "nan time": (dict(t1=torch.full((150,), math.nan)), ValueError, "sample 0"),
    "too many steps": (dict(steps=(1 << 32) + 1), ValueError, "2\\^32"),
    "too many paths": (dict(first_sample=1 << 63), ValueError, "first_sample"),
    "outside": (dict(save_at=[0.5, 1.5]), ValueError, "outside"),
    "functional": (dict(functionals={"a": lambda t, x: x}), TypeError, "TimeIntegral"),
    "functionals": (dict(functionals=sk.Maximum(lambda t, x: x)), TypeError, "mapping"),
    "stop": (dict(stop=1.0), TypeError, "function"),
    "stop shape": (dict(stop=lambda t, x: x > 0), ValueError, "one boolean a path"),
    "functional shape": (
        dict(functionals={"a": sk.Maximum(lambda t, x: x.sum())}),
        ValueError,
        "one number a path",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    arguments, error, message = BAD[name]
    with pytest.raises(error, match=message):
        sk.solve(sk.OU(**OU), X0, **arguments)


def test_a_parameter_batch_that_is_not_the_path_batch():
    theta = torch.ones(7, 1)
    sde = Plain(lambda t, x: -theta * x, lambda t, x: torch.ones_like(x))
    with pytest.raises(ValueError, match="one entry a sample"):
        sk.solve(sde, X0)


def test_a_later_process_compiles_nothing(tmp_path):
    """The second process finds the kernel on disk; a folder that cannot be written does no harm."""
    script = (
        "import json, sys, torch, sdekit as sk\n"
        "sol = sk.solve(sk.OU(1.3, 0.2, 0.7), torch.zeros(5, 1), steps=6, seed=1)\n"
        "kernel = [m for n, m in sys.modules.items() if 'generated' in n][0]\n"
        "stats = kernel.launch.stats\n"
        "print(json.dumps([sol.x.tolist(), len(stats.cache_hits), len(stats.cache_misses)]))\n"
    )
    answers = []
    for folder in (tmp_path / "cache", tmp_path / "cache", "/proc/nowhere"):
        environment = {**os.environ, "SDEKIT_CACHE_DIR": str(folder)}
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        answers.append(json.loads(done.stdout))
    assert answers[0][0] == answers[1][0] == answers[2][0]
    assert answers[0][1:] == [0, 1] and answers[1][1:] == [1, 0]
