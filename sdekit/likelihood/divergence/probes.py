r"""Probe vectors v with E[v v^T] = 1, of which v^T J v is an unbiased estimate of tr J."""

from __future__ import annotations

import sdekit_kernels
import torch
from sdekit_kernels.checks import check_choice, check_int_range
from torch import Tensor

from sdekit.noise import keys

__all__ = ["PROBES", "draw_normals", "draw_probes", "frame"]

PROBES = ("rademacher", "gaussian", "orthogonal")


def draw_probes(
    n: int,
    x: Tensor,
    *,
    kind: str = "rademacher",
    seed: int = 0,
    first_sample: int = 0,
    step0: int = 0,
) -> Tensor:
    r"""n probe vectors a sample, (n, B, D...), with E[v v^T] = 1.

    kind: "rademacher" (signs: the least variance of all independent entries), "gaussian", or
    "orthogonal": min(n, D) directions \sqrt{D} q_j of a uniformly random orthogonal frame (Q of
    the QR decomposition of normals), and a new frame after D of them. The D forms of a whole frame
    have the mean tr J exactly.

    Probe j of a sample is a function of the seed and the sample's number alone: stream PROBE, step
    ``step0 + j``. More probes, from step0 = n on, are independent of these.
    Raises TypeError or ValueError for an unknown kind and numbers out of their range.
    """
    check_choice("probes", kind, PROBES)
    z = draw_normals(n, x, seed=seed, first_sample=first_sample, step0=step0)
    if kind == "gaussian":
        return z
    if kind == "rademacher":
        # Not sign(): a normal can be 0 in float32, and a probe's entry must not.
        return torch.where(z < 0, -1.0, 1.0).to(x.dtype)
    d = x.shape[1:].numel()
    parts = [frame(part.flatten(2)).mul(d**0.5) for part in z.split(d)]
    return torch.cat(parts).view_as(z)


def draw_normals(n: int, x: Tensor, *, seed: int, first_sample: int, step0: int) -> Tensor:
    """Normals (n, B, D...) of stream PROBE, row j of step ``step0 + j``."""
    check_int_range("n_probes", n, 1, 1 << 31)
    check_int_range("step0", step0, 0, (1 << 32) - n + 1)
    return torch.stack(
        [
            sdekit_kernels.normal(
                tuple(x.shape),
                seed=seed,
                stream=keys.PROBE,
                step=step0 + j,
                first_sample=first_sample,
                dtype=x.dtype,
                device=x.device,
            )
            for j in range(n)
        ]
    )


def frame(vectors: Tensor) -> Tensor:
    """Orthonormal vectors (n, B, D) of the same span as each sample's n <= D vectors (n, B, D).

    Of normals, a uniformly random frame up to signs, which no quadratic form sees. Dependent
    vectors are completed by others.
    """
    # (B, D, n): a decomposition a sample, by Householder reflections: orthogonal to rounding.
    return torch.linalg.qr(vectors.permute(1, 2, 0))[0].permute(2, 0, 1).contiguous()
