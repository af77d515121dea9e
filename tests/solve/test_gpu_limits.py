"""What a solve says of a step that is too long for a GPU's kernel."""

from __future__ import annotations

import torch

import sdekit as sk


class Sines:
    """dx = sin(sin(... x)) dt + 0.1 dW."""

    noise_type = "additive"

    def __init__(self, depth: int) -> None:
        self.depth = depth

    def drift(self, t, x):
        for _ in range(self.depth):
            x = torch.sin(x)
        return x

    def diffusion(self, t, x):
        return torch.full_like(x, 0.1)


def test_a_step_too_long_for_a_gpu_goes_step_by_step(triton_device):
    x = torch.zeros(3, 64, device=triton_device)
    short, long = (
        sk.explain(Sines(depth), x0=x, device=triton_device, backend="triton") for depth in (4, 5)
    )
    assert short.name == "trajectory_kernel"
    assert long.name != "trajectory_kernel"
    assert "too long for one GPU kernel" in long.reason
    assert sk.explain(Sines(5), x0=x.cpu(), backend="numba").name == "trajectory_kernel"
