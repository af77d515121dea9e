"""Wrong arguments of ``normal``: a fitting exception that says what was given and what to write."""

from __future__ import annotations

import re

import pytest
import torch
from sdekit_kernels import normal
from sdekit_kernels.dispatch import resolve_backend
from sdekit_kernels.geometry import MAX_DIM

CASES = [
    # argument, value, exception, what the message must contain
    ("shape", 5, TypeError, "(n_samples, *event), got 5: write (n,)"),
    ("shape", "ab", TypeError, "(n_samples, *event), got 'ab'"),
    ("shape", (), ValueError, "got (): write (n,) for n numbers"),
    ("shape", (2, -1), ValueError, "must be in [0, "),
    ("shape", (2, 3.0), TypeError, "must be an integer, got 3.0"),
    ("shape", (True, 3), TypeError, "must be an integer, got True"),
    ("shape", (1, MAX_DIM), ValueError, "number of components of a sample must be in [0, "),
    ("shape", (1, 1 << 16, 1 << 16), ValueError, "got 4294967296"),
    ("seed", 1 << 64, ValueError, "seed must be in [-9223372036854775808, 18446744073709551616)"),
    ("seed", -(1 << 63) - 1, ValueError, "got -9223372036854775809"),
    ("seed", 1.5, TypeError, "seed must be an integer, got 1.5"),
    ("seed", None, TypeError, "seed must be an integer, got None"),
    ("seed", True, TypeError, "seed must be an integer, got True"),
    ("stream", -1, ValueError, "stream must be in [0, 4294967296), got -1"),
    ("stream", 1 << 32, ValueError, "stream must be in"),
    ("stream", "a", TypeError, "stream must be an integer, got 'a'"),
    ("step", -1, ValueError, "step must be in [0, 4294967296), got -1"),
    ("step", 1 << 32, ValueError, "step must be in"),
    ("step", 0.0, TypeError, "step must be an integer, got 0.0"),
    ("first_sample", -1, ValueError, "first_sample must be in [0, "),
    ("first_sample", (1 << 63) - 1, ValueError, "first_sample must be in [0, 9223372036854775807)"),
    ("first_sample", [0], TypeError, "first_sample must be an integer, got [0]"),
    (
        "dtype",
        torch.int32,
        TypeError,
        "torch.float32, torch.float64, torch.bfloat16, torch.float16",
    ),
    ("dtype", torch.complex64, TypeError, "got torch.complex64"),
    ("dtype", "float32", TypeError, "got 'float32'"),
    ("dtype", None, TypeError, "got None"),
    ("backend", "numbe", ValueError, "Did you mean 'numba'?"),
    ("backend", "Triton", ValueError, "Did you mean 'triton'?"),
    ("backend", "xyz", ValueError, "known are 'auto', 'numba', 'triton', 'torch'."),
    ("backend", None, ValueError, "unknown backend None"),
]


@pytest.mark.parametrize(("argument", "value", "error", "says"), CASES)
def test_bad_argument(argument, value, error, says):
    arguments = {"shape": (2, 3)} | {argument: value}
    with pytest.raises(error, match=re.escape(says)):
        normal(arguments.pop("shape"), **arguments)


def test_the_ends_of_every_range_are_allowed():
    top = (1 << 32) - 1
    for seed in (-(1 << 63), (1 << 64) - 1):
        z = normal((2, 3), seed=seed, stream=top, step=top, first_sample=(1 << 63) - 2)
        assert z.isfinite().all()


def test_options_are_keywords():
    with pytest.raises(TypeError):
        normal((2, 3), 0)


def test_a_backend_that_cannot_run_on_the_device_says_what_to_write():
    with pytest.raises(RuntimeError, match=re.escape("these are on meta: write backend='auto'")):
        normal((2,), device="meta", backend="numba")
    with pytest.raises(RuntimeError, match=re.escape("these are on meta: write backend='auto'")):
        normal((2,), device="meta", backend="triton")
    with pytest.raises(RuntimeError, match=re.escape("move them with .cpu()")):
        resolve_backend("numba", torch.device("cuda"))


def test_triton_on_the_cpu_needs_the_interpreter(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(RuntimeError, match="TRITON_INTERPRET=1 before Python starts"):
        normal((2, 3), backend="triton")


def test_auto_says_why():
    assert resolve_backend("auto", torch.device("cpu")) == ("numba", "CPU tensors")
    assert resolve_backend("auto", torch.device("meta")).backend == "torch"
    assert resolve_backend("auto", torch.device("cuda")).backend == "triton"
    for name in ("numba", "torch"):
        assert resolve_backend(name, torch.device("cpu")) == (name, "asked for by name")


def test_without_triton_a_gpu_takes_the_reference(monkeypatch):
    monkeypatch.setattr("sdekit_kernels.dispatch._installed", lambda package: False)
    choice = resolve_backend("auto", torch.device("cuda"))
    assert choice.backend == "torch" and "not installed" in choice.reason
    with pytest.raises(RuntimeError, match="pip install triton"):
        resolve_backend("triton", torch.device("cuda"))
