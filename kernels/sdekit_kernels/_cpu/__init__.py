"""What every Numba kernel shares: 32-bit machine operations, the compile options, moving data."""
