"""Numba's array functions without SciPy's linear algebra.

The module numba.np.arraymath asks, as it is imported, whether SciPy's BLAS is there, by importing
it: 0.1 s, and a fifth of the first solve of a process whose kernels are on disk. Only its
numpy.cov uses the answer, and asks again when it is compiled. So it is imported under an answer of
no, and then given the true one, which the import system knows without importing.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Any

__all__ = ["import_arrays"]


def import_arrays() -> None:
    """Import numba.np.arraymath, if this is still to be done; nothing in Numba is changed by it."""
    if "numba.np.arraymath" in sys.modules or "scipy.linalg" in sys.modules:
        return
    from numba.np import linalg

    given: Any = getattr(linalg, "ensure_blas", None)
    if given is None:
        return  # a Numba that does it in another way
    linalg.ensure_blas = _absent
    try:
        from numba.np import arraymath
    finally:
        linalg.ensure_blas = given
    for name, value in (("ensure_blas", given), ("_HAVE_BLAS", find_spec("scipy") is not None)):
        if hasattr(arraymath, name):
            setattr(arraymath, name, value)


def _absent() -> None:
    raise ImportError("asked for later")
