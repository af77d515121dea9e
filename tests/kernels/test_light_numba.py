"""The first kernel of a process does not pay for SciPy, and Numba is none the worse for it."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
from importlib.util import find_spec
import sdekit_kernels
sdekit_kernels.normal((4,), backend="numba")
assert "numba" in sys.modules
print([name for name in sys.modules if name.startswith("scipy.linalg")])
from numba.np import arraymath, linalg
assert arraymath.ensure_blas is linalg.ensure_blas
assert arraymath._HAVE_BLAS == (find_spec("scipy") is not None)
"""


def test_numba_is_loaded_without_scipy_and_has_it_when_asked():
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "[]"
