"""One point of the study: a sampler, a number of evaluations, the distances of what it draws."""

from __future__ import annotations

import time
from typing import Any

import torch

from sdekit.data import Dataset
from sdekit.quality import DigitFeatures, image_quality
from sdekit.sample import SAMPLERS
from sdekit.train import Checkpoint

FIXED = ("flow",)
"""Samplers whose tolerance decides the evaluations: one point each."""


def steps_for(name: str, evaluations: int) -> int | None:
    """The most steps that cost no more than so many evaluations; None if not even two do."""
    counted = SAMPLERS[name].evaluations
    if counted is None:
        return 1
    steps = evaluations
    while steps > 1 and counted(steps) > evaluations:
        steps -= 1
    return steps if steps >= 2 and counted(steps) <= evaluations else None


def measure(
    checkpoint: Checkpoint,
    data: Dataset,
    features: DigitFeatures,
    name: str,
    steps: int,
    *,
    samples: int,
    batch: int,
) -> dict[str, Any]:
    """A row of the study; samples that left the finite numbers are counted and left out.

    A sampler that has no such short chain refuses it, and the row says so.
    """
    refused = _refusal(checkpoint, data, name, steps)
    if refused:
        row: dict[str, Any] = {"sampler": name, "steps": steps, "refused": refused}
        return {**row, "evaluations": steps, "seconds": 0.0, "nonfinite": 0} | _NOTHING
    begin = time.perf_counter()
    parts, nfe = [], 0.0
    for first in range(0, samples, batch):
        shape = (min(batch, samples - first), *data.event_shape)
        x, info = SAMPLERS[name](
            checkpoint.sde,
            checkpoint.net,
            shape,
            steps=steps,
            seed=0,
            first_sample=first,
            return_info=True,
        )
        parts.append(x)
        nfe += float(torch.as_tensor(info.nfe).double().mean()) * shape[0] / samples
    seconds = time.perf_counter() - begin
    x = torch.cat(parts)
    good = x.flatten(1).isfinite().all(1)
    row = {
        "sampler": name,
        "steps": steps,
        "evaluations": round(nfe, 1),
        "seconds": round(seconds, 2),
        "nonfinite": int((~good).sum()),
    }
    if int(good.sum()) < samples // 2:
        return row | _NOTHING
    found = image_quality(x[good], data, features=features)
    return {**row, "n": found["n"], "samples": found["samples"], "real": found["real"]}


_NOTHING: dict[str, Any] = {"samples": None, "real": None}


def _refusal(checkpoint: Checkpoint, data: Dataset, name: str, steps: int) -> str:
    """Why the sampler has no chain of so few steps, asked on an empty batch; "" if it has."""
    try:
        SAMPLERS[name](checkpoint.sde, checkpoint.net, (0, *data.event_shape), steps=steps)
    except ValueError as error:
        return str(error)
    return ""
