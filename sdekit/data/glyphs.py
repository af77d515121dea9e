"""Letters of the fonts that matplotlib ships, as large pictures."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

__all__ = ["FONTS", "OVERSAMPLING", "SIZE", "glyphs"]

SIZE: Final = 28
"""Pixels of a letter's picture along each axis, as MNIST has them."""
OVERSAMPLING: Final = 2
"""Grey values along each axis of a pixel; each is the mean of 2 x 2 points."""
_POINTS: Final = 2 * OVERSAMPLING
_HEIGHT: Final = 17.0
"""Pixels of a capital H."""
_WIDEST: Final = 23.0
"""Pixels of the widest letter: a W is made smaller."""

FONTS: Final = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSans-BoldOblique",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "DejaVuSansMono-Oblique",
    "DejaVuSansMono-BoldOblique",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSerif-Italic",
    "DejaVuSerif-BoldItalic",
    "STIXGeneral",
    "STIXGeneralBol",
    "STIXGeneralItalic",
    "STIXGeneralBolIta",
    "cmr10",
    "cmb10",
    "cmss10",
    "cmti10",
    "cmtt10",
)
"""Files in matplotlib's folder of fonts, without those of symbols."""


@lru_cache(maxsize=4)
def glyphs(alphabet: str) -> Tensor:
    """Ink in [0, 1], (letters, fonts, S, S) float64 with S = SIZE * OVERSAMPLING.

    Made from outlines, not by a rasterizer: a point is within a letter or it is not, on every
    machine and with every version of the font library. A letter's middle is the picture's.
    Raises ModuleNotFoundError, with what to install, if matplotlib is missing, FileNotFoundError if
    it came without one of its fonts.
    """
    fonts = []
    for name in FONTS:
        path = _folder() / f"{name}.ttf"
        height = float(_outline(path, "H")[..., 1].max())
        outlines = [_outline(path, letter) for letter in alphabet]
        fonts.append(torch.stack([_fill(outline, _HEIGHT / height) for outline in outlines]))
    return torch.stack(fonts, 1)


def _folder() -> Path:
    try:
        import matplotlib
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the letters are drawn from the fonts of matplotlib, which is not installed: "
            'write pip install "sdekit[images]"'
        ) from error
    return Path(matplotlib.get_data_path()) / "fonts" / "ttf"


def _outline(path: Path, letter: str) -> Tensor:
    """The outline's edges (E, 2 ends, 2), in the font's own units, y upwards."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    if not path.is_file():
        raise FileNotFoundError(2, "matplotlib came without this font of its own", str(path))
    outline = TextPath((0.0, 0.0), letter, size=100, prop=FontProperties(fname=str(path)))
    return torch.cat([_edges(torch.from_numpy(corners)) for corners in outline.to_polygons()])


def _fill(edges: Tensor, scale: float) -> Tensor:
    """Share of the points that lie within the outline, times ``scale`` or less, centred."""
    low, high = edges.amin((0, 1)), edges.amax((0, 1))
    scale = min(scale, _WIDEST / float(high[0] - low[0]))
    middle = 0.5 * (low + high)
    points = SIZE * _POINTS
    # Pixels from the middle; rows run downwards.
    place = (torch.arange(points, dtype=torch.float64) + 0.5) / _POINTS - SIZE / 2
    x = middle[0] + place / scale
    y = middle[1] - place / scale
    inside = _winding(edges, x, y) != 0
    return avg_pool2d(inside.double().unsqueeze(0), _POINTS // OVERSAMPLING).squeeze(0)


def _edges(corners: Tensor) -> Tensor:
    """From each corner (C, 2) to the next and from the last to the first, (C, 2, 2)."""
    return torch.stack([corners, corners.roll(-1, 0)], 1)


def _winding(edges: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """How often closed polygons go around the points (x_j, y_i), (rows, columns).

    Edges that cross a row to the left of the point, those upwards less those downwards. Holes
    run the other way round than the outline and cancel; parts that overlap do not.
    """
    start, end = edges[:, 0], edges[:, 1]
    above = (end[:, 1] > y.unsqueeze(1)).long() - (start[:, 1] > y.unsqueeze(1)).long()
    row, edge = above.nonzero(as_tuple=True)
    way = (y[row] - start[edge, 1]) / (end[edge, 1] - start[edge, 1])
    place = start[edge, 0] + way * (end[edge, 0] - start[edge, 0])
    crossings = torch.zeros((len(y), len(x) + 1), dtype=torch.int64)
    crossings.index_put_((row, torch.searchsorted(x, place)), above[row, edge], accumulate=True)
    return crossings[:, :-1].cumsum(1)
