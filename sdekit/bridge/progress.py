"""A bar over the half-steps of a bridge, and the regression inside each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sdekit.bridge.regression import OnStep


@contextmanager
def shown(progress: bool, half_steps: int, done: int = 0) -> Iterator[OnStep | None]:
    """What a regression tells its steps to, for a tqdm bar; None without one.

    done: how many half-steps were done before.
    """
    if not progress:
        yield None
        return
    from tqdm import tqdm

    form = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}{postfix}"
    bar: Any = tqdm(total=float(half_steps), initial=done, desc="bridge", bar_format=form)
    whole = done

    def on_step(done: int, way: float, loss: float) -> None:
        nonlocal whole
        bar.set_postfix_str(
            f"half-step {whole + 1} of {half_steps}, step {done}, loss {loss:.4f}", refresh=False
        )
        bar.update(whole + way - bar.n)
        whole += way >= 1.0

    try:
        yield on_step
    finally:
        bar.close()
