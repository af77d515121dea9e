"""Trace one step of a solver into a program."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from sdekit_kernels.fuse.program import Program, make_program
from sdekit_kernels.fuse.refusal import CannotFuse, line_of
from sdekit_kernels.fuse.streams import offsets_of
from sdekit_kernels.fuse.tracer import MAX_COMPONENTS, OTHER_BATCHES, Symbolic, Tracer

__all__ = ["Step", "trace_step"]

Step = Callable[[Mapping[str, torch.Tensor], Any, Sequence[torch.Tensor]], Sequence[torch.Tensor]]
"""(times by name, standard normals (B, *channels), states (B, ...)) to the next states; where there
are several streams, a tuple of normals."""


class _Steady:
    """Which programs came out the same when traced twice, of which owners."""

    def __init__(self) -> None:
        self._keys: dict[int, tuple[weakref.ref[Any], set[str]]] = {}

    def has(self, owner: Any, key: str) -> bool:
        """Whether ``note`` was told of this."""
        known = self._keys.get(id(owner))
        return known is not None and known[0]() is owner and key in known[1]

    def note(self, owner: Any, key: str) -> None:
        """Remember this as long as the owner lives."""
        known = self._keys.get(id(owner))
        if known is None or known[0]() is not owner:
            number = id(owner)
            try:
                gone = weakref.ref(owner, lambda ref: self._forget(number, ref))
            except TypeError:  # None, or an object with slots: it is traced twice each time
                return
            known = self._keys[number] = (gone, set())
        known[1].add(key)

    def _forget(self, number: int, ref: weakref.ref[Any]) -> None:
        known = self._keys.get(number)
        if known is not None and known[0] is ref:
            del self._keys[number]


_steady = _Steady()


class _Inputs(NamedTuple):
    states: Sequence[torch.Tensor]
    streams: Sequence[Sequence[int]]
    times: Sequence[str]
    per_path: Mapping[str, torch.Tensor]


def trace_step(
    step: Step,
    states: Sequence[torch.Tensor],
    channels: Sequence[int],
    times: Sequence[str],
    per_path: Mapping[str, torch.Tensor] | None = None,
    more: Sequence[Sequence[int]] = (),
    owner: Any = None,
) -> Program:
    """The program of ``step`` on states like these.

    states: real tensors (B, ...), of which shape, type and device are read. channels: shape of one
    sample's normals; more: of those of further streams. times: names of the numbers that differ
    from step to step. per_path: numbers (B, ...) that the step finds among the times by these
    names. owner: the equation that the step is of.

    The step is traced twice when its owner first gives this program, or always if it has no owner:
    one that remembers something comes out different. Raises CannotFuse, with the operation, its
    line and what to do, if the step is not one kernel.
    """
    streams = (channels, *more)
    _check(states, streams)
    inputs = _Inputs(states, streams, times, per_path or {})
    batch = states[0].shape[0]
    try:
        program = _trace(step, inputs, batch)
    except CannotFuse as error:
        if not error.batch:
            raise
        return _trace_any_batch(step, inputs, error)
    if not _steady.has(owner, program.key):
        if not _same(program, _trace(step, inputs, batch)):
            raise CannotFuse(
                "the step does not compute the same twice: let drift and diffusion depend on t, x "
                "and constant parameters alone, and keep no count or earlier value on the equation"
            )
        _steady.note(owner, program.key)
    return program


def _check(states: Sequence[torch.Tensor], streams: Sequence[Sequence[int]]) -> None:
    """Refuse states that no kernel holds."""
    dtype = states[0].dtype
    if dtype not in (torch.float32, torch.float64):
        raise CannotFuse(
            f"a state of {dtype}: kernels of whole paths take float32 or float64, write x0.float()"
        )
    components = sum(int(np.prod(s.shape[1:], dtype=np.int64)) for s in states)
    motions, *more = _sizes(streams)
    for what, n in (
        ("components of the state", components),
        ("Brownian motions", motions),
        *(("normals beside the Brownian motions", -(-n // 2)) for n in more),
    ):
        if n > MAX_COMPONENTS:
            raise CannotFuse(
                f"{n} {what} a sample: a kernel's registers hold {MAX_COMPONENTS}; solve step by "
                "step, or make parts that do not depend on each other samples of their own"
            )


def _sizes(shapes: Sequence[Sequence[int]]) -> list[int]:
    """Normals of each stream."""
    return [int(np.prod(shape, dtype=np.int64)) for shape in shapes]


def _trace_any_batch(step: Step, inputs: _Inputs, error: CannotFuse) -> Program:
    """The program where the size of the batch was taken for that of another axis.

    With five samples of five components a (5, 5) tensor may be a matrix or a value a sample. A
    batch of a size that no other axis has cannot be confused; two such sizes show whether the step
    uses the size itself, which leaves the first ``error`` standing.
    """
    try:
        one, two = (_trace(step, inputs, batch) for batch in OTHER_BATCHES)
    except CannotFuse:
        raise error from None
    given = len(inputs.per_path)
    if not _same(one, two) or any(slot >= given for slot, _ in one.path_parameters):
        raise error
    return one


def _same(one: Program, two: Program) -> bool:
    """Whether two traces of a step compute the same, from the same parameters."""
    if one.outline() != two.outline() or len(one.parameters) != len(two.parameters):
        return False
    for a, b in zip(one.parameters, two.parameters, strict=True):
        if a.shape != b.shape or a.dtype != b.dtype:
            return False
        if a.data_ptr() != b.data_ptr() and not bool(((a == b) | (a != a) & (b != b)).all()):
            return False
    return True


def _trace(step: Step, inputs: _Inputs, batch: int) -> Program:
    """The program of a step of ``batch`` samples."""
    states = inputs.states
    first = states[0]
    tracer = Tracer(batch, first.ndim, first.dtype, first.device)
    graph = tracer.graph
    clock = {name: tracer.scalar(graph.leaf("time", name)) for name in inputs.times}
    for name, value in inputs.per_path.items():
        clock[name] = tracer.symbolic(value, 0)
    counts = _sizes(inputs.streams)
    z = tuple(
        tracer.per_path(lambda j, first=first: graph.leaf("noise", first + j), shape)
        for first, shape in zip(offsets_of(counts), inputs.streams, strict=True)
    )
    sizes = [int(np.prod(s.shape[1:], dtype=np.int64)) for s in states]
    given, place = [], 0
    for s, n in zip(states, sizes, strict=True):
        start = place
        given.append(tracer.per_path(lambda j, i=start: graph.leaf("state", i + j), s.shape[1:]))
        given[-1].entries.flags.writeable = False
        place += n
    try:
        with torch.no_grad(), tracer:
            entries = _entries(tracer, step(clock, z if len(z) > 1 else z[0], given), given)
            tracer.check_unmixed(entries)
    except CannotFuse:
        raise
    except Exception as error:
        # What torch says of a tensor without data (.numpy() and the like), or a mistake in the
        # equation, which the step-by-step path then raises itself.
        raise CannotFuse(_told(error)) from error
    return make_program(
        graph, entries, counts, first.dtype, tracer.parameters, sizes[0], tracer.learns
    )


_LEAVES = ("storage", "data pointer", "numpy", "tolist", "not allocated", "__format__")
"""What torch's errors say where a value is asked for."""


def _told(error: Exception) -> str:
    """What an exception under a trace says to the user."""
    said = str(error).strip().split("\n")[0]
    if any(word in said for word in _LEAVES):
        return (
            f"a value that leaves torch (.numpy(), .tolist(), a format string){line_of(error)}: "
            "compute with torch's own functions"
        )
    return (
        f"{type(error).__name__}{line_of(error)}: {said} (said while the step was traced, on "
        "tensors without data; if it is a mistake in the equation, the step-by-step path says it)"
    )


def _entries(tracer: Tracer, outputs: Sequence[Any], given: Sequence[Symbolic]) -> list[Any]:
    """The expressions of the next states, in the order of the states."""
    entries: list[Any] = []
    for made, state in zip(outputs, given, strict=True):
        batched = isinstance(made, torch.Tensor) and made.ndim and made.shape[0] == tracer.batch
        value = tracer.symbolic(made, 0 if batched else None)
        tracer.check_own(value)
        if value.axis is None and value.ndim == state.ndim:
            with tracer:
                value = value.expand(state.shape)
        if value.shape != state.shape or value.axis != 0:
            raise CannotFuse(
                f"the step turns a state of shape {tuple(state.shape)} into {tuple(value.shape)}: "
                "let it return what it was given the shape of"
            )
        if value.dtype != state.dtype:
            raise CannotFuse(
                f"the step turns a state of {state.dtype} into {value.dtype}: "
                f"give the equation's parameters the type {state.dtype}"
            )
        entries.extend(value.entries.reshape(-1))
    return entries
