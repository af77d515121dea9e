"""One half-step of a diffusion Schrödinger bridge, by part: simulation, regression, the rest.

``cases`` says of what size, ``eager`` how a user would write it in plain torch, ``ours`` how the
library is asked for each part, ``bench_bridge.py`` who is timed.
"""
