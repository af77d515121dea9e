"""Random affine maps of images, from normals that are handed in."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["affine_maps"]


def affine_maps(
    z: Tensor, size: tuple[int, int], *, rotation: float, scale: float, shear: float, shift: float
) -> Tensor:
    r"""Maps (B, 2, 3) of the coordinates (column, row) in [-1, 1], as ``affine_grid`` takes them.

        x_in = R(\rho z_0) [[e^{s z_1}, h z_3], [0, e^{s z_2}]] x_out + p (z_4, z_5),

    R a rotation, with \rho = ``rotation`` and h = ``shear`` in radians, s = ``scale`` of the
    logarithm along each axis, p = ``shift`` in pixels of an image of ``size`` (H, W); z: normals
    (B, 6). Everything is computed in z's type.
    """
    angle = rotation * z[:, 0]
    stretch = (scale * z[:, 1:3]).exp()
    bend = shear * z[:, 3]
    pixel = torch.tensor([2.0 / size[1], 2.0 / size[0]], dtype=z.dtype)
    move = shift * z[:, 4:6] * pixel
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    turn = torch.stack([cos, -sin, sin, cos], 1).view(-1, 2, 2)
    lean = torch.stack([stretch[:, 0], bend, zero, stretch[:, 1]], 1).view(-1, 2, 2)
    return torch.cat([turn @ lean, move.unsqueeze(2)], 2)
