"""``cpp/trajectory.cpp`` compiled by the system's compiler and called with torch tensors."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from sdekit_kernels.philox.reference import derive_key
from torch import Tensor

SOURCE = Path(__file__).resolve().parent / "cpp" / "trajectory.cpp"
FLAGS = ["-O3", "-march=native", "-fopenmp", "-ffp-contract=off"]
FLAGS += ["-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC"]
PATH_STREAM = 0
"""``sdekit.noise.keys.PATH``: whose increments a solve draws."""


class NoCompiler(Exception):
    """Why there is no C++ loop here, in one line."""


@lru_cache(maxsize=1)
def load() -> tuple[Any, str]:
    """(the library, which compiler made it). Raises NoCompiler."""
    wanted = (os.environ.get("CXX"), "g++", "clang++")
    compiler = next((found for name in wanted if name and (found := shutil.which(name))), None)
    if compiler is None:
        raise NoCompiler("no C++ compiler here (CXX, g++, clang++)")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "trajectory.so"
        command = [compiler, *FLAGS, str(SOURCE), "-o", str(target)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            said = " ".join(done.stderr.split())[:200]
            raise NoCompiler(f"{Path(compiler).name} cannot compile the loop: {said}")
        library = ctypes.CDLL(str(target))  # loaded: its file is needed no more
    library.ou.restype = None
    library.ou.argtypes = [
        ctypes.c_void_p,
        ctypes.c_int64,
        ctypes.c_uint64,
        *[ctypes.c_uint32] * 4,
        *[ctypes.c_float] * 3,
        ctypes.c_int,
    ]
    asked = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False)
    version = (asked.stdout.splitlines() or ["unknown version"])[0]
    return library, f"{version}; {' '.join(FLAGS[:6])}"


def ou_loop(
    x0: Tensor,
    *,
    theta: float,
    mu: float,
    sigma: float,
    dt: float,
    steps: int,
    seed: int = 0,
    first_sample: int = 0,
    first_step: int = 0,
) -> Tensor:
    """x0 (n, 1) float32 after ``steps`` steps with ``sk.solve``'s noise, on torch's thread count.

    The float32 numbers theta dt and sigma sqrt(dt) are rounded once, from float64.
    """
    library, _ = load()
    x = x0.clone(memory_format=torch.contiguous_format)
    assert x.dtype == torch.float32 and x.device.type == "cpu"
    library.ou(
        x.data_ptr(),
        x.numel(),
        first_sample,
        first_step,
        steps,
        *derive_key(seed, PATH_STREAM),
        theta * dt,
        mu,
        sigma * dt**0.5,
        torch.get_num_threads(),
    )
    return x
