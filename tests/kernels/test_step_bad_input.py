"""Wrong arguments of the steps: an exception that says what was given and what to write."""

from __future__ import annotations

import pytest
import torch
from sdekit_kernels import em_step, langevin_step, predictor_step

X = torch.zeros(3, 4)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": [1.0]}, TypeError, "torch.as_tensor"),
        ({"x": X.long()}, TypeError, r"x.float\(\)"),
        ({"x": torch.tensor(1.0)}, ValueError, r"x\[None\]"),
        ({"f": X.long()}, TypeError, "f must be"),
        ({"f": torch.zeros(3, 5)}, ValueError, r"\(3, 5\)"),
        ({"f": torch.empty(3, 4, device="meta")}, ValueError, "f is on meta"),
        ({"x": X.to(torch.float8_e4m3fn), "f": X}, TypeError, "float8"),
        ({"g": "big"}, TypeError, "g must be a number"),
        ({"g": torch.zeros(4)}, ValueError, r"one a component \(1, 4\)"),
        ({"g": torch.zeros(3, dtype=torch.int64)}, TypeError, "floating"),
        ({"g": torch.empty(3, device="meta")}, ValueError, "g is on meta"),
        ({"dt": torch.zeros(3, 4, 1)}, ValueError, "dt has shape"),
        ({"seed": 0.5}, TypeError, "seed"),
        ({"step": 1 << 32}, ValueError, "step"),
        ({"step": -1}, ValueError, "step"),
        ({"stream": -1}, ValueError, "stream"),
        ({"backend": "cuda"}, ValueError, "known are"),
        ({"out": torch.zeros(3, 5)}, ValueError, "out has shape"),
        ({"out": torch.zeros(3, 4, dtype=torch.float64)}, TypeError, "out has dtype"),
    ],
    ids=str,
)
def test_em_step(change, error, message):
    arguments = {"x": X, "f": X, "g": 1.0, "dt": 0.1, "seed": 0} | change
    x, f, g, dt = (arguments.pop(k) for k in ("x", "f", "g", "dt"))
    with pytest.raises(error, match=message):
        em_step(x, f, g, dt, **arguments)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({}, ValueError, "either snr or step_size"),
        ({"snr": 0.1, "step_size": 0.1}, ValueError, "either snr or step_size"),
        ({"snr": 0.0}, ValueError, "above zero"),
        ({"snr": -1.0}, ValueError, "above zero"),
        ({"snr": float("nan")}, ValueError, "finite"),
        ({"snr": torch.tensor(-1.0)}, ValueError, "above zero"),
        ({"snr": torch.full((1, 4), 0.1)}, ValueError, "one step size"),
        ({"snr": torch.full((1, 4), 0.1), "norm": "batch"}, ValueError, "one step size"),
        ({"snr": 0.1, "alpha": -1.0}, ValueError, "alpha must be finite and zero or more"),
        ({"step_size": -0.1}, ValueError, "zero or more"),
        ({"step_size": torch.tensor(-0.1)}, ValueError, "zero or more"),
        ({"snr": 0.1, "norm": "btch"}, ValueError, "Did you mean 'batch'"),
        ({"snr": 0.1, "alpha": torch.zeros(7)}, ValueError, "alpha has shape"),
    ],
    ids=str,
)
def test_langevin_step(change, error, message):
    with pytest.raises(error, match=message):
        langevin_step(X, X, **change, seed=0)


def test_backends_that_cannot_run(monkeypatch):
    meta = torch.empty(3, 4, device="meta")
    with pytest.raises(RuntimeError, match=r"\.cpu\(\)"):
        em_step(meta, meta, 1.0, 0.1, seed=0, backend="numba")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(RuntimeError, match="TRITON_INTERPRET"):
        predictor_step(X, X, 1.0, 0.1, 1.0, seed=0, backend="triton")
