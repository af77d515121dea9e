"""The CPU's trajectory kernels against their reference: the same body in torch, the same noise."""

from __future__ import annotations

import math

import pytest
import torch
from sdekit_kernels import normal
from sdekit_kernels.fuse._numba.printer import block_rows, print_numba
from sdekit_kernels.fuse.launch import Launch
from sdekit_kernels.fuse.run import run_trajectory
from sdekit_kernels.fuse.trace import trace_step
from sdekit_kernels.philox.normal import check_draw

EPS = {torch.float32: 2.0**-24, torch.float64: 2.0**-53}


def launch(program, state, table, *, seed=0, step=0, first=0, slots=None, rows=0, pairs=False):
    """A launch over ``table`` steps (N, columns), with the program's constants."""
    n = state.shape[1]
    times = {"dt": torch.full((1,), 0.5, dtype=program.dtype)}
    constants = program.table(times, state.device)[1]
    columns = program.path_table()
    paths = torch.stack(columns) if columns else state.new_empty((0, n))
    return Launch(
        program,
        state.clone(),
        table,
        constants,
        paths,
        torch.full((n,), -1, dtype=torch.int64),
        slots,
        None if slots is None else state.new_full((rows, *state.shape), math.nan),
        check_draw(seed, 0, step, first, n),
        pairs,
    )


def reference(job):
    """The same launch, step by step in torch."""
    program, state = job.program, list(job.state)
    kept = {}
    for k in range(len(job.steps)):
        draw = job.draw
        first, n = draw.first_sample, job.state.shape[1]
        shape = (n, program.channels)
        ids = (shape, first) if not job.antithetic else ((n + 1, shape[1]), first // 2)
        z = normal(
            ids[0], seed=draw.seed, step=draw.step + k, first_sample=ids[1],
            dtype=program.dtype, backend="torch",
        )  # fmt: skip
        if job.antithetic:
            number = torch.arange(first, first + n)
            sign = (1 - 2 * (number % 2)).to(z)
            z = z[number // 2 - first // 2] * sign[:, None]
        state = program.step_torch(state, list(z.T), job.steps[k], job.constants, job.paths)
        kept[k] = torch.stack(state)
    return kept


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 8])
def test_noise_of_every_layout(channels):
    """x + root_dt z: odd numbers of paths, any first step, samples beyond 2^32."""

    def step(now, z, states):
        return (states[0] + now["dt"] * z,)

    program = trace_step(step, [torch.zeros(7, channels)], (channels,), ("dt",))
    n = block_rows(program) + 37
    start = torch.linspace(-1, 1, channels * n).reshape(channels, n)
    table = torch.full((9, 1), 0.5)
    for first_step, first, count in (
        (0, 0, 9),
        (3, 2**32 - 11, 6),
        (2**32 - 9, 2**62, 8),
        (5, 1, 1),
    ):
        job = launch(program, start, table[:count], seed=5, step=first_step, first=first)
        wanted = reference(job)[count - 1]
        run_trajectory(job)
        # One rounding a step of values below 8.
        assert (job.state - wanted).abs().max() < 9 * 8 * EPS[torch.float32]
        assert (job.bad == -1).all()


@pytest.mark.parametrize("channels", [1, 4])
def test_antithetic_pairs(channels):
    def step(now, z, states):
        return (states[0] + now["dt"] * z,)

    program = trace_step(step, [torch.zeros(7, channels)], (channels,), ("dt",))
    for first in (0, 1, 2**33 + 1):
        job = launch(
            program, torch.zeros(channels, 9), torch.full((5, 1), 1.0), first=first, pairs=True
        )
        wanted = reference(job)[4]
        run_trajectory(job)
        assert (job.state - wanted).abs().max() < 1e-6
        whole = job.state[:, first % 2 :][:, :8]
        assert (whole[:, 0:8:2] + whole[:, 1:8:2]).abs().max() == 0


def test_saved_states_and_the_step_that_left_the_finite_numbers():
    """x' = x^2: from 10 the sixth square overflows float32; the others never do."""

    def step(now, z, states):
        return (states[0] * states[0] + 0.0 * z,)

    program = trace_step(step, [torch.zeros(7, 1)], (1,), ("dt",))
    start = torch.tensor([[0.5, 10.0, 1.0, 1e30]])
    slots = torch.tensor([-1, 1, -1, -1, 0, -1, -1, -1], dtype=torch.int32)
    job = launch(program, start, torch.zeros(8, 1), step=100, slots=slots, rows=2)
    run_trajectory(job)
    assert job.bad.tolist() == [-1, 105, -1, 100]
    assert job.saved[1, 0, :3].tolist() == pytest.approx([0.5**4, 1e4, 1.0])
    assert job.saved[0, 0, :3].tolist() == pytest.approx([0.5**32, 1e32, 1.0])
    job.bad[0] = 7  # what is not -1 stays
    run_trajectory(job)
    assert job.bad.tolist() == [7, 105, -1, 100]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_path_of_a_long_step_is_the_same_alone_and_in_any_group(dtype):
    """Paths are taken in groups of 16 or 8, and places that no path takes do nothing."""

    def step(now, z, states):
        x = states[0]
        y = x + now["dt"] * torch.log(torch.sin(x) + torch.tanh(torch.exp(-x * x))) + 0.3 * z
        return (torch.where(torch.abs(x) > 50.0, x * x * x, y),)

    program = trace_step(step, [torch.zeros(7, 2, dtype=dtype)], (2,), ("dt",))
    n = block_rows(program) + 17
    start = torch.linspace(-2.0, 2.0, 2 * n, dtype=dtype).reshape(2, n)
    start[1, 5], start[0, n - 2] = 1e3, 60.0
    table = torch.full((9, 1), 0.5, dtype=dtype)
    slots = torch.tensor([-1, 0, -1, -1, 1, -1, -1, -1, 2], dtype=torch.int32)
    whole = launch(program, start, table, first=3, slots=slots, rows=3)
    run_trajectory(whole)
    assert 2 < (whole.bad >= 0).sum() < n
    for low, count in ((0, 1), (4, 3), (0, 15), (1, 16), (7, 17), (n - 2, 2), (n - 40, 40)):
        own = slice(low, low + count)
        job = launch(program, start[:, own], table, first=3 + low, slots=slots, rows=3)
        run_trajectory(job)
        for name in ("state", "saved", "bad"):
            got, wanted = getattr(job, name), getattr(whole, name)[..., own]
            assert torch.equal(got.nan_to_num(), wanted.nan_to_num()), (low, count, name)


FUNCTIONS = {
    "exp": torch.exp, "expm1": torch.expm1, "log": torch.log, "log1p": torch.log1p,
    "sin": torch.sin, "cos": torch.cos, "tan": torch.tan, "tanh": torch.tanh, "sinh": torch.sinh,
    "cosh": torch.cosh, "sqrt": torch.sqrt, "erf": torch.erf, "erfc": torch.erfc,
    "asin": torch.asin, "acos": torch.acos, "atan": torch.atan, "floor": torch.floor,
    "ceil": torch.ceil, "round": torch.round, "trunc": torch.trunc, "abs": torch.abs,
    "sign": torch.sign, "sigmoid": torch.sigmoid, "relu": torch.relu,
    "softplus": torch.nn.functional.softplus, "rsqrt": torch.rsqrt,
    "cube": lambda x: x**3, "inverse": lambda x: x**-2, "third": lambda x: x**0.375,
    "power": lambda x: torch.pow(x.abs(), x), "odd power": lambda x: torch.pow(x, torch.round(x)),
    "atan2": lambda x: torch.atan2(x, torch.cos(x)),
    "max": lambda x: torch.maximum(x, 0.5 * x), "clamp": lambda x: x.clamp(-1, 2),
    "where": lambda x: torch.where((x > 0) & ~(x > 3) | torch.isnan(x), x, -x),
    "isinf": lambda x: torch.isinf(x).to(x.dtype),
    "remainder": lambda x: x - 2 * torch.floor(x / 2),
}  # fmt: skip
ULPS = {"tan": 4, "cube": 4, "inverse": 4, "power": 4, "odd power": 4}
LIMITS = {"sin": 2.0**20, "cos": 2.0**20, "tan": 2.0**20, "atan2": 2.0**20, "remainder": 2.0**50,
          "inverse": 1e18}  # fmt: skip
"""Beyond, the argument has no phase left, and the square of x overflows as it does in torch."""


def hard_values(dtype):
    """Zeros, ends, infinities, tiny and huge numbers, and a spread of ordinary ones."""
    tiny, top = torch.finfo(dtype).tiny, torch.finfo(dtype).max
    some = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.5, -2.5, math.inf, -math.inf, math.nan, tiny, -tiny]
    some += [top, -top, 1e-6, -1e-6, 1e-20, 88.0, -88.0, 89.5, -103.0, 19.5, 10.5, math.pi, 1e4]
    some += [709.0, -745.0, 1e5, -3e5, tiny / 8, 60.5, 0.6931, -0.6931]
    x = torch.tensor(some, dtype=torch.float64).to(dtype)
    spread = torch.linspace(-30, 30, 3001, dtype=torch.float64)
    fine = torch.linspace(-1.5, 1.5, 3001, dtype=torch.float64)
    wide = 10.0 ** torch.linspace(-30, 30, 601, dtype=torch.float64)
    return torch.cat([x, spread.to(dtype), fine.to(dtype), wide.to(dtype), -wide.to(dtype)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_functions_against_torch(dtype):
    """A few units in the last place of the exact value (float64's own functions for float32)."""

    def step(now, z, states):
        x = states[0]
        return (torch.stack([f(x[:, j]) for j, f in enumerate(FUNCTIONS.values())], 1),)

    count = len(FUNCTIONS)
    program = trace_step(step, [torch.zeros(7, count, dtype=dtype)], (1,), ("dt",))
    x = hard_values(dtype)
    job = launch(program, x.expand(count, -1).contiguous(), torch.zeros(1, 1, dtype=dtype))
    run_trajectory(job)
    tiny = torch.finfo(dtype).tiny
    for j, (name, f) in enumerate(FUNCTIONS.items()):
        known = torch.isfinite(x) & (x.abs() < LIMITS.get(name, math.inf)) | ~torch.isfinite(x)
        wanted, got = f(x.double())[known], job.state[j][known].double()
        narrow = wanted.to(dtype).double()
        same = (got == narrow) | (got.isnan() & narrow.isnan())
        # Below the normal numbers a result may be flushed to zero.
        allowed = ULPS.get(name, 2.5) * 2 * EPS[dtype] * wanted.abs() + tiny
        bad = ~(same | ((got - wanted).abs() <= allowed))
        assert not bad.any(), (name, x[known][bad][:5], got[bad][:5], narrow[bad][:5])


def test_source_is_readable_and_compiles_once_a_body():
    def step(now, z, states):
        return (states[0] + now["dt"] * 1.37 * torch.sin(states[0]) + z,)

    def other(now, z, states):
        return (states[0] + now["dt"] * 9.11 * torch.sin(states[0]) + z,)

    one, two = (trace_step(f, [torch.zeros(7, 1)], (1,), ("dt",)) for f in (step, other))
    assert one.key == two.key and one != two
    source = print_numba(one, antithetic=False)
    assert "= sin(x0)" in source and "1.37" not in source
    compile(source, "kernel", "exec")
