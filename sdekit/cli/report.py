"""What the commands print and write: tables, means with errors, JSON, CSV, a progress bar."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from sdekit.files import write_atomically
from sdekit.likelihood import Likelihood
from sdekit.train.lines import Lines, redraws


def write_json(out: Path, numbers: Any) -> None:
    """Plain values as JSON; numbers that are not finite become null."""
    write_atomically(out, (json.dumps(_finite(numbers), indent=1) + "\n").encode())


def write_csv(out: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    """Columns of equal length under their names; numbers that are not finite become empty."""

    def text(value: Any) -> str:
        if isinstance(value, float):
            # 9 digits: all that float32 has.
            return f"{value:.9g}" if np.isfinite(value) else ""
        return str(value)

    lines = [",".join(columns)]
    lines += [",".join(map(text, row)) for row in zip(*columns.values(), strict=True)]
    write_text(out, "\n".join(lines) + "\n")


def write_text(out: Path, text: str) -> None:
    """``text`` in UTF-8, whole or not at all."""
    write_atomically(out, text.encode())


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value if not isinstance(value, float) or np.isfinite(value) else None


def standard_error(values: Tensor) -> float:
    """Of the mean of ``values`` (N,), from their spread; NaN for one value."""
    if len(values) < 2:
        return float("nan")
    return float(values.double().std()) / len(values) ** 0.5


def mean_and_error(values: Tensor, digits: int = 3) -> str:
    """Mean ± standard error over the images whose value is finite, and how many have none.

    One value has no standard error, and none no mean.
    """
    finite = values[values.isfinite()]
    lost = len(values) - len(finite)
    text = f"{float(finite.double().mean()):.{digits}f}" if len(finite) else "none"
    if len(finite) > 1:
        text += f" ± {standard_error(finite):.{digits}f}"
    return text + (f" ({lost} failed)" if lost else "")


def probe_error(result: Likelihood) -> float:
    """Standard error that the probes give the mean bits per dimension."""
    errors = result.bits_std_error[result.status == 0].double()
    return float(errors.square().sum().sqrt()) / max(1, len(errors))


def table(title: str, rows: Sequence[tuple[str, ...]]) -> None:
    """Print rows of text under a title, in aligned columns."""
    columns, filled = _filled(rows)
    widths = [max(len(row[k]) for row in filled) for k in range(columns)]
    total = max(len(title), sum(widths) + 2 * (columns - 1))
    print(title)
    print("-" * total)
    for row in filled:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        print("  ".join(cells).rstrip())
    sys.stdout.flush()


def markdown(title: str, rows: Sequence[tuple[str, ...]]) -> str:
    """The same, of two columns or more, as a page in Markdown."""
    columns, filled = _filled(rows)
    lines = [
        f"# {title.strip()}",
        "",
        "| what | value |" + " |" * (columns - 2),
        "|" + " --- |" * columns,
    ]
    # Two spaces at a row's beginning say that it belongs to the row above.
    cells = [[cell.replace("  ", "&nbsp;&nbsp;", 1) for cell in row] for row in filled]
    lines += ["| " + " | ".join(row) + " |" for row in cells]
    return "\n".join(lines) + "\n"


def _filled(rows: Sequence[tuple[str, ...]]) -> tuple[int, list[tuple[str, ...]]]:
    """Number of columns, and the rows with empty cells to that number."""
    columns = max(len(row) for row in rows)
    return columns, [(*row, *[""] * (columns - len(row))) for row in rows]


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, float, float], None]]:
    """``on_step`` of the training loop: a bar on stderr, or plain lines where none can be drawn."""
    if not redraws():
        lines = Lines(what)
        yield lambda done, way, loss: lines(way, f"step {done}, loss {loss:.4f}")
        return
    from tqdm import tqdm

    form = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}{postfix}"
    with tqdm(total=1.0, desc=what, bar_format=form) as bar:

        def on_step(done: int, way: float, loss: float) -> None:
            if done % 20 == 0 or way >= 1.0:
                bar.set_postfix_str(f"step {done}, loss {loss:.3f}", refresh=False)
                bar.update(way - bar.n)

        yield on_step
