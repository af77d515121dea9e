"""What every Numba kernel shares: 32-bit machine operations, the compile options, moving data."""

from sdekit_kernels._cpu.collector import collector_paused

with collector_paused():
    import numba  # noqa: F401 - here first of all
