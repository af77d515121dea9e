"""Rewriting keeps answers: random expressions, simplified, against the same ones as they stand."""

from __future__ import annotations

import math
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from sdekit_kernels.fuse.graph import PATH, Graph
from sdekit_kernels.fuse.program import TORCH, make_program
from sdekit_kernels.fuse.trace import trace_step

from tests.kernels.fuse.stepping import EPS, assert_agrees, numbers, states, trace

Tree = tuple[Any, ...]
"""(operation, subtrees...), or a leaf: ("state" | "noise" | "parameter" | "time", j), a number."""

LEAVES = 3
"""Of each kind."""


def leaves(literals: list[float]) -> st.SearchStrategy[Any]:
    kinds = st.sampled_from(["state", "noise", "parameter", "parameter", "time"])
    return st.one_of(st.tuples(kinds, st.integers(0, LEAVES - 1)), st.sampled_from(literals))


def trees(ops: dict[str, int], literals: list[float], size: int) -> st.SearchStrategy[Any]:
    """Expressions of these operations, each with so many arguments."""

    def grow(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return st.one_of(
            *(st.tuples(st.just(op), *[inner] * count) for op, count in ops.items() if count),
            *(st.tuples(st.just(op), inner, leaves(literals)) for op, n in ops.items() if not n),
        )

    return st.recursive(leaves(literals), grow, max_leaves=size)


OWN = {
    "mask": lambda a, b: (a < b).to(a.dtype),
    "choose": lambda a, b, c: torch.where((a > b) & ~(b == c) | (a <= c) ^ (a != b), b, c),
    "over": torch.div,
    "square": lambda a: a**2,
    "cube": lambda a: a**3,
    "same": lambda a: a * 1.0 + 0.0,
    "none": lambda a: 0.0 - a * -1.0,
    "floor over": lambda a, b: torch.floor(a / b),
    "root": lambda a: torch.sqrt(torch.abs(a)),
}


class Value:
    """What a tree is in torch: of tensors that are real, or symbolic."""

    def __init__(
        self, now: Any, z: torch.Tensor, x: torch.Tensor, parameters: torch.Tensor
    ) -> None:
        self.now, self.z, self.x, self.parameters = now, z, x, parameters
        self.seen: list[torch.Tensor] = []

    def __call__(self, tree: Any) -> torch.Tensor:
        if isinstance(tree, float):
            return torch.full_like(self.x[:, 0], tree)
        op, *args = tree
        if op == "parameter":
            # Every use is a view of its own, which is one number all the same.
            return self.parameters[args[0]] + torch.zeros_like(self.x[:, 0])
        if op == "time":
            return self.now[f"t{args[0]}"] + torch.zeros_like(self.x[:, 0])
        if op in ("state", "noise"):
            return (self.x if op == "state" else self.z)[:, args[0]]
        made = {**TORCH, **OWN}[op](*(self(a) for a in args))
        self.seen.append(made)
        return made


def both(
    tree: Any, x: torch.Tensor, z: torch.Tensor, parameters: torch.Tensor, times: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    """The traced value, the plain one, and what came up on the way to it."""
    names = tuple(f"t{j}" for j in range(LEAVES))
    now = dict(zip(names, times, strict=True))
    plain = Value(now, z, x, parameters)
    wanted = plain(tree)

    def step(now, z, given):
        made = Value(now, z, given[0], parameters)(tree)
        return (torch.stack([made] * LEAVES, 1),)

    program = trace_step(step, [x], (LEAVES,), names)
    table, constants = program.table({n: t[None] for n, t in now.items()}, x.device)
    got = program.step_torch(list(x.T), list(z.T), table[0], constants, program.path_table())[0]
    return got.expand(wanted.shape), wanted, plain.seen


EXACT = {"add": 2, "sub": 2, "mul": 2, "neg": 1, "abs": 1, "min": 2, "max": 2, "mask": 2,
         "choose": 3, "square": 1, "same": 1, "none": 1, "floor": 1, "round": 1,
             "over": 0}  # fmt: skip
WHOLE = [0.0, 1.0, -1.0, 2.0, -2.0, 3.0, -3.0, 5.0]
POWERS = [1.0, -1.0, 2.0, -0.5, 4.0]
ENDS = [math.inf, -math.inf, math.nan, 0.0]


@settings(max_examples=400)
@given(
    tree=trees(EXACT, POWERS, 12),
    x=st.lists(st.sampled_from(WHOLE + ENDS), min_size=12, max_size=12),
    z=st.lists(st.sampled_from(WHOLE), min_size=12, max_size=12),
    p=st.lists(st.sampled_from([*POWERS, *ENDS, -0.0]), min_size=3, max_size=3),
    t=st.lists(st.sampled_from([*POWERS, 0.0]), min_size=3, max_size=3),
)
def test_exact_values_stay_exact(tree, x, z, p, t):
    """Of small whole numbers, infinities and NaN, where no operation rounds: equal, not close."""
    tensors = [torch.tensor(v, dtype=torch.float64) for v in (x, z, p, t)]
    got, wanted, seen = both(tree, tensors[0].view(4, 3), tensors[1].view(4, 3), *tensors[2:])
    for value in seen:
        finite = value[value.isfinite()]
        # 2^40 in steps of 2^-12 at most: exact in 53 bits.
        assume((finite.abs() < 2.0**40).all() and (finite * 2.0**12 % 1 == 0).all())
    assert torch.equal(got.nan_to_num(nan=7e77), wanted.nan_to_num(nan=7e77)), (got, wanted)


ROUNDED = {"add": 2, "sub": 2, "mul": 2, "neg": 1, "over": 0, "root": 1, "sin": 1, "tanh": 1,
           "square": 1, "cube": 1, "abs": 1, "same": 1, "none": 1}  # fmt: skip


def reach(tree: Any, value: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """A tree's value, and how far one rounding in each of its operations may move it, in units."""
    if isinstance(tree, float) or tree[0] in ("state", "noise", "parameter", "time"):
        made = value(tree)
        return made, torch.zeros_like(made)
    op, *inner = tree
    args = [reach(a, value) for a in inner]
    made = {**TORCH, **OWN}[op](*(a for a, _ in args))
    a, d = args[0]
    if op in ("add", "sub"):
        moved = d + args[1][1]
    elif op == "mul":
        moved = d * args[1][0].abs() + a.abs() * args[1][1]
    elif op == "over":
        moved = d / args[1][0].abs()
    elif op == "square":
        moved = 2 * a.abs() * d
    elif op == "cube":
        moved = 3 * a * a * d
    elif op == "root":  # its slope has no bound at zero
        moved = torch.where(d > 0, d / (2 * made.clamp(min=1e-30)), d)
    else:
        moved = d
    return made, moved + made.abs()


REAL = st.floats(0.01, 100.0).map(lambda v: round(v, 6))
SIGNED = st.tuples(REAL, st.sampled_from([-1.0, 1.0])).map(lambda v: v[0] * v[1])


@settings(max_examples=300)
@given(
    tree=trees(ROUNDED, [0.3, -1.37, 1e-3, 7.0, 49.0, 0.5], 14),
    x=st.lists(SIGNED, min_size=12, max_size=12),
    z=st.lists(SIGNED, min_size=12, max_size=12),
    p=st.lists(SIGNED, min_size=3, max_size=3),
    t=st.lists(SIGNED, min_size=3, max_size=3),
)
def test_rounded_values_stay_close(tree, x, z, p, t):
    """Within what one more rounding of each operation could do."""
    tensors = [torch.tensor(v, dtype=torch.float64) for v in (x, z, p, t)]
    shaped = [tensors[0].view(4, 3), tensors[1].view(4, 3), *tensors[2:]]
    got, wanted, _ = both(tree, *shaped)
    assume(wanted.isfinite().all())
    now = {f"t{j}": v for j, v in enumerate(tensors[3])}
    units = reach(tree, Value(now, shaped[1], shaped[0], shaped[2]))[1]
    assume((units < 1e14).all())
    # Both sides round, and x / u = x (1 / u) and u (v x) = (u v) x round once more.
    assert ((got - wanted).abs() <= 4 * EPS[torch.float64] * units).all(), (got, wanted, units)


PRODUCTS = {"mul": 2, "neg": 1, "over": 0}
HUGE = st.tuples(st.floats(1.0, 2.0), st.integers(-60, 60)).map(lambda v: math.ldexp(*v))
ORDINARY = st.floats(1e-3, 1e3)


@settings(max_examples=400)
@given(
    tree=trees(PRODUCTS, [1e-12, 1e12, 3.0], 8),
    x=st.lists(HUGE, min_size=12, max_size=12),
    z=st.lists(st.floats(0.01, 5.0), min_size=12, max_size=12),
    p=st.lists(HUGE, min_size=3, max_size=3),
    t=st.lists(ORDINARY, min_size=3, max_size=3),
)
def test_products_stay_in_range(tree, x, z, p, t):
    """Where no product that is written leaves float32's range, none that is computed does."""
    tensors = [torch.tensor(v, dtype=torch.float32) for v in (x, z, p, t)]
    got, wanted, seen = both(tree, tensors[0].view(4, 3), tensors[1].view(4, 3), *tensors[2:])
    for value in seen:
        # Times, normals and ordinary literals may move by 2^10 each from one factor to another.
        assume((value.abs() < 2.0**86).all() and (value.abs() > 2.0**-86).all())
    assert ((got - wanted).abs() <= 32 * EPS[torch.float32] * wanted.abs()).all(), (got, wanted)


@pytest.mark.parametrize(
    "drift, x",
    [
        (lambda t, x: 1e-30 * (1e-30 * x), 1e36),
        (lambda t, x: (1e-25 * x) * x, 1e30),
        (lambda t, x: (x * 1e-25) * x, 1e30),
        (lambda t, x: (x * 1e30) / 1e35 / 1e-5, 1e3),
        (lambda t, x: 1e25 * (torch.tensor(1e25) * x), 1e-30),
        (lambda t, x: x / 1e38 * 1e30, 1e20),
        (lambda t, x: x / 2.0**-126, 1e-20),
        (lambda t, x: x / torch.tensor(2.0**-126), 1e-20),
        (lambda t, x: (x * 0.3) * x * 1e-20, 1e15),
    ],
)
def test_units_of_physics_in_float32(drift, x):
    """Boltzmann's constant is 1e-23, and molecules come by 1e23."""
    start = torch.tensor([[x], [-2 * x]], dtype=torch.float32)
    assert_agrees(drift, start)


@pytest.mark.parametrize("divisor", [3.0, 49.0, 0.1, 1 / 3, -7.0])
@pytest.mark.parametrize("shared", [False, True], ids=["literal", "parameter"])
def test_whole_quotients_stay_whole(divisor, shared):
    """x (1 / 49) is below 1 for x = 49: rounding down must see the quotient itself."""
    d = torch.tensor(divisor, dtype=torch.float64) if shared else divisor
    x = torch.arange(-200, 200, dtype=torch.float64)[:, None] * divisor
    for drift in (
        lambda t, x: torch.floor(x / d),
        lambda t, x: torch.ceil(x / d) + torch.trunc(x / d),
        lambda t, x: x // d,
        lambda t, x: torch.round(x / d),
        lambda t, x: torch.div(x, d, rounding_mode="trunc"),
    ):
        assert_agrees(drift, x, roundings=8)


def test_remainders_have_the_sign_of_the_divisor():
    x = torch.linspace(-50, 50, 100001, dtype=torch.float64)[:, None]
    for period in (2 * math.pi, -0.7, 1 / 3):
        assert_agrees(lambda t, x, p=period: torch.remainder(x, p), x, roundings=100)
        assert_agrees(lambda t, x, p=period: torch.fmod(x, p), x, roundings=100)


LITERALS = [0.0, -0.0, 1.0, -2.0, 0.3, 1e300, 5e-324, 1000.0, math.inf, -math.inf, math.nan]


@pytest.mark.parametrize("op", sorted(set(TORCH) - {"fma", "where", "and", "or", "xor", "not"}))
def test_literals_fold_as_torch_computes(op):
    """Division by zero, overflow and all."""
    count = 1
    try:
        TORCH[op](torch.tensor(0.5))
    except TypeError:
        count = 2
    for a in LITERALS:
        for b in LITERALS if count == 2 else [0.0]:
            graph = Graph()
            args = (a, b)[:count]
            node = graph(op, *(graph.literal(v) for v in args))
            wanted = TORCH[op](*(torch.tensor(v, dtype=torch.float64) for v in args)).item()
            if node.op != "literal":
                # Left to the table, such as quotients that no factor can replace.
                program = make_program(graph, [graph("float", node)], (1,), torch.float64, [])
                got = program.table({"t": torch.zeros(1)}, torch.device("cpu"))[1].item()
            else:
                got = float(node.value)
            assert got == pytest.approx(float(wanted), rel=1e-14, nan_ok=True), (op, args)


def test_equal_expressions_are_one():
    def repeats(t, x):
        one = torch.sin(x * x.flip(1)) + torch.exp(-x)
        other = torch.sin(x.flip(1) * x) + torch.exp(-x)
        return one * other + one

    program = trace(repeats, states(4, 2))
    ops = [n.op for n in program.body]
    assert ops.count("sin") == 1 and ops.count("exp") == 2


def test_what_a_kernel_computes_for_known_equations():
    """Operations a path and step, which is what a kernel costs."""
    theta, mu, sigma = numbers(3)

    def ou(now, z, given):
        (x,) = given
        return (x + theta * (mu - x) * now["dt"] + sigma * (now["root_dt"] * z),)

    def gbm(now, z, given):
        (x,) = given
        return (x + (mu * x) * now["dt"] + (sigma * x) * (now["root_dt"] * z),)

    def mass_action(now, z, given):
        a, b = given[0].unbind(1)
        rate = (theta * a) * b
        return (torch.stack([a - rate * now["dt"], b + rate * now["dt"]], 1),)

    for step, d, wanted in ((ou, 1, 3), (gbm, 1, 3), (mass_action, 2, 4)):
        program = trace_step(step, [states(5, d)], (d,), ("dt", "root_dt"))
        assert len(program.body) == wanted, program.text


@pytest.mark.parametrize("n", [-64, -7, -2, -1, 0, 1, 2, 3, 7, 16, 63, 64, 65, 100])
def test_whole_powers(n):
    assert_agrees(lambda t, x: x**n, 1 + 0.1 * states(5, 2), roundings=500)
    x = torch.tensor([[0.0], [math.inf], [-math.inf], [math.nan], [-2.0]], dtype=torch.float64)
    assert_agrees(lambda t, x: 0 * torch.ones_like(x) + (x**n), x)


def test_nothing_is_folded_that_may_be_no_number():
    graph = Graph()
    x, zero = graph.leaf("state", 0), graph.literal(0.0)
    assert graph("mul", x, zero).op == "mul"
    assert graph("sub", x, x).op == "sub"
    assert graph("div", x, x).op == "div"
    assert graph("eq", x, x).op == "eq"


@given(st.data())
def test_building_is_the_same_every_time(data):
    """The order of expressions, and so the text, depends on the step alone."""
    tree = data.draw(trees(ROUNDED, [0.3], 10))
    x, p = states(4, 3), numbers(3)
    names = ("t0", "t1", "t2")

    def step(now, z, given):
        return (torch.stack([Value(now, z, given[0], p)(tree)] * 3, 1),)

    texts = {trace_step(step, [x], (3,), names).text for _ in range(2)}
    assert len(texts) == 1


def test_products_of_scalars_are_shared_by_all_paths():
    """What does not differ between paths is not in the body."""
    p = numbers(3)
    program = trace(
        lambda t, x: x * torch.exp(-p * t) / (1 + p.sum()) + torch.sin(t) * p, states(4, 3)
    )
    assert {n.op for n in program.body} <= {"mul", "add", "sub", "fma"}
    assert all(n.level == PATH for n in program.body)
    assert np.isfinite(len(program.steps))
