"""Wrong input gets an exception of a fitting type that names what to write."""

from __future__ import annotations

import pytest
import torch

import sdekit as sk


class Plain:
    """An equation made of two functions."""

    def __init__(self, drift=None, diffusion=None, **attributes):
        self._drift = drift or (lambda t, x: -x)
        self._diffusion = diffusion or (lambda t, x: torch.ones_like(x))
        self.__dict__.update(attributes)

    def drift(self, t, x):
        return self._drift(t, x)

    def diffusion(self, t, x):
        return self._diffusion(t, x)


X = torch.zeros(3, 2)

CASES = {
    "list x0": (dict(x0=[0.0]), TypeError, "torch.as_tensor"),
    "integer x0": (dict(x0=torch.zeros(3, 2, dtype=torch.int64)), TypeError, "float"),
    "complex x0": (dict(x0=torch.zeros(3, 2, dtype=torch.complex64)), TypeError, "floating"),
    "0-d x0": (dict(x0=torch.tensor(1.0)), ValueError, r"x0\[None\]"),
    "nan x0": (dict(x0=torch.tensor([[0.0], [float("nan")]])), ValueError, "sample 1"),
    "infinite x0": (dict(x0=torch.tensor([[float("inf")]])), ValueError, "sample 0"),
    "t0 = t1": (dict(t0=0.5, t1=0.5), ValueError, "nothing to solve"),
    "t1 before t0": (dict(t0=1.0, t1=0.0), ValueError, "ReverseSDE"),
    "nan t1": (dict(t1=float("nan")), ValueError, "finite"),
    "text t1": (dict(t1="end"), TypeError, "numbers"),
    "no steps": (dict(steps=0), ValueError, "at least 1"),
    "negative steps": (dict(steps=-3), ValueError, "at least 1"),
    "half a step": (dict(steps=2.5), TypeError, "integer"),
    "repeated grid": (dict(times=[0.0, 0.5, 0.5, 1.0]), ValueError, r"times\[1\] = 0.5"),
    "turning grid": (dict(times=[0.0, 0.5, 0.3]), ValueError, "increasing"),
    "reversed grid": (dict(times=[1.0, 0.5, 0.3]), ValueError, "backwards"),
    "one time": (dict(times=[1.0]), ValueError, "at least two"),
    "two grids": (dict(times=[0.0, 1.0], t1=5.0), ValueError, "t1=5.0 was given beside it"),
    "torchsde's name": (dict(method="euler"), ValueError, "'euler_maruyama' or 'euler_heun'"),
    "unknown method": (dict(method="euler_maruyana"), ValueError, "Did you mean 'euler_maruyama'"),
    "unknown backend": (dict(backend="tritn"), ValueError, "Did you mean 'triton'"),
    "seed": (dict(seed=1.5), TypeError, "seed"),
    "huge seed": (dict(seed=1 << 70), ValueError, "seed"),
    "first_sample": (dict(first_sample=(1 << 63) - 1), ValueError, "first_sample"),
    "tiny memory": (dict(max_memory=3), ValueError, "too small"),
    "heun for Ito": (dict(sde=Plain(), method="heun"), ValueError, "use 'euler_maruyama'"),
    "em for Stratonovich": (
        dict(sde=Plain(interpretation="stratonovich")),
        ValueError,
        "or 'heun'",
    ),
    "no equation": (dict(sde=3), TypeError, "drift"),
    "a class": (dict(sde=sk.OU), TypeError, "instance"),
    "text save_at": (dict(save_at="01"), TypeError, "sequence of numbers"),
    "complex drift": (dict(sde=Plain(lambda t, x: 1j * x)), TypeError, "complex64"),
    "integer drift": (dict(sde=Plain(lambda t, x: x.long())), TypeError, "int64"),
    "a diffusion a sample": (
        dict(sde=Plain(diffusion=lambda t, x: torch.ones(3))),
        ValueError,
        r"return shape \(3, 1\)",
    ),
    "unknown noise": (dict(sde=Plain(noise_type="diag")), ValueError, "'diagonal'"),
    "unknown interpretation": (dict(sde=Plain(interpretation="Ito")), ValueError, "'ito'"),
    "drift shape": (dict(sde=Plain(lambda t, x: x[:, :1])), ValueError, "drift returned shape"),
    "drift shape that changes with time": (
        dict(sde=Plain(lambda t, x: x if t < 0.5 else x[:, :1]), steps=4),
        ValueError,
        r"drift returned shape \(3, 1\) for x of shape \(3, 2\)",
    ),
    "diffusion shape that changes with time": (
        dict(sde=Plain(diffusion=lambda t, x: x if t < 0.5 else x.new_ones(3, 2, 4)), steps=4),
        ValueError,
        r"matrix shape \(3, 2, 4\)",
    ),
    "parameter device": (
        dict(sde=Plain(lambda t, x: torch.ones(2, device="meta") * x)),
        ValueError,
        "cannot combine its parameters with x on cpu: .*parameters to cpu",
    ),
    "drift type": (dict(sde=Plain(lambda t, x: 0.0)), TypeError, "must return a tensor"),
    "drift device": (
        dict(sde=Plain(lambda t, x: torch.empty(x.shape, device="meta"))),
        ValueError,
        "meta",
    ),
    "matrix diffusion": (
        dict(sde=Plain(diffusion=lambda t, x: torch.ones(*x.shape, 4))),
        ValueError,
        "noise_type = 'general'",
    ),
    "flat general diffusion": (
        dict(sde=Plain(noise_type="general")),
        ValueError,
        "declares general noise",
    ),
    "diffusion shape": (
        dict(sde=Plain(diffusion=lambda t, x: torch.ones(7))),
        ValueError,
        "broadcasts",
    ),
    "additive in name only": (
        dict(sde=Plain(diffusion=lambda t, x: x, noise_type="additive")),
        ValueError,
        "noise_type = 'diagonal'",
    ),
}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_wrong_input_is_named(case):
    given, error, message = CASES[case]
    arguments = {"sde": sk.OU(), "x0": X} | given
    with pytest.raises(error, match=message):
        sk.solve(**arguments)


def test_numba_asked_for_on_another_device():
    with pytest.raises(RuntimeError, match="backend='auto'"):
        sk.solve(sk.OU(), torch.zeros(2, 1, device="meta"), backend="numba")


def test_empty_batch():
    sol = sk.solve(sk.OU(), torch.zeros(0, 3))
    assert sol.x.shape == (0, 3) and sol.status.shape == (0,)
    assert sk.solve(sk.OU(), torch.zeros(0, 3), save_at=[0.5, 1.0]).x.shape == (2, 0, 3)


def test_a_path_that_blows_up_leaves_the_others_alone():
    """dx = x^3 dt: explicit Euler from 10 overflows; the sample says at which step."""
    x0 = torch.tensor([[0.1], [10.0], [0.2]])
    cubic = Plain(lambda t, x: x**3, lambda t, x: 0.01 * torch.ones_like(x))
    sol = sk.solve(cubic, x0, steps=20, seed=4)
    alone = sk.solve(cubic, x0[2:], steps=20, seed=4, first_sample=2)
    assert sol.status.tolist() == [0, 1, 0]
    step = int(sol.stats.nonfinite_step[1])
    assert 0 < step < 20 and sol.stats.nonfinite_step.tolist() == [-1, step, -1]
    shorter = sk.solve(cubic, x0, times=[i / 20 for i in range(step + 1)], seed=4)
    assert shorter.status.tolist() == [0, 0, 0]  # finite until the step that is named
    assert torch.equal(sol.x[2:], alone.x)


def test_explain_says_why():
    path = sk.explain(sk.OU())
    assert path.name == "trajectory_kernel" and path.backend == "numba" and "CPU" in path.reason
    sol = sk.solve(sk.OU(), X)
    assert (sol.stats.path, sol.stats.backend, sol.stats.reason) == tuple(path)[:3]
    path = sk.explain(sk.OU(), fuse=False)
    assert path.name == "step_kernel" and "fuse=False" in path.reason
    assert "no step kernel" in sk.explain(sk.OU(), "heun", fuse=False).reason
    assert "scalar" in sk.explain(Plain(noise_type="scalar"), fuse=False).reason
    assert "no kernels of whole paths" in sk.explain(sk.OU(), backend="torch").reason
    with pytest.raises(ValueError, match="known are"):
        sk.explain(sk.OU(), "milstien")


def test_progress_bar_is_shown_on_request(capsys):
    sk.solve(sk.OU(), X, steps=3)
    assert capsys.readouterr().err == ""
    sk.solve(sk.OU(), X, steps=3, progress=True)
    assert "3/3" in capsys.readouterr().err
