"""The GPU's trajectory kernels against their reference: the same body in torch, the same noise.

Without a GPU they run in Triton's interpreter.
"""

from __future__ import annotations

import math

import pytest
import torch
from sdekit_kernels import normal
from sdekit_kernels.fuse._numba.run import run_numba
from sdekit_kernels.fuse._triton.build import Gpu, Shape, launch_shape
from sdekit_kernels.fuse._triton.printer import UNROLL_LIMIT, print_triton
from sdekit_kernels.fuse._triton.run import run_triton
from sdekit_kernels.fuse.graph import PATH, Graph
from sdekit_kernels.fuse.launch import Launch
from sdekit_kernels.fuse.program import TORCH, make_program
from sdekit_kernels.fuse.trace import trace_step
from sdekit_kernels.philox.normal import check_draw

EPS = {torch.float32: 2.0**-24, torch.float64: 2.0**-53}
SHAPE = Shape(64, 2, None)

# The interpreter computes both sides of a selection, in numpy.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def launch(program, state, table, *, seed=3, step=0, first=0, slots=None, rows=0, pairs=False):
    """A launch over ``table`` steps (N, columns), with the program's constants."""
    n = state.shape[1]
    times = dict.fromkeys(("t", "dt"), torch.full((1,), 0.5, dtype=program.dtype))
    constants = program.table(times, torch.device("cpu"))[1]
    columns = program.path_table()
    return Launch(
        program,
        state.clone(),
        table,
        constants,
        torch.stack(columns) if columns else state.new_empty((0, n)),
        torch.full((n,), -1, dtype=torch.int64),
        slots,
        None if slots is None else state.new_full((rows, *state.shape), math.nan),
        check_draw(seed, 1, step, first, n),
        pairs,
    )


def reference(job):
    """The states after each step, in torch."""
    program, draw, state = job.program, job.draw, list(job.state)
    n, made = job.state.shape[1], []
    first, count = draw.first_sample, n
    if job.antithetic:
        first, count = first // 2, n // 2 + 1
    for k in range(len(job.steps)):
        z = normal(
            (count, max(program.channels, 1)),
            seed=draw.seed,
            stream=draw.stream,
            step=draw.step + k,
            first_sample=first,
            dtype=program.dtype,
            backend="torch",
        )
        if job.antithetic:
            number = torch.arange(draw.first_sample, draw.first_sample + n)
            z = z[number // 2 - first] * (1 - 2 * (number % 2))[:, None]
        state = program.step_torch(state, list(z.T), job.steps[k], job.constants, job.paths)
        made.append(torch.stack(state))
    return made


def run(job, device, shape=SHAPE):
    """The launch on the device of the tests, its results back on the CPU."""
    moved = job._replace(
        **{
            name: value.to(device, copy=True)
            for name, value in job._asdict().items()
            if isinstance(value, torch.Tensor)
        }
    )
    run_triton(moved, shape)
    return moved._replace(
        **{
            name: value.cpu()
            for name, value in moved._asdict().items()
            if isinstance(value, torch.Tensor)
        }
    )


def walk(channels, dtype=torch.float32):
    """x + dt z: the noise itself."""

    def step(now, z, states):
        return (states[0] + now["dt"] * z,)

    return trace_step(step, [torch.zeros((7, channels), dtype=dtype)], (channels,), ("dt",))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 8])
def test_noise_of_every_layout(channels, dtype, triton_device):
    """Odd numbers of paths, any first step, samples on both sides of 2^32 and far beyond."""
    program, n = walk(channels, dtype), 101
    start = torch.linspace(-1, 1, channels * n, dtype=dtype).reshape(channels, n)
    table = torch.full((6, 1), 0.5, dtype=dtype)
    for first_step, first, count in (
        (0, 0, 5),
        (3, 2**32 - 51, 6),
        (2**32 - 5, 2**62, 5),
        (5, 1, 1),
    ):
        job = launch(program, start, table[:count], step=first_step, first=first)
        found = run(job, triton_device)
        wanted = reference(job)[-1]
        if dtype == torch.float32 and triton_device.type == "cpu":
            assert torch.equal(found.state, wanted)
        # One rounding a step of values below 16.
        assert (found.state - wanted).abs().max() < 6 * 16 * EPS[dtype]
        assert (found.bad == -1).all()


def test_a_path_does_not_know_its_batch(triton_device):
    """The bits are the same in one launch, in two, and whatever the shape of the instances."""
    program = walk(3)
    table = torch.full((7, 1), 0.5)
    start = torch.zeros(3, 100)
    whole = run(launch(program, start, table, first=7), triton_device).state
    other = Shape(128, 2, None)
    assert torch.equal(
        run(launch(program, start, table, first=7), triton_device, other).state, whole
    )
    upper = run(launch(program, start[:, 33:].contiguous(), table, first=40), triton_device).state
    assert torch.equal(upper, whole[:, 33:])
    middle = run(launch(program, start, table[:3], first=7), triton_device).state
    late = run(launch(program, middle, table[3:], step=3, first=7), triton_device).state
    assert torch.equal(late, whole)


@pytest.mark.parametrize("channels", [1, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_antithetic_pairs(channels, dtype, triton_device):
    program = walk(channels, dtype)
    table = torch.ones((5, 1), dtype=dtype)
    for first in (0, 2**33 + 1):
        job = launch(
            program, torch.zeros((channels, 67), dtype=dtype), table, first=first, pairs=True
        )
        found = run(job, triton_device)
        assert (found.state - reference(job)[-1]).abs().max() < 5 * 16 * EPS[dtype]
        whole = found.state[:, first % 2 :][:, :66]
        assert (whole[:, 0::2] + whole[:, 1::2]).abs().max() == 0


def test_saved_states_and_the_step_that_left_the_finite_numbers(triton_device):
    """x' = x^2: from 10 the sixth square overflows float32; the others never do."""

    def step(now, z, states):
        return (states[0] * states[0] + 0.0 * z,)

    for channels in (1, 4):
        program = trace_step(step, [torch.zeros(7, channels)], (channels,), ("dt",))
        start = torch.tensor([0.5, 10.0, 1.0, 1e30]).expand(channels, 4).contiguous()
        slots = torch.tensor([-1, 1, -1, -1, 0, -1, -1, -1], dtype=torch.int32)
        job = launch(program, start, torch.zeros(8, 1), step=101, slots=slots, rows=2)
        found = run(job, triton_device)
        assert found.bad.tolist() == [-1, 106, -1, 101]
        for row in range(channels):
            assert found.saved[1, row, :3].tolist() == pytest.approx([0.5**4, 1e4, 1.0])
            assert found.saved[0, row, :3].tolist() == pytest.approx([0.5**32, 1e32, 1.0])
        again = run(found._replace(bad=torch.tensor([7, 106, -1, -1])), triton_device)
        assert again.bad.tolist() == [7, 106, -1, 101]  # what is not -1 stays


def test_a_component_that_is_not_finite_for_one_step_is_found(triton_device):
    """1 / x is infinite once and 0 after that."""

    def step(now, z, states):
        return (torch.where(states[0] == 0, states[0] + math.inf, 1.0 / states[0]),)

    program = trace_step(step, [torch.zeros(7)], (), ("dt",))
    start = torch.tensor([[0.0, 2.0, math.inf, math.nan]])
    found = run(launch(program, start, torch.zeros(2, 1), step=9), triton_device)
    assert found.bad.tolist() == [9, -1, 10, 9]


def test_tables_constants_and_path_parameters(triton_device):
    """Rows of the table, a shared number, one number a path, a boolean a step and one in all."""
    rate, level = torch.tensor(0.7), torch.linspace(-1, 1, 70)

    def step(now, z, states):
        (x,) = states
        early = now["t"] < 2.5
        pull = torch.where(early, rate * (level[:, None] - x), -x)
        kept = torch.where(rate > 0.5, x, -x)
        return (torch.where(early | (x > 0.2), kept + pull * now["dt"], x) + now["dt"] * z,)

    program = trace_step(step, [torch.zeros(70, 2)], (2,), ("t", "dt"))
    assert program.path_parameters and any(node.boolean for node in program.steps)
    times = {"t": torch.arange(6.0), "dt": torch.linspace(0.1, 0.5, 6)}
    table = program.table(times, torch.device("cpu"))[0]
    job = launch(program, torch.linspace(-1, 1, 140).reshape(2, 70), table, step=2)
    found = run(job, triton_device)
    assert (found.state - reference(job)[-1]).abs().max() < 6 * 8 * EPS[torch.float32]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_booleans_literals_and_states_that_no_path_enters(dtype, triton_device):
    """Each comparison and connective; a next state that is a literal, a time, a normal, a state."""

    def step(now, z, states):
        (x,) = states
        a, b, c, d, e = x.unbind(-1)
        low, high = a < 0.1, b >= 0.3
        odd = (low ^ high) | ~(c <= 2.0) & (d > a) | (a == b) | torch.isnan(torch.sqrt(d))
        one = torch.where(odd, 1.0, -1.0) * a + (low == high).to(x.dtype)
        return (torch.stack([one, z[:, 1], now["dt"] + 0 * d.sign().abs().clamp(max=0), a, e], -1),)

    start = torch.linspace(-1, 1, 5 * 33, dtype=dtype).reshape(5, 33)
    for channels in (2, 5):
        program = trace_step(step, [torch.zeros((7, 5), dtype=dtype)], (channels,), ("dt",))
        times = {"dt": torch.full((3,), 0.3, dtype=dtype)}
        table = program.table(times, torch.device("cpu"))[0]
        job = launch(program, start, table, step=3)
        found = run(job, triton_device)
        assert (found.state - reference(job)[-1]).abs().max() < 8 * EPS[dtype]


def test_next_states_without_paths(triton_device):
    """A literal, a constant and a number a step as next states."""
    graph = Graph()
    x, dt = graph.leaf("state", 0), graph.leaf("time", "dt")
    outputs = [graph("add", x, dt), graph.literal(2.0), graph.literal(0.3), dt]
    program = make_program(graph, outputs, (0,), torch.float32, [])
    table = program.table({"dt": torch.tensor([0.5, 0.25])}, torch.device("cpu"))[0]
    job = launch(program, torch.zeros(4, 5), table)
    found = run(job, triton_device)
    assert torch.equal(found.state[:, 4], torch.tensor([0.75, 2.0, 0.3, 0.25]))


def test_a_long_step_is_not_repeated_four_times(triton_device):
    """Beyond the limit the loop picks each step's normal at run time, with the same result."""

    def step(now, z, states):
        (x,) = states
        for j in range(UNROLL_LIMIT):
            x = x + now["dt"] * z if j % 64 == 0 else x * (1.0 if j % 2 else -1.0) + 0.25
        return (x,)

    program = trace_step(step, [torch.zeros(7)], (), ("dt",))
    assert len(program.body) > UNROLL_LIMIT
    assert print_triton(program).count("step(steps, k") == 2  # its definition and one call
    job = launch(program, torch.linspace(-1, 1, 9)[None], torch.full((6, 1), 0.5), step=3)
    found = run(job, triton_device)
    assert (found.state - reference(job)[-1]).abs().max() < 6 * 256 * 64 * EPS[torch.float32]


def test_shapes():
    """Few paths are spread over all processors; many light ones go two by two."""
    h200 = Gpu(132, 32, False)
    light, heavy = walk(3), walk(32)
    assert launch_shape(light, 10_000, h200) == Shape(32, 1, None)
    assert launch_shape(light, 10**6, h200) == Shape(256, 4, 128)
    assert launch_shape(heavy, 10**6, h200) == Shape(32, 1, None)
    assert launch_shape(light, 10**8, Gpu(304, 64, True)) == Shape(256, 2, None)


def test_nothing_to_do(triton_device):
    program = walk(3)
    assert (
        run(launch(program, torch.zeros(3, 0), torch.zeros(2, 1)), triton_device).state.numel() == 0
    )
    start = torch.ones(3, 5)
    assert torch.equal(run(launch(program, start, torch.zeros(0, 1)), triton_device).state, start)


# -- elementary functions --------------------------------------------------------------------------

ONE = {  # worst error in units in the last place of float32 and float64; 0: the same number
    "sqrt": (0, 1), "exp": (1.5, 2), "log": (1.5, 2.5), "sin": (1.5, 1.5), "cos": (1.5, 1.5),
    "tan": (3, 3), "tanh": (3, 3), "sinh": (3, 3), "cosh": (3, 3), "asin": (2.5, 2.5),
    "acos": (2.5, 2.5), "atan": (3, 3), "expm1": (2, 2.5), "log1p": (2.5, 3.5), "erf": (1, 1.5),
    "erfc": (6, 6), "floor": (0, 0), "ceil": (0, 0), "round": (0, 0), "trunc": (0, 0),
    "neg": (0, 0), "abs": (0, 0),
}  # fmt: skip
TWO = {"atan2": (3, 3), "pow": (1, 1.5), "min": (0, 0), "max": (0, 0), "div": (0, 0)}
LIMIT = {torch.float32: 1e6, torch.float64: 1e15}  # of the arguments of sine, cosine and tangent


def hard_values(dtype):
    """Zeros, infinities, NaN, halves, borders of the ranges; and numbers of every size."""
    ends = (88.7, 89.0, -87.4, -103.5, 700.0, -745.0, 1e-40, 1e-30, 3e38, 8388608.0)
    borders = (0.35, 0.5, 1.0, 2.0, math.pi / 4, math.pi / 2, math.pi, math.sqrt(2) - 1, 19.0, 39.0)
    special = [0.0, math.inf, 1.5, 2.5, 3.5, 4503599627370497.5, *ends, *borders]
    x = torch.tensor(special, dtype=dtype)
    near = torch.cat([x, torch.nextafter(x, x + 1), torch.nextafter(x, x - 1)])
    draw = torch.Generator().manual_seed(1)
    wide = torch.randn(1200, generator=draw, dtype=dtype)
    size = torch.exp(12 * torch.randn(1200, generator=draw, dtype=dtype))
    values = torch.cat(
        [near, size, wide.abs(), 20 * wide.abs(), torch.linspace(0, 1, 301, dtype=dtype)]
    )
    return torch.cat([values, -values, torch.tensor([math.nan], dtype=dtype)])


def operation(op, arguments):
    """One operation as a program of one step."""
    graph, dtype = Graph(), arguments[0].dtype
    leaves = [graph.leaf("state", j) for j in range(len(arguments))]
    outputs = [graph._make(op, tuple(leaves), None, PATH), *leaves[1:]]
    program = make_program(graph, outputs, (0,), dtype, [])
    return launch(program, torch.stack(arguments), torch.zeros((1, 1), dtype=dtype))


def apply(op, arguments, device):
    """Its result."""
    return run(operation(op, arguments), device, Shape(8192, 4, None)).state[0]


def last_places(found, wanted):
    """|found - wanted| in units in the last place of ``wanted``, given in float64."""
    rounded = wanted.to(found.dtype)
    same = (found == rounded) | (found.isnan() & rounded.isnan())
    size = rounded.abs().clamp(max=torch.finfo(found.dtype).max)
    unit = size.double() - torch.nextafter(size, torch.zeros_like(size)).double()
    error = (found.double() - wanted).abs() / unit.clamp(min=5e-324)
    return torch.where(same, 0.0, error.nan_to_num(nan=math.inf))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("op", ONE)
def test_functions_of_one_number(op, dtype, triton_device):
    x = hard_values(dtype)
    if op in ("sin", "cos", "tan"):
        x = x[~(x.abs() > LIMIT[dtype]) | x.isinf()]
    if op in ("sinh", "cosh") and dtype == torch.float64:
        x = x[~(x.abs() > 709) | (x.abs() > 711)]  # torch's own overflow too early
    error = last_places(apply(op, [x], triton_device), TORCH[op](x.double()))
    worst = error.argmax()
    assert error[worst] <= ONE[op][dtype == torch.float64], x[worst]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("op", TWO)
def test_functions_of_two_numbers(op, dtype, triton_device):
    """Random pairs, and every pair of special numbers with integers and halves as exponents."""
    x = hard_values(dtype)
    draw = torch.Generator().manual_seed(2)
    a, b = (x[torch.randint(len(x), (4000,), generator=draw)] for _ in range(2))
    integers = [0, 1, 2, 3, -1, -2, -3, 0.5, -0.5, 1.5, 1e-3, 100, 101, -101, 2.0**24, 2.0**60]
    special = torch.tensor([*integers, math.inf, -math.inf, math.nan, -0.0], dtype=dtype)
    a = torch.cat([a, special.repeat_interleave(len(special)), torch.rand(999, dtype=dtype) * 3])
    b = torch.cat([b, special.repeat(len(special)), torch.rand(999, dtype=dtype) * 1200 - 600])
    error = last_places(apply(op, [a, b], triton_device), TORCH[op](a.double(), b.double()))
    worst = error.argmax()
    assert error[worst] <= TWO[op][dtype == torch.float64], (a[worst], b[worst])


@pytest.mark.parametrize("op", ["exp", "expm1", "tanh", "sinh", "cosh", "log", "log1p", "pow"])
def test_the_same_bits_as_on_the_cpu(op, triton_device):
    """The roundings are those of the Numba kernels, one by one."""
    # The interpreter's float64 logarithm fuses nothing where it rounds a product first.
    both = triton_device.type == "cuda" or op not in ("log", "log1p", "pow")
    for dtype in (torch.float32, torch.float64) if both and op != "pow" else (torch.float32,):
        x = hard_values(dtype)
        arguments = [x.abs(), x.flip(0)] if op == "pow" else [x]
        job = operation(op, arguments)
        run_numba(job)
        found, wanted = apply(op, arguments, triton_device), job.state[0]
        differs = (found != wanted) & ~(found.isnan() & wanted.isnan())
        assert not differs.any(), x[differs][:5]


def test_sines_of_enormous_numbers_stay_bounded(triton_device):
    for dtype in (torch.float32, torch.float64):
        x = torch.tensor([3e6, -1e9, 1e20, 3e38], dtype=dtype)
        for op in ("sin", "cos"):
            assert apply(op, [x], triton_device).abs().max() <= 1


def test_signs_of_zero(triton_device):
    zeros = torch.tensor([0.0, -0.0])
    for op in ("tanh", "sinh", "asin", "atan", "trunc", "round"):
        assert torch.equal(apply(op, [zeros], triton_device).signbit(), zeros.signbit()), op
    assert not apply("log", [torch.ones(2)], triton_device).signbit().any()
    assert torch.equal(apply("neg", [zeros], triton_device).signbit(), ~zeros.signbit())
    cubes = apply("pow", [zeros, torch.full((2,), 3.0)], triton_device)
    assert torch.equal(cubes.signbit(), zeros.signbit())
