"""The way over the half-steps of a bridge and the regression inside each: a bar, or lines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sdekit.bridge.regression import OnStep
from sdekit.train.lines import Lines, redraws


@contextmanager
def shown(progress: bool, half_steps: int, done: int = 0) -> Iterator[OnStep | None]:
    """What a regression tells its steps to; None without progress.

    It moves a tqdm bar on stderr; where stderr cannot redraw one, as in the log of a job, it prints
    a line after each half-step and, inside a long one, for tenths of the way and each minute.
    done: how many half-steps were done before.
    """
    if not progress:
        yield None
        return
    whole = done

    def words(step: int, loss: float) -> str:
        return f"half-step {whole + 1} of {half_steps}, step {step}, loss {loss:.4f}"

    if not redraws():
        lines = Lines("bridge", done / half_steps)

        def tell(step: int, way: float, loss: float) -> None:
            nonlocal whole
            lines((whole + way) / half_steps, words(step, loss), always=way >= 1.0)
            whole += way >= 1.0

        yield tell
        return
    from tqdm import tqdm

    form = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}{postfix}"
    bar: Any = tqdm(total=float(half_steps), initial=done, desc="bridge", bar_format=form)

    def move(step: int, way: float, loss: float) -> None:
        nonlocal whole
        bar.set_postfix_str(words(step, loss), refresh=False)
        bar.update(whole + way - bar.n)
        whole += way >= 1.0

    try:
        yield move
    finally:
        bar.close()
