"""The predictor-corrector run as one trajectory kernel, where the score can be traced.

The loop of ``sample`` with everything that differs from step to step read from a table: the times
at which the score is asked, the predictor's A, B, C and the corrector's step sizes. The noise is
that of the loop, bit for bit: PATH for the predictor, CORRECTOR for the corrector.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from sdekit_kernels.fuse.launch import MAX_LAUNCH_STEPS, Launch
from sdekit_kernels.fuse.program import Program
from sdekit_kernels.fuse.run import run_trajectory
from sdekit_kernels.fuse.trace import trace_step
from sdekit_kernels.fuse.tracer import MAX_COMPONENTS, MAX_NODES, CannotFuse
from sdekit_kernels.philox.normal import check_draw
from sdekit_kernels.tracing import transformed
from torch import Tensor

from sdekit.noise import keys
from sdekit.sample.draws import Piece
from sdekit.sample.plan import Plan
from sdekit.sample.start import Score, evaluate
from sdekit.sde.parameters import shifted

__all__ = ["Run", "go_pieces", "obstacle_to", "trace_run"]

_PREDICT, _CORRECT = ("A", "B", "C"), ("alpha", "step_size", "noise")


def obstacle_to(
    score: Score, y: Tensor, plan: Plan, backend: str, corrector_steps: int, norm: str
) -> str:
    """What stands in the way of one kernel, looked at before anything is traced; "" if nothing."""
    if backend == "torch":
        return "the torch backend has no kernels of whole paths"
    if y.numel() == 0 or not (plan.predictor or plan.corrector):
        return "there is nothing to do"
    if y[0].numel() > MAX_COMPONENTS:
        return f"a kernel's registers hold {MAX_COMPONENTS} components, a sample has {y[0].numel()}"
    if y.dtype not in (torch.float32, torch.float64):
        return f"kernels of whole paths take float32 or float64, not {y.dtype}"
    if transformed():
        return "a transform of torch.func cannot see into a kernel"
    if plan.corrector and corrector_steps > 1:
        return "a kernel makes one corrector step for each predictor step"
    if plan.corrector and norm == "batch" and "alpha" in plan.corrector[0]:
        return 'norm="batch" ties the samples together'
    if isinstance(score, torch.nn.Module):
        weights = sum(p.numel() for p in score.parameters())
        if weights > MAX_NODES:
            return f"the score is a network of {weights} weights; a kernel holds {MAX_NODES}"
    return ""


class Run:
    """A traced run: its program, and the table of every step."""

    def __init__(self, score: Score, plan: Plan, corrector_first: bool, denoise: bool) -> None:
        self.score, self.plan, self.corrector_first = score, plan, corrector_first
        self.shapes: dict[str, torch.Size] = {}
        self.tables: dict[str, Tensor] = {}
        last_predicts = bool(plan.predictor) and (corrector_first or not plan.corrector)
        if plan.predictor:
            self._column("t", list(plan.t[: len(plan.predictor)]))
            for name, rows in zip(_PREDICT, zip(*plan.predictor, strict=True), strict=True):
                self._column(name, list(rows))
            if denoise and last_predicts:
                for name in [n for n in self.tables if n.startswith("C.")]:
                    self.tables[name][-1] = 0.0
        if plan.corrector:
            self._column("corrector_t", list(plan.corrector_t))
            for name in _CORRECT:
                if name in plan.corrector[0]:
                    self._column(name, [row[name] for row in plan.corrector])
            keep = torch.ones_like(self.tables["corrector_t.0"])
            if denoise and not last_predicts:
                keep[-1] = 0.0
            self._column("keep", list(keep))
        self.steps = len(plan.predictor) or len(plan.corrector)
        self.noisy = [bool(plan.predictor), bool(plan.corrector)]

    def _column(self, name: str, rows: list[Tensor]) -> None:
        """One table for each entry of a step's coefficient."""
        whole = torch.stack(rows)
        self.shapes[name] = whole.shape[1:]
        for j, column in enumerate(whole.reshape(len(rows), -1).unbind(1)):
            self.tables[f"{name}.{j}"] = column.clone()

    def _of(self, now: Mapping[str, Tensor], name: str) -> Tensor:
        """A step's coefficient in its own shape, 0-d or (1, D...)."""
        shape = self.shapes[name]
        if len(shape) == 0:
            return now[f"{name}.0"]
        return torch.stack([now[f"{name}.{j}"] for j in range(shape.numel())]).reshape(shape)

    @property
    def streams(self) -> list[int]:
        """Whose noise a step draws."""
        named = zip((keys.PATH, keys.CORRECTOR), self.noisy, strict=True)
        return [stream for stream, on in named if on]

    def step(self, now: Mapping[str, Tensor], z: Any, states: Any) -> tuple[Tensor]:
        """The updates of one step, in their order."""
        normals = list(z) if isinstance(z, tuple) else [z]
        updates: list[Callable[[Tensor], Tensor]] = []
        if self.plan.predictor:
            updates.append(lambda y: self._predict(now, normals[0], y))
        if self.plan.corrector:
            updates.append(lambda y: self._correct(now, normals[-1], y))
        y: Tensor = states[0]
        for update in reversed(updates) if self.corrector_first else updates:
            y = update(y)
        return (y,)

    def _predict(self, now: Mapping[str, Tensor], z: Tensor, y: Tensor) -> Tensor:
        """A y + B s + C z."""
        s = evaluate(self.score, now["t.0"], shifted(y, self.plan.offset))
        a, b, c = (self._of(now, name) for name in _PREDICT)
        return a * y + b * s + c * z

    def _correct(self, now: Mapping[str, Tensor], z: Tensor, y: Tensor) -> Tensor:
        """y + eps s + sqrt(2 eps) z, as ``sdekit_kernels.langevin_step``, or y + eps s + c z."""
        s = evaluate(self.score, now["corrector_t.0"], shifted(y, self.plan.offset))
        if "step_size" in self.shapes:
            eps = self._of(now, "step_size")
        else:
            snr = float(self.plan.corrector[0]["snr"])
            ss, zz = (v.square().flatten(1).sum(1) for v in (s, z))
            ratio = torch.where(ss > 0, zz / torch.where(ss > 0, ss, 1.0), 0.0)
            ratio = torch.where(ss.isnan(), ss, ratio).reshape(-1, *(1,) * (y.ndim - 1))
            eps = ratio * (self._of(now, "alpha") * (2.0 * snr**2))
        root = self._of(now, "noise") if "noise" in self.shapes else (2.0 * eps) ** 0.5
        return y + eps * s + (root * self._of(now, "keep")) * z

    def go(
        self,
        program: Program,
        y: Tensor,
        *,
        seed: int,
        first_sample: int,
        backend: str,
        marks: set[int],
        bar: Any,
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """(the last y, each sample's first non-finite step or -1, the y after the steps ``marks``).

        bar: gets ``update(steps)`` after each launch, or None.
        """
        batch, n = y.shape[0], self.steps
        # A copy in any case: of one sample or one component the transpose is contiguous as it is,
        # and the kernel would write over a start that somebody keeps.
        flat = y.reshape(batch, -1).t().clone(memory_format=torch.contiguous_format)
        bad = torch.full((batch,), -1, dtype=torch.int64, device=y.device)
        columns = program.path_table()
        paths = torch.stack(columns) if columns else flat.new_empty((0, batch))
        slots = torch.full((n,), -1, dtype=torch.int32)
        kept = sorted(k for k in marks if 0 < k <= n)
        slots[[k - 1 for k in kept]] = torch.arange(len(kept), dtype=torch.int32)
        slots = slots.to(y.device)
        saved = flat.new_empty((len(kept), *flat.shape))
        # A bar moves some 64 times; without one, Ctrl-C is heard about once a second.
        work = flat.numel() * max(len(program.body) // 64, 1)
        pace = max(4, min(MAX_LAUNCH_STEPS, (1 << 30) // work, n // 64 if bar else n + 3) // 4 * 4)
        for k in range(0, n, pace):
            end = min(k + pace, n)
            times = {name: column[k:end] for name, column in self.tables.items()}
            table, constants = program.table(times, y.device)
            draw, *more = (check_draw(seed, s, k, first_sample, batch) for s in self.streams)
            run_trajectory(
                Launch(
                    program,
                    flat,
                    table,
                    constants,
                    paths,
                    bad,
                    slots[k:end] if kept else None,
                    saved if kept else None,
                    draw,
                    False,
                    tuple(more),
                ),
                backend,
            )
            if bar is not None:
                bar.update(end - k)
        return flat.t().reshape(y.shape), bad, [s.t().reshape(y.shape) for s in saved]


def go_pieces(
    run: Run, program: Program, y: Tensor, pieces: Sequence[Piece], **how: Any
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """``run.go`` for each piece of the batch with its own noise, put together again."""
    parts = [
        run.go(program, y[p.rows], seed=p.seed, first_sample=p.first_sample, **how) for p in pieces
    ]
    if len(parts) == 1:
        return parts[0]
    kept = [torch.cat(states) for states in zip(*(part[2] for part in parts), strict=True)]
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts]), kept


def trace_run(run: Run, y: Tensor) -> tuple[Program | None, str]:
    """(the program of a step, "") or (None, what stands in the way)."""
    first, *more = [tuple(y.shape[1:])] * len(run.streams)
    try:
        tables = tuple(run.tables)
        program = trace_step(run.step, (y,), first, tables, None, more, run.score)
    except CannotFuse as error:
        return None, str(error)
    assert math.prod(y.shape[1:]) == len(program.state)
    return program, ""
