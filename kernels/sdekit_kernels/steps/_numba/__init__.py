"""The CPU kernels of the steps."""
