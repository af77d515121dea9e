"""What every Triton kernel shares: the fused multiply-add, and how a launch is made."""
