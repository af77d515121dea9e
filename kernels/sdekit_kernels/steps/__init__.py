"""Step operations that take a network's output and move the state once through memory.

All three are one affine step, ``affine.py``: x_mean = a x + b s, x_next = x_mean + c z, with the
noise made in registers. Each public operation has its own file with its checks and its formula.
"""
