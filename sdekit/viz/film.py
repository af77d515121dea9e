"""Films: samples that move, as GIF or MP4; and the same as a grid on paper.

Frames are (T, B, H, W) or (T, B, C, H, W) with C of 1 or 3, images that stand side by side, or
(T, B, 2), points of the plane.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from sdekit_kernels.checks import check_float_tensor, check_int_range, check_positive
from torch import Tensor

from sdekit.files import write_atomically
from sdekit.viz.canvas import PathLike, new_figure, open_frame
from sdekit.viz.charts import clouds
from sdekit.viz.encoding import Picture, encoder
from sdekit.viz.images import reverse_time, tile

WIDE: Final = 480
"""Dots that a film of images is wide, or less by less than the dots of one pixel."""

Times = Sequence[float] | Tensor | None


def film(
    frames: Tensor,
    path: PathLike,
    *,
    times: Times = None,
    limits: tuple[float, float] = (-1.0, 1.0),
    fps: float = 12.0,
    columns: int | None = None,
    scale: int | None = None,
) -> Path:
    """Write ``frames`` as a film, .gif or .mp4 by the end of its name; returns its path.

    times: (T,), written above points. limits: the values of white and black, or, in colours, of
    black and white; what is beyond them is cut off. fps: frames a second. columns: images of a row;
    about square if None. scale: dots of a pixel, so many that a film is about 480 wide if None.
    Points keep one colour from the first frame to the last, by where they are first.
    MP4 needs ffmpeg, on the path or by ``pip install "sdekit[films]"``.
    Raises TypeError or ValueError for frames of another shape or not finite, and unknown endings;
    ModuleNotFoundError, with what to install, for what is missing; OSError.
    """
    frames = _check_frames(frames)
    rate, encode = check_positive("fps", fps), encoder(path)
    labels = _labels(times, len(frames))
    if frames.ndim == 3:
        pictures = _scatter(frames, labels)
    else:
        pictures = _side_by_side(frames, limits, columns, scale)
    write_atomically(Path(path), encode(pictures, rate))
    return Path(path)


def film_grid(
    frames: Tensor,
    path: PathLike,
    *,
    times: Times = None,
    limits: tuple[float, float] = (-1.0, 1.0),
    columns: int = 8,
) -> Path:
    """Some of the frames, evenly from the first to the last, as one PNG; returns its path.

    Images: a row for each sample, a column for each of at most ``columns`` frames. Points: their
    clouds side by side. times: (T,), written above. Raises as ``film``.
    """
    frames = _check_frames(frames)
    count = min(check_int_range("columns", columns, 1, 1 << 16), len(frames))
    chosen = torch.linspace(0, len(frames) - 1, count, dtype=torch.float64).round().long()
    _labels(times, len(frames))
    at = [] if times is None else [float(times[int(k)]) for k in chosen]
    some = frames[chosen]
    if frames.ndim > 3:
        return reverse_time(path, some, at, limits=limits)
    names = [f"t = {t:.3g}" for t in at] if at else [f"frame {int(k) + 1}" for k in chosen]
    if len(set(names)) < len(names):
        names = [f"{name} ({i + 1})" for i, name in enumerate(names)]
    return clouds(path, dict(zip(names, some, strict=True)))


def _check_frames(frames: Any) -> Tensor:
    """Frames on the CPU in float64; raises TypeError or ValueError for others."""
    given = check_float_tensor("frames", frames).detach().cpu().double()
    points = given.ndim == 3 and given.shape[-1] == 2
    images = given.ndim == 4 or (given.ndim == 5 and given.shape[2] in (1, 3))
    if not (points or images) or given.numel() == 0:
        raise ValueError(
            "frames must be images (T, B, H, W) or (T, B, 1 or 3, H, W), or points (T, B, 2), got "
            f"{tuple(given.shape)}; for one image a frame write frames.unsqueeze(1)"
        )
    bad = (~given.isfinite().flatten(1).all(1)).nonzero().flatten()
    if len(bad):
        raise ValueError(
            f"{len(bad)} of {len(given)} frames are not finite, frame {int(bad[0])} first"
        )
    return given


def _labels(times: Times, count: int) -> list[str]:
    if times is None:
        return [""] * count
    if len(times) != count:
        raise ValueError(f"there are {count} frames and {len(times)} times: give one a frame")
    return [f"t = {float(t):.2f}" for t in times]


def _side_by_side(
    frames: Tensor, limits: tuple[float, float], columns: int | None, scale: int | None
) -> list[Picture]:
    """Images of each frame as dots: dark strokes on light paper where they are grey."""
    low, high = limits
    if not low < high:
        raise ValueError(f"limits must rise, from the lower value to the higher, got {limits}")
    count = frames.shape[1]
    wide = math.ceil(math.sqrt(count)) if columns is None else columns
    wide = min(check_int_range("columns", wide, 1, 1 << 16), count)
    pictures = []
    for frame in frames:
        part = (tile(frame, wide, value=low) - low) / (high - low)
        # Grey levels are ink on paper, colours are light.
        part = part if part.ndim == 3 else 1.0 - part
        dots = (part.clamp(0.0, 1.0) * 255.0).round().to(torch.uint8).numpy()
        each = max(1, WIDE // dots.shape[1]) if scale is None else scale
        each = check_int_range("scale", each, 1, 1 << 10)
        pictures.append(dots.repeat(each, axis=0).repeat(each, axis=1))
    return pictures


def _scatter(frames: Tensor, labels: Sequence[str]) -> list[Picture]:
    """Points of each frame on the axes of all frames."""
    low, high = frames.flatten(0, 1).amin(0), frames.flatten(0, 1).amax(0)
    room = 0.05 * (high - low).clamp(min=1e-6)
    limits = torch.stack([low - room, high + room]).T.tolist()
    # As high as the points ask for, within reason, on axes of one scale.
    rise = float((high - low + 2 * room)[1] / (high - low + 2 * room)[0])
    figure = new_figure(3.2, 0.6 + 2.8 * min(max(rise, 0.4), 1.6))
    axis = figure.subplots()
    start = frames[0]
    dots = axis.scatter(
        start[:, 0].numpy(), start[:, 1].numpy(), s=3, c=start[:, 0].numpy(), cmap="viridis", lw=0
    )
    axis.set(xlim=limits[0], ylim=limits[1], aspect="equal")
    open_frame(axis)
    pictures = []
    for frame, label in zip(frames, labels, strict=True):
        dots.set_offsets(frame.numpy())
        axis.set_title(label, fontsize=9)
        figure.canvas.draw()
        pictures.append(np.array(figure.canvas.buffer_rgba())[..., :3].copy())
    return pictures
