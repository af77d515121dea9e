"""What all pictures have: a figure without a display, images on axes, a file written whole."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from sdekit.files import write_atomically

PathLike = str | os.PathLike[str]

BLUE: Final = "#2563a8"
RED: Final = "#c2410c"
GREY: Final = "#6b7280"


def require_matplotlib() -> None:
    """Raises ModuleNotFoundError, with what to install, if matplotlib is missing."""
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'pictures need matplotlib, which is not installed: write pip install "sdekit[demo]"'
        ) from error


def new_figure(width: float, height: float) -> Any:
    """A figure of so many inches of 150 dots: without pyplot, so without state or display."""
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def show(axis: Any, picture: Tensor, limits: tuple[float, float]) -> None:
    """A picture (H, W), dark strokes on light paper, or (H, W, 3); limits: of white and black."""
    low, high = limits
    if picture.ndim == 3:
        axis.imshow(
            ((picture - low) / (high - low)).clamp(0.0, 1.0).numpy(), interpolation="nearest"
        )
    else:
        axis.imshow(picture.numpy(), cmap="gray_r", vmin=low, vmax=high, interpolation="nearest")
    axis.set_axis_off()


def flat(images: Tensor) -> Tensor:
    """Images as (N, H, W), or (N, H, W, 3) if they have colours; raises ValueError for others."""
    images = images.detach().cpu()
    if images.ndim == 4 and images.shape[1] == 1:
        return images[:, 0]
    if images.ndim == 4 and images.shape[1] == 3:
        return images.permute(0, 2, 3, 1)
    if images.ndim != 3:
        raise ValueError(
            f"images must be (N, H, W), (N, 1, H, W) or (N, 3, H, W), got {tuple(images.shape)}"
        )
    return images


def open_frame(axis: Any) -> None:
    """Leave the upper and the right line of the frame away."""
    axis.spines[["top", "right"]].set_visible(False)


def save(figure: Any, path: PathLike) -> Path:
    """Write a figure as PNG, whole or not at all; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    write_atomically(Path(path), buffer.getvalue())
    return Path(path)
