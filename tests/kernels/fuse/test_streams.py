"""Steps that draw from several streams of noise, in every mixture of layouts."""

from __future__ import annotations

import pytest
import torch
from sdekit_kernels import normal
from sdekit_kernels.fuse._numba.run import run_numba
from sdekit_kernels.fuse._triton.build import Shape
from sdekit_kernels.fuse._triton.run import run_triton
from sdekit_kernels.fuse.launch import Launch
from sdekit_kernels.fuse.streams import calls_of, is_grouped, offsets_of, stream_of
from sdekit_kernels.fuse.trace import trace_step
from sdekit_kernels.philox.normal import check_draw

LAYOUTS = [(2, 1), (4, 6), (2, 6), (0, 2), (8, 1, 5)]
N = 37
"""Paths: two blocks of 32, of which the second is not full."""


def walk(counts):
    """x + dt (all normals of the step, one after the other)."""

    def step(now, z, states):
        return (states[0] + now["dt"] * torch.cat(z, 1),)

    first, *more = [(c,) for c in counts]
    return trace_step(step, [torch.zeros(7, sum(counts))], first, ("dt",), more=more)


def launch(program, counts, start, steps, *, step, first, pairs):
    draws = [check_draw(9, 40 + s, step, first, N) for s in range(len(counts))]
    return Launch(
        program,
        start.clone(),
        torch.full((steps, 1), 0.5),
        torch.empty(1),
        torch.empty(0, N),
        torch.full((N,), -1),
        None,
        None,
        draws[0],
        pairs,
        tuple(draws[1:]),
    )


def reference(counts, start, steps, *, step, first, pairs):
    x = start.clone()
    for k in range(step, step + steps):
        parts = []
        for stream, count in enumerate(counts):
            rows, low = (N // 2 + 1, first // 2) if pairs else (N, first)
            z = normal((rows, count), seed=9, stream=40 + stream, step=k, first_sample=low)
            if pairs:
                number = torch.arange(first, first + N)
                z = z[number // 2 - low] * (1 - 2 * (number % 2))[:, None]
            parts.append(z.T)
        x = x + 0.5 * torch.cat(parts)
    return x


@pytest.mark.parametrize(
    ("counts", "pairs"), [*((counts, False) for counts in LAYOUTS), ((5, 2), True)], ids=str
)
def test_streams(counts, pairs, triton_device):
    program = walk(counts)
    start = torch.linspace(-1, 1, sum(counts) * N).reshape(-1, N)
    for step, first, steps in ((0, 0, 5), (3, 2**32 - 21, 3), (2**32 - 9, 12, 3)):
        given = {"step": step, "first": first, "pairs": pairs}
        wanted = reference(counts, start, steps, **given)
        job = launch(program, counts, start, steps, **given)
        run_numba(job)
        # One rounding a step of values below 16.
        assert (job.state - wanted).abs().max() < steps * 16 * 2.0**-24
        job = launch(program, counts, start, steps, **given)
        job = job._replace(
            **{
                name: value.to(triton_device)
                for name, value in job._asdict().items()
                if isinstance(value, torch.Tensor)
            }
        )
        run_triton(job, Shape(32, 1, None))
        assert (job.state.cpu() - wanted).abs().max() < steps * 16 * 2.0**-24


@pytest.mark.parametrize("counts", LAYOUTS, ids=str)
def test_every_normal_has_one_place(counts):
    """Numbers of normals and (stream, channel) correspond; calls hold what they say."""
    offsets = offsets_of(counts)
    numbers = [o + c for o, n in zip(offsets, counts, strict=True) for c in range(n)]
    places = [stream_of(m, counts) for m in numbers]
    assert places == [(s, c) for s, n in enumerate(counts) for c in range(n)]
    calls = calls_of(numbers, counts)
    assert len(set(calls)) == len(calls)
    for call in calls:
        assert call.grouped == is_grouped(counts[call.stream])
        channel = call.place if call.grouped else 4 * call.place
        assert stream_of(call.first, counts) == (call.stream, channel)
