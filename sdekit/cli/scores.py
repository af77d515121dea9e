"""What ``sdekit likelihood`` prints and writes about the likelihoods that it found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from sdekit import viz
from sdekit.cli.report import (
    markdown,
    mean_and_error,
    probe_error,
    write_csv,
    write_text,
)
from sdekit.likelihood import Likelihood
from sdekit.ode.solution import OK, STATUS

__all__ = ["Scores", "article", "images_of", "of_mean", "rows_of", "write_scores"]

_SHOWN: Final = 10
_LISTED: Final = 20
"""Images up to which each one has its line; of more, the first and the last half of so many."""

Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Scores:
    """What was found, one entry an image or a point; None for what was not asked for.

    images: (B, D...), grey levels, or points of the plane. errors: solver, probes, truncation,
    prior, each (B,) nats. bound: (value, standard error) by so many draws. own: (B,) nats, under
    the law of the data itself, where it is known.
    """

    images: Tensor
    result: Likelihood
    errors: dict[str, Tensor] | None
    bound: tuple[Tensor, Tensor] | None
    draws: int
    seconds: float
    own: Tensor | None = None

    @property
    def what(self) -> str:
        """One of them, in a word."""
        return "point" if self.result.transform is None else "image"


def rows_of(found: Scores) -> list[Row]:
    """The table: means over the images, with the standard error that their spread gives."""
    result, log_prob, what = found.result, found.result.log_prob, found.what
    rows: list[Row] = []
    if result.transform is not None:
        rows.append(("bits per dimension", mean_and_error(result.bits_per_dim)))
    # Of two components, a hundredth of a nat is much.
    digits = 2 if what == "image" else 4
    rows.append(("log-likelihood by the ODE, nats", mean_and_error(log_prob, digits)))
    if found.own is not None:
        rows += [
            ("log-density of the data's own law, nats", mean_and_error(found.own, digits)),
            ("  ODE minus that", mean_and_error(log_prob - found.own, digits)),
        ]
    if found.errors is not None:
        free = log_prob - found.errors["truncation"] - found.errors["prior"]
        rows.append(("  free of truncation and prior", mean_and_error(free, digits)))
    if found.bound is not None:
        value, error = found.bound
        told = f"(draws: {found.draws}, ± {of_mean(error, value):.2f} by them)"
        rows += [
            ("variational bound by the SDE, nats", mean_and_error(value, digits), told),
            ("  ODE minus bound", mean_and_error(log_prob - value, digits)),
        ]
    if found.errors is not None:
        rows.append((f"error budget, nats {article(what)} {what}", "mean", "largest"))
        names = {"probes": "probes, standard error"}
        rows += [(f"  {names.get(k, k)}", *_size(error)) for k, error in found.errors.items()]
    rows.append(("divergence", _divergence(found.result)))
    if result.transform is not None and bool((result.std_error > 0.0).any()):
        rows.append(("  bits: error by the probes", f"{probe_error(result):.4f} (of the mean)"))
    nfe = result.nfe[result.status == OK].double()
    rows.append(
        (
            "evaluations of the network",
            f"{float(nfe.mean()):.0f} {article(what)} {what}, {int(nfe.max())} at most",
        )
    )
    for status, text in STATUS.items():
        lost = int((result.status == status).sum())
        if lost and status != OK:
            rows.append((f"{what}s without a value: {text}", f"{lost}"))
    rows.append(("seconds", f"{found.seconds:.1f}"))
    return rows


def images_of(found: Scores, out: Path | None) -> tuple[list[Row], str]:
    """(a line for each image under a heading, what to say about those that are left out).

    Up to 20 images all of them, else the first 10 and the last 10. out: where ``write_scores`` puts
    the rest.
    """
    result, count = found.result, len(found.images)
    columns = [
        (found.what, result.status, lambda j: f"{j}"),
        ("nats", result.log_prob, lambda v: f"{v:.2f}"),
        # One probe knows no standard error.
        ("± probes", result.std_error, lambda v: "-" if math.isnan(v) else f"{v:.2g}"),
    ]
    if result.transform is not None:
        columns.append(("bits/dim", result.bits_per_dim, lambda v: f"{v:.4f}"))
    if found.own is not None:
        columns.append(("own law", found.own, lambda v: f"{v:.2f}"))
    if found.bound is not None:
        columns += [
            ("bound", found.bound[0], lambda v: f"{v:.2f}"),
            ("± draws", found.bound[1], lambda v: f"{v:.2g}"),
        ]
    for name, error in (found.errors or {}).items():
        if name != "probes":
            columns.append((name, error, lambda v: f"{v:+.2g}"))
    columns.append(("evaluations", result.nfe, lambda v: f"{v}"))
    numbers = list(range(count))
    if count > _LISTED:
        numbers = numbers[: _LISTED // 2] + numbers[-_LISTED // 2 :]

    def line(j: int) -> Row:
        cells = [f"{j}", *(text(values[j].item()) for _, values, text in columns[1:])]
        status = int(result.status[j])
        return (*cells, "" if status == OK else STATUS[status])

    rows = [tuple(name for name, _, _ in columns), *map(line, numbers)]
    if count <= _LISTED:
        return rows, ""
    rows.insert(1 + _LISTED // 2, ("...",))
    where = (
        f"all {count} {found.what}s are in {out}/{found.what}s.csv"
        if out is not None
        else (f"write --out FOLDER for all {count} {found.what}s in FOLDER/{found.what}s.csv")
    )
    return rows, where


def write_scores(
    out: Path, title: str, rows: Sequence[Row], found: Scores, *, limits: tuple[int, int] | None
) -> list[str]:
    """The table, each image's numbers, a histogram, the images at both ends; names of the files.

    limits: the values of white and black; None for points, which have no picture of their ends.
    """
    names = ["summary.md", f"{found.what}s.csv", "likelihoods.png"]
    write_text(out / names[0], markdown(title, rows))
    write_csv(out / names[1], _columns(found))
    # Not the bound's: the noise of its draws would widen it.
    groups = {"by the ODE": found.result.log_prob}
    viz.likelihood_histogram(out / names[2], groups, what=found.what)
    if limits is None:
        return names
    viz.ranked_images(out / "extremes.png", _extremes(found), limits=limits)
    return [*names, "extremes.png"]


def article(what: str) -> str:
    """The article of a word: an image, a point."""
    return "an" if what[0] in "aeiou" else "a"


def _divergence(result: Likelihood) -> str:
    """Which divergence was taken, with how many probes."""
    stats = result.stats
    most = int(stats.probes.max())
    if most == 0:
        return stats.divergence
    least = int(stats.probes[stats.probes > 0].min())
    return f"{stats.divergence}, probes: {least}" + (f" to {most}" if most > least else "")


def _size(error: Tensor) -> tuple[str, str]:
    """Mean and largest size of one error, over the images that have one."""
    known = error[error.isfinite()].double()
    lost = "" if len(known) == len(error) else f" ({len(error) - len(known)} unknown)"
    if len(known) == 0:
        return "unknown", ""
    largest = float(known.abs().max())
    mean = f"{float(known.mean()):+.2g}" if largest > 0.0 else "0"
    return mean, f"{largest:.2g}{lost}"


def of_mean(error: Tensor, value: Tensor) -> float:
    """Standard error that independent errors give the mean of the finite values."""
    errors = error[value.isfinite()].double()
    return float(errors.square().sum().sqrt()) / max(1, len(errors))


def _columns(found: Scores) -> dict[str, list[Any]]:
    """Names and values of the table of images; likelihoods in nats."""
    result = found.result
    columns: dict[str, Tensor] = {
        "log_prob": result.log_prob,
        "std_error": result.std_error,
    }
    if result.transform is not None:
        columns["bits_per_dim"] = result.bits_per_dim
        columns["bits_std_error"] = result.bits_std_error
    if found.own is not None:
        columns["own_log_density"] = found.own
    if found.errors is not None:
        columns |= {f"{name}_error": v for name, v in found.errors.items() if name != "probes"}
    if found.bound is not None:
        columns |= {"bound": found.bound[0], "bound_std_error": found.bound[1]}
    columns |= {"evaluations": result.nfe, "probes": result.stats.probes, "status": result.status}
    images = {found.what: list(range(len(found.images)))}
    return images | {name: values.tolist() for name, values in columns.items()}


def _extremes(found: Scores) -> dict[str, tuple[Tensor, list[str]]]:
    """The most and the least likely images with their nats; fewer where there are few."""
    log_prob = found.result.log_prob
    order = log_prob.nan_to_num(nan=-math.inf).argsort(descending=True, stable=True)
    order = order[log_prob[order].isfinite()]
    count = max(1, min(_SHOWN, len(order) // 2))

    def shown(rows: Tensor) -> tuple[Tensor, list[str]]:
        return found.images[rows], [f"{float(v):.1f}" for v in log_prob[rows]]

    most, least = order[:count], order.flip(0)[:count]
    return {"most likely, nats": shown(most), "least likely, nats": shown(least)}
