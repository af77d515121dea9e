"""The noise: Philox4x32-10 and Box-Muller, in torch (readable), Numba (CPU) and Triton (GPU)."""
