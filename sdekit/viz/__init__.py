"""Pictures: grids of samples, samples along the reverse time, paths over their law, films.

matplotlib is imported when the first picture is drawn, and drawn without a display (Agg). Each
function writes one file, whole or not at all, and returns its path. Images are (N, H, W),
(N, 1, H, W) or, in colours, (N, 3, H, W), on the CPU.
"""

from sdekit.viz.bridges import plot_measures
from sdekit.viz.canvas import PathLike, require_matplotlib
from sdekit.viz.charts import clouds, curve, likelihood_histogram, ou_band, rate_distortion
from sdekit.viz.film import film, film_grid
from sdekit.viz.images import (
    columns_of_images,
    image_grids,
    ranked_images,
    reverse_time,
    tile,
)
from sdekit.viz.transport import by_half_step, plane_paths, rows_of_images

__all__ = [
    "PathLike",
    "by_half_step",
    "clouds",
    "columns_of_images",
    "curve",
    "film",
    "film_grid",
    "image_grids",
    "likelihood_histogram",
    "ou_band",
    "plane_paths",
    "plot_measures",
    "ranked_images",
    "rate_distortion",
    "require_matplotlib",
    "reverse_time",
    "rows_of_images",
    "tile",
]
