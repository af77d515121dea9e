"""The GPU kernels of the steps."""
