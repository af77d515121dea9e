"""Pictures one after the other as a film: GIF by Pillow, MP4 by ffmpeg."""

from __future__ import annotations

import importlib
import io
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sdekit.viz.canvas import PathLike

Picture = NDArray[np.uint8]
"""(H, W) grey, or (H, W, 3)."""
Encoder = Callable[[Sequence[Picture], float], bytes]

FASTEST_GIF: Final = 50.0
"""Pictures a second: a GIF counts in hundredths, and browsers take one of them for ten."""


def encoder(path: PathLike) -> Encoder:
    """How the film at ``path`` is written, by the end of its name.

    Raises ValueError for what is neither .gif nor .mp4; ModuleNotFoundError, with what to install,
    for what is needed and not there: asked before the first picture is drawn.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".gif":
        _require_pillow()
        return gif
    if suffix == ".mp4":
        program = ffmpeg()
        return lambda pictures, fps: mp4(pictures, fps, program)
    raise ValueError(f"a film is written as .gif or .mp4, got {str(path)!r}")


def gif(pictures: Sequence[Picture], fps: float) -> bytes:
    """An endless GIF. Grey levels are kept exactly, colours to a palette of 256 a picture.

    Raises ValueError for more than 50 pictures a second.
    """
    if fps > FASTEST_GIF:
        raise ValueError(f"a GIF shows {FASTEST_GIF:g} pictures a second at most, got fps={fps:g}")
    _require_pillow()
    from PIL import Image

    first, *rest = (Image.fromarray(picture) for picture in pictures)
    buffer = io.BytesIO()
    first.save(
        buffer,
        format="GIF",
        save_all=True,
        append_images=rest,
        duration=round(1000.0 / fps),
        loop=0,
    )
    return buffer.getvalue()


def mp4(pictures: Sequence[Picture], fps: float, program: str) -> bytes:
    """H.264 in an MP4, by the ffmpeg at ``program``.

    Raises RuntimeError, with ffmpeg's last words, if it writes no film.
    """
    frames = [_even(picture) for picture in pictures]
    height, width = frames[0].shape[:2]
    source = f"-f rawvideo -pix_fmt rgb24 -s {width}x{height} -r {fps:g} -i -"
    target = "-an -c:v libx264 -crf 18 -pix_fmt yuv420p -movflags +faststart"
    # It goes back to the beginning of its file when it is done: a pipe will not do.
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "film.mp4"
        command = [program, "-loglevel", "error", *source.split(), *target.split(), str(out)]
        data = b"".join(frame.tobytes() for frame in frames)
        done = subprocess.run(command, input=data, capture_output=True, check=False)
        if done.returncode != 0 or not out.is_file():
            words = done.stderr.decode(errors="replace").strip().splitlines()
            raise RuntimeError(
                f"{program} wrote no film: {words[-1] if words else 'it did not say why'}"
            )
        return out.read_bytes()


def ffmpeg() -> str:
    """The ffmpeg on the path, or the one that imageio-ffmpeg brings.

    Raises ModuleNotFoundError, with what to install, if there is neither.
    """
    found = shutil.which("ffmpeg")
    if found is not None:
        return found
    try:
        brought: Any = importlib.import_module("imageio_ffmpeg")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'MP4 needs ffmpeg, which is not installed: write pip install "sdekit[films]", or give '
            "the film a name that ends with .gif"
        ) from error
    return str(brought.get_ffmpeg_exe())


def _require_pillow() -> None:
    try:
        import PIL  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'GIF needs Pillow, which is not installed: write pip install "sdekit[plots]"'
        ) from error


def _even(picture: Picture) -> Picture:
    """In three colours, with sides that H.264 can halve: the last row and column once more."""
    if picture.ndim == 2:
        picture = np.repeat(picture[:, :, None], 3, axis=2)
    height, width = picture.shape[:2]
    return np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
