"""Programs as Triton kernels: a path a lane, from the first step to the last in registers."""
