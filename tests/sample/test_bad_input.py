"""Each wrong argument of ``sample`` gets an error that says what was given and what to write."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sdekit.sample import polynomial_times, sample, uniform_times
from sdekit.score import Gaussian
from sdekit.sde import GBM, OU
from tests.sample.cases import SDES

VP = SDES["vp"]
GAUSS = Gaussian(0.0, 1.0, VP)
NAN = torch.tensor([[0.0, float("nan")], [1.0, 2.0]])


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"predictor": "euler_maruyma"}, ValueError, "Did you mean 'euler_maruyama'"),
        ({"corrector": "langvin"}, ValueError, "Did you mean 'langevin'"),
        ({"norm": "batches"}, ValueError, "Did you mean 'batch'"),
        ({"backend": "tritn"}, ValueError, "Did you mean 'triton'"),
        ({"snr": 0.0}, ValueError, "snr must be finite and above zero"),
        ({"snr": -1.0}, ValueError, "snr"),
        ({"snr": float("nan")}, ValueError, "snr"),
        ({"snr": "much"}, TypeError, "snr must be a number"),
        ({"steps": 0}, ValueError, "steps must be in"),
        ({"steps": -3}, ValueError, "steps must be in"),
        ({"steps": 2.5}, TypeError, "steps must be an integer"),
        ({"corrector_steps": 0}, ValueError, "corrector_steps"),
        ({"eta": 0.5}, ValueError, "eta= belongs to the predictor 'ddim'"),
        ({"predictor": "ddim", "eta": 1.5}, ValueError, r"eta must be in \[0, 1\]"),
        ({"predictor": "ddim", "eta": -0.1}, ValueError, "eta must be finite and zero or more"),
        ({"predictor": "ddim", "variance": "fixed_small"}, ValueError, "predictor 'ddpm'"),
        ({"predictor": "none", "eta": 0.5}, ValueError, "not to 'none'"),
        ({"predictor": "ddpm", "variance": "fixedsmall"}, ValueError, "mean 'fixed_small'"),
        ({"data_std": 1.0}, ValueError, "data_std= belongs to the corrector 'ou'"),
        ({"corrector": "ou", "data_std": -1.0}, ValueError, "data_std must be 0 or more"),
        ({"corrector": "ou", "data_std": "wide"}, TypeError, "data_std"),
        ({"samples": [1, 2, 3]}, ValueError, "samples must hold one number for each of 2"),
        ({"samples": 3}, TypeError, "samples must be 2 integers"),
        ({"samples": [1, -2]}, ValueError, "an entry of samples"),
        ({"samples": [1, 2], "first_sample": 5}, ValueError, "leave first_sample=5 away"),
        ({"seed": [1]}, ValueError, "seed must hold one number for each of 2"),
        ({"seed": [1, 0.5]}, TypeError, "an entry of seed"),
        (
            {"samples": [5, 3], "corrector": "langevin", "norm": "batch"},
            ValueError,
            "consecutive ones of a seed",
        ),
        ({"t_min": 1.0}, ValueError, "t_min must be below the SDE's T = 1"),
        ({"t_min": -0.1}, ValueError, "t_min"),
        ({"t_min": 0.0, "corrector": "annealed"}, ValueError, "corrector_first=True"),
        ({"times": [1.0, 0.5, 0.5]}, ValueError, r"times\[1\] = 0.5 is followed by 0.5"),
        ({"times": [0.0, 0.5, 1.0]}, ValueError, r"write times.flip\(0\)"),
        ({"times": [1.0, float("nan")]}, ValueError, "finite"),
        ({"times": [1.0]}, ValueError, "two or more"),
        ({"times": "down"}, TypeError, "sequence of numbers"),
        ({"times": [1.5, 0.5]}, ValueError, r"must lie in \[0, 1\]"),
        ({"times": [1.0, -0.5]}, ValueError, r"must lie in \[0, 1\]"),
        ({"times": [0.5, 0.1]}, ValueError, "give the state there as x_init"),
        ({"times": [1.0, 0.1], "steps": 3}, ValueError, "either times, or steps and t_min"),
        ({"times": [1.0, 0.1], "t_min": 0.1}, ValueError, "either times, or steps and t_min"),
        ({"shape": ()}, ValueError, r"write \(1, 1\)"),
        ({"shape": (64,)}, ValueError, r"write \(64, 1\).*or \(1, 64\)"),
        ({"shape": (2, 0)}, ValueError, "one component or more"),
        ({"shape": (-1, 2)}, ValueError, "shape"),
        ({"shape": 64}, TypeError, r"\(B, D...\)"),
        ({"shape": (2, 1.5)}, TypeError, "integer"),
        ({"seed": 0.5}, TypeError, "seed"),
        ({"first_sample": -1}, ValueError, "first_sample"),
        ({"dtype": torch.int32}, TypeError, "dtype must be one of"),
        ({"score": None}, TypeError, "callable as score"),
        ({"sde": GBM(0.1, 0.2)}, TypeError, "AffineSDE"),
        ({"sde": OU([1.0, 2.0, 3.0])}, ValueError, "they must agree"),
        ({"x_init": np.zeros((2, 2))}, TypeError, "torch.as_tensor"),
        ({"x_init": torch.zeros(2, 2, dtype=torch.int64)}, TypeError, "floating-point"),
        ({"x_init": torch.zeros(3, 2)}, ValueError, r"x_init has shape \(3, 2\)"),
        ({"x_init": NAN}, ValueError, "x_init must be finite"),
        ({"x_init": torch.zeros(2, 2).double(), "dtype": torch.float32}, TypeError, "leave dtype"),
        ({"x_init": torch.zeros(2, 2), "device": "meta"}, ValueError, "leave device away"),
        ({"path_points": 3}, ValueError, "return_info=True"),
        ({"path_points": 1, "return_info": True}, ValueError, r"\[2, 31\] for 30 steps"),
        ({"path_points": 32, "return_info": True}, ValueError, r"\[2, 31\] for 30 steps"),
        ({"score": lambda t, x: x[:, :1]}, ValueError, r"score returned shape \(2, 1\)"),
        ({"score": lambda t, x: x.double()}, TypeError, r"write score\(t, x\).to\(x.dtype\)"),
        ({"score": lambda t, x: x.to("meta")}, ValueError, "on meta for x on cpu"),
        ({"score": lambda t, x: None}, TypeError, "must return a tensor, got NoneType"),
        ({"steps": 10}, ValueError, "write steps=20 or more"),
        ({"steps": 10, "predictor": "ancestral"}, ValueError, "write steps=20 or more"),
        (
            {"steps": 10, "predictor": "euler_maruyama", "corrector": "langevin"},
            ValueError,
            "write steps=20 or more",
        ),
    ],
)
def test_errors(change, error, text):
    given = {"sde": VP, "score": GAUSS, "shape": (2, 2), "steps": 30} | change
    if "times" in change and "steps" not in change:
        del given["steps"]
    with pytest.raises(error, match=text):
        sample(given.pop("sde"), given.pop("score"), given.pop("shape"), **given)


def test_a_backend_by_name_that_cannot_run(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(RuntimeError, match="GPU tensors"):
        sample(VP, GAUSS, (2, 2), steps=30, backend="triton", device="cpu")


def test_few_steps_are_fine_where_no_chain_needs_more():
    sub = SDES["subvp"]
    for predictor in ("euler_maruyama", "reverse_diffusion", "ancestral", "probability_flow"):
        x = sample(sub, Gaussian(0.0, 1.0, sub), (4, 2), steps=10, predictor=predictor)
        assert bool(torch.isfinite(x).all())
    x = sample(VP, GAUSS, (4, 2), steps=10, predictor="euler_maruyama")
    assert bool(torch.isfinite(x).all())


def test_grids_check_their_arguments():
    with pytest.raises(ValueError, match="steps"):
        uniform_times(VP, 0)
    with pytest.raises(ValueError, match="rho"):
        polynomial_times(VP, 10, rho=0.0)
    with pytest.raises(ValueError, match="t_min"):
        polynomial_times(VP, 10, t_min=2.0)
