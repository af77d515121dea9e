"""What a training shows on its way: a bar on stderr, curves and sample grids for TensorBoard."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, final

import torch
from sdekit_kernels.checks import check_int_range
from torch import Tensor

from sdekit.sample import polynomial_times, sample
from sdekit.sde import AffineSDE, IdentitySigma


@dataclass(frozen=True, slots=True)
class Moment:
    """One step that is done: its number from 1, the fraction of the way, its loss, learning rate.

    grad_norm: of all gradients together before clipping, 0-d; None where it was not computed.
    """

    done: int
    way: float
    loss: float
    lr: float
    batch: int
    grad_norm: Tensor | None = None


@final
class Pace:
    """Images a second over about the last ``window`` seconds."""

    def __init__(self, window: float = 2.0) -> None:
        self._window, self._images, self._start = window, 0, time.perf_counter()
        self.rate: float | None = None

    def __call__(self, images: int) -> float:
        """Count so many images more; the rate, in images a second."""
        self._images += images
        passed = time.perf_counter() - self._start
        if self.rate is None or passed > self._window:
            self.rate = self._images / max(passed, 1e-9)
        if passed > self._window:
            self._images, self._start = 0, time.perf_counter()
        return self.rate


@final
class Bar:
    """A tqdm bar over the way of a training, with step, loss and images a second."""

    def __init__(self, what: str = "training") -> None:
        from tqdm import tqdm

        form = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}{postfix}"
        self._bar: Any = tqdm(total=1.0, desc=what, bar_format=form)
        self._pace = Pace()

    def __call__(self, moment: Moment) -> None:
        """Show a step."""
        rate = self._pace(moment.batch)
        text = f"step {moment.done}, loss {moment.loss:.4f}, {rate:.0f} images/s"
        self._bar.set_postfix_str(text, refresh=False)
        self._bar.update(moment.way - self._bar.n)

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()


_INSTALL: Final = (
    'TensorBoard is not installed: write pip install "sdekit[images]", or leave tensorboard= away'
)


@final
class Board:
    """Scalars for TensorBoard, and every ``grid_every`` steps a grid of samples of the model.

    draw: () -> (n, H, W) or (n, C, H, W) grey levels or colours in [0, 1]. grid_every: None for no
    grids.
    Raises ModuleNotFoundError, with what to install, without TensorBoard.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        done: int = 0,
        draw: Callable[[], Tensor],
        grid_every: int | None = None,
    ) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(_INSTALL) from error
        make: Any = SummaryWriter
        # What a killed run wrote beyond its last checkpoint is not shown twice.
        self._writer: Any = make(os.fspath(folder), purge_step=done + 1 if done else None)
        self._draw, self._grid_every, self._pace = draw, grid_every, Pace()

    def __call__(self, moment: Moment) -> None:
        """Write a step."""
        add = self._writer.add_scalar
        add("loss", moment.loss, moment.done)
        add("lr", moment.lr, moment.done)
        add("images_per_second", self._pace(moment.batch), moment.done)
        if moment.grad_norm is not None:
            add("grad_norm", float(moment.grad_norm), moment.done)
        if self._grid_every and (moment.done % self._grid_every == 0 or moment.way >= 1.0):
            self._writer.add_image("samples", grid(self._draw()), moment.done)

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


@contextmanager
def watchers(
    bar: bool,
    board: str | os.PathLike[str] | None,
    grid_every: int | None,
    done: int,
    shape: tuple[int, ...],
    draw: Callable[[], Tensor],
) -> Iterator[Callable[[Moment], None]]:
    """Bar and board as one function of the moment; both are closed at the end.

    shape: of the data's events. Raises ValueError for sample grids of what are no images.
    """
    if grid_every is not None:
        check_int_range("grid_every", grid_every, 1, 1 << 31)
        if len(shape) not in (2, 3) or (len(shape) == 3 and shape[0] not in (1, 3)):
            raise ValueError(
                f"grid_every is for images, (H, W), (1, H, W) or (3, H, W), not for data of shape "
                f"{shape}: leave it away"
            )
        if board is None:
            raise ValueError("grid_every needs a place for the grids: write tensorboard=FOLDER")
    made: list[Bar | Board] = []
    try:
        if board is not None:
            made.append(Board(board, done=done, draw=draw, grid_every=grid_every))
        if bar:
            made.append(Bar())

        def show(moment: Moment) -> None:
            for watcher in made:
                watcher(moment)

        yield show
    finally:
        for watcher in made:
            watcher.close()


@torch.no_grad()
def draw_samples(
    sde: AffineSDE, score: Callable[[Tensor, Tensor], Tensor], shape: tuple[int, ...], steps: int
) -> Tensor:
    """Samples of the probability flow, always from the same noise: what changes is the model."""
    even = not isinstance(getattr(sde, "schedule", None), IdentitySigma)
    times: dict[str, Any] = {"steps": steps} if even else {"times": polynomial_times(sde, steps)}
    x: Tensor = sample(sde, score, shape, predictor="probability_flow", **times)
    return x


def grid(images: Tensor) -> Tensor:
    """(n, H, W) or (n, C, H, W) as one picture (C, rows H, columns W), about as wide as high."""
    images = images.unsqueeze(1) if images.ndim == 3 else images
    n, c, h, w = images.shape
    columns = max(1, round(n**0.5))
    rows = -(-n // columns)
    filled = torch.cat([images, images.new_zeros(rows * columns - n, c, h, w)])
    picture = filled.view(rows, columns, c, h, w).permute(2, 0, 3, 1, 4)
    return picture.reshape(c, rows * h, columns * w)
