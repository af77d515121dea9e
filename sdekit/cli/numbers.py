"""The numbers of ``sdekit likelihood`` as plain values, for its JSON file."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, Final

from torch import Tensor

from sdekit.cli.report import probe_error, standard_error
from sdekit.cli.scores import Scores, of_mean
from sdekit.likelihood import Likelihood
from sdekit.ode.solution import OK, STATUS

__all__ = ["NUMBERS", "numbers_of", "on_cpu"]

NUMBERS: Final = "numbers.json"


def numbers_of(found: Scores) -> dict[str, Any]:
    """The table's numbers as plain values; means and standard errors over the finite ones."""
    result, nfe = found.result, found.result.nfe[found.result.status == OK].double()
    probes = result.stats.probes
    numbers: dict[str, Any] = {
        f"{found.what}s": len(found.images),
        "log_prob": _mean_of(result.log_prob),
        "divergence": result.stats.divergence,
        "probes": {"least": int(probes.min()), "most": int(probes.max())},
        "evaluations": {"mean": float(nfe.mean()), "most": int(nfe.max())},
        "failed": {
            text: int((result.status == status).sum())
            for status, text in STATUS.items()
            if status != OK
        },
        "seconds": found.seconds,
    }
    if result.transform is not None:
        bits = {**_mean_of(result.bits_per_dim), "probe_std_error": probe_error(result)}
        numbers["bits_per_dim"] = bits
    if found.own is not None:
        numbers["own_log_density"] = _mean_of(found.own)
        numbers["log_prob_minus_own"] = _mean_of(result.log_prob - found.own)
    if found.bound is not None:
        value, error = found.bound
        mean = {**_mean_of(value), "draw_std_error": of_mean(error, value)}
        numbers["bound"] = {**mean, "draws": found.draws}
        numbers["log_prob_minus_bound"] = _mean_of(result.log_prob - value)
    if found.errors is not None:
        sizes = {name: error[error.isfinite()].double() for name, error in found.errors.items()}
        numbers["errors"] = {
            name: {**_mean_of(error), "largest": float(size.abs().max()) if len(size) else None}
            for (name, error), size in zip(found.errors.items(), sizes.values(), strict=True)
        }
    return numbers


def on_cpu(result: Likelihood) -> Likelihood:
    """A result whose tensors are on the CPU, without its budget."""
    stats: dict[str, Any] = {
        f.name: v.cpu() if isinstance(v := getattr(result.stats, f.name), Tensor) else v
        for f in fields(result.stats)
    }
    names = ("log_prob", "std_error", "nfe", "status", "latent")
    moved = {name: getattr(result, name).cpu() for name in names}
    return replace(result, **moved, stats=replace(result.stats, **stats), error=None)


def _mean_of(values: Tensor) -> dict[str, float | int | None]:
    finite = values[values.isfinite()].double()
    mean = float(finite.mean()) if len(finite) else None
    error = standard_error(finite) if len(finite) > 1 else None
    return {"mean": mean, "std_error": error, "of": len(finite)}
