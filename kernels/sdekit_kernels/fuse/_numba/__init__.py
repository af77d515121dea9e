"""Trajectory kernels on the CPU: printed as Numba, vectorized over blocks of paths."""
