"""What ``sdekit train`` writes and prints when a training is done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from sdekit import viz
from sdekit.cli.model import Model
from sdekit.cli.report import write_json
from sdekit.data import Dataset
from sdekit.sample import SAMPLERS
from sdekit.train import Checkpoint, TrainReport
from sdekit.train.checkpoint import MODEL
from sdekit.train.state import read_state

__all__ = ["rows_of", "saved", "write_trained"]

_GRID: Final = 64
_SAMPLER, _STEPS = "edm_heun", 40


@contextmanager
def saved(out: Path) -> Iterator[None]:
    """Within the block a file that cannot be written says that the training itself is saved."""
    try:
        yield
    except OSError as error:
        again = "" if out.suffix else ": make room and give the same command again"
        text = f"{error.strerror} (the training itself is saved in {out}{again})"
        raise OSError(error.errno, text, error.filename) from error


def write_trained(
    out: Path, checkpoint: Checkpoint, data: Dataset, losses: list[float], report: TrainReport
) -> list[str]:
    """Samples beside data, the loss and the numbers; names of the files.

    losses: those of this run, for a model that is one file; a folder knows all there were.
    """
    single = bool(out.suffix)
    at = partial(_beside, out) if single else lambda name: out / name
    names = ["samples.png", "loss.png", "summary.json"]
    model = Model(out, checkpoint)
    shape = (_GRID if model.is_images else 2000, *checkpoint.net.event_shape)
    x = SAMPLERS[_SAMPLER](
        checkpoint.sde, checkpoint.net, shape, steps=_STEPS, seed=0, device=model.device
    ).cpu()
    lost = ~x.flatten(1).isfinite().all(1)
    if bool(lost.all()):
        raise ArithmeticError("all samples left the finite numbers: train longer, or with less lr")
    drawable = model.is_images or model.event_shape == (2,)
    if drawable:
        sets = {"data": data.train[: len(x)], "samples": model.levels(x[~lost])}
        model.picture(at(names[0]), sets, columns=8)
    found = None if single else read_state(out)
    losses = losses if found is None else found[1]["losses"].tolist()
    if losses:
        viz.curve(at(names[1]), losses, x="step", y="loss")
    numbers = {
        "data": data.name,
        "source": None if data.source is None else dict(data.source),
        "skipped": list(data.skipped),
        "steps": report.steps,
        "seconds": report.seconds,
        "loss": report.loss,
        "stopped_by": report.stopped_by,
        "reproducible": report.reproducible,
        "resumed_from": report.resumed_from,
        "weights": sum(p.numel() for p in checkpoint.net.parameters()),
        "recipe": checkpoint.info["recipe"],
        "samples": {"sampler": _SAMPLER, "steps": _STEPS, "nonfinite": int(lost.sum())},
    }
    write_json(at(names[2]), numbers)
    kept = [n for n, here in zip(names, (drawable, bool(losses), True), strict=True) if here]
    return [str(at(name)) for name in kept]


def _beside(out: Path, name: str) -> Path:
    """``model.safetensors`` and ``samples.png`` make ``model-samples.png``."""
    return out.with_name(f"{out.stem}-{name}")


def rows_of(
    report: TrainReport, checkpoint: Checkpoint, out: Path, written: list[str]
) -> list[tuple[str, str]]:
    """The table of a training."""
    model = out if out.suffix else out / MODEL
    rows = [
        ("steps", f"{report.steps}"),
        ("seconds", f"{report.seconds:.1f}"),
        ("loss over the last tenth", f"{report.loss:.4f}"),
        ("weights", f"{sum(p.numel() for p in checkpoint.net.parameters()):,}"),
        ("depends on the seed alone", "yes" if report.reproducible else "no: on the clock too"),
        ("checkpoint", str(model)),
        ("pictures and numbers", ", ".join(written)),
    ]
    if report.resumed_from is not None:
        rows.insert(1, ("went on from step", f"{report.resumed_from}"))
    return rows
