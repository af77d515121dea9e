"""Trace one step of a solver into a program."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from sdekit_kernels.fuse.program import Program, make_program
from sdekit_kernels.fuse.tracer import MAX_COMPONENTS, MAX_NODES, CannotFuse, Tracer, line_of

__all__ = ["Step", "trace_step"]

Step = Callable[
    [Mapping[str, torch.Tensor], torch.Tensor, Sequence[torch.Tensor]], Sequence[torch.Tensor]
]
"""(times by name, standard normals (B, *channels), states (B, ...)) to the next states."""


def trace_step(
    step: Step,
    states: Sequence[torch.Tensor],
    channels: Sequence[int],
    times: Sequence[str],
    per_path: Mapping[str, torch.Tensor] | None = None,
) -> Program:
    """The program of ``step`` on states like these.

    states: real tensors (B, ...), of which shape, type and device are read. channels: shape of one
    sample's normals. times: names of the numbers that differ from step to step. per_path: numbers
    (B, ...) that the step finds among the times by these names.

    Raises CannotFuse, with the operation, its line and what to do, if the step is not one kernel.
    """
    first = states[0]
    if first.dtype not in (torch.float32, torch.float64):
        raise CannotFuse(
            f"a state of {first.dtype}: kernels of whole paths take float32 or float64"
        )
    sizes = [int(np.prod(s.shape[1:], dtype=np.int64)) for s in states]
    count = int(np.prod(channels, dtype=np.int64))
    for what, n in (("components of the state", sum(sizes)), ("Brownian motions", count)):
        if n > MAX_COMPONENTS:
            raise CannotFuse(f"{n} {what} a sample: a kernel's registers hold {MAX_COMPONENTS}")
    tracer = Tracer(first.shape[0], first.ndim, first.dtype, first.device)
    graph = tracer.graph
    clock = {name: tracer.scalar(graph.leaf("time", name)) for name in times}
    for name, value in (per_path or {}).items():
        clock[name] = tracer.symbolic(value, 0)
    z = tracer.per_path(lambda j: graph.leaf("noise", j), channels)
    inputs, place = [], 0
    for s, n in zip(states, sizes, strict=True):
        start = place
        inputs.append(tracer.per_path(lambda j, i=start: graph.leaf("state", i + j), s.shape[1:]))
        inputs[-1].entries.flags.writeable = False
        place += n
    try:
        with torch.no_grad(), tracer:
            outputs = step(clock, z, inputs)
            entries = _entries(tracer, outputs, inputs)
    except CannotFuse:
        raise
    except Exception as error:
        # What torch says of a tensor without data (.numpy() and the like), or a mistake in the
        # equation, which the step-by-step path then raises itself.
        what = f"{type(error).__name__} while traced{line_of(error)}: {error}"
        raise CannotFuse(what) from error
    if len(graph) > MAX_NODES:
        raise CannotFuse(f"{len(graph)} operations a step: a kernel holds {MAX_NODES}")
    return make_program(
        graph, entries, count, first.dtype, tracer.parameters, sizes[0], tracer.learns
    )


def _entries(tracer: Tracer, outputs: Sequence[Any], inputs: Sequence[Any]) -> list[Any]:
    """The expressions of the next states, in the order of the states."""
    entries: list[Any] = []
    for made, given in zip(outputs, inputs, strict=True):
        value = tracer.symbolic(made, 0 if isinstance(made, torch.Tensor) and made.ndim else None)
        if value.axis is None and value.ndim == given.ndim:
            with tracer:
                value = value.expand(given.shape)
        if value.shape != given.shape or value.axis != 0:
            raise CannotFuse(
                f"the step turns a state of shape {tuple(given.shape)} into {tuple(value.shape)}"
            )
        entries.extend(tracer.graph("float", node) for node in value.entries.reshape(-1))
    return entries
