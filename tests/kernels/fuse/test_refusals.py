"""What cannot be one kernel is refused: with what stands in the way, where, and what to do."""

from __future__ import annotations

import copy
import inspect
import math
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sdekit_kernels.fuse.trace import trace_step
from sdekit_kernels.fuse.tracer import MAX_COMPONENTS, CannotFuse

from tests.kernels.fuse.stepping import assert_agrees, numbers, states, trace

BUFFER = torch.zeros(3)
COUNTER = torch.zeros(())
WIDE = torch.ones(3, dtype=torch.float64)


def branch(t, x):
    if x.sum() > 0:
        return x
    return -x


def loop(t, x):
    while x.abs().max() > 1:
        x = x / 2
    return x


def branch_on_time(t, x):
    return x if t > 0.5 else -x


def change_state(t, x):
    x += 1
    return x


def change_part_of_state(t, x):
    x[:, 0] = 0.0
    return x


def change_broadcast(t, x):
    y = x[:, :1].expand(x.shape)
    y += 1
    return y


def fill_buffer(t, x):
    BUFFER.copy_(x[:, 0].sum())
    return x


def count(t, x):
    COUNTER.add_(1)
    return x * COUNTER


def change_view_of_buffer(t, x):
    first = BUFFER[0]
    first.add_(1.0)
    return x + BUFFER


def change_one_sample(t, x):
    made = -x
    made[1] = torch.where(t < 0.5, 0.0, made[1])
    return made


def change_part_of_one_sample(t, x):
    made = -x
    made[1, 0] = 3.0
    return made


def write_into_parameter(t, x):
    made = torch.tensor([0.0, 0.0, 0.0])
    made[0] = t
    return x * made


DECIDES = "a value that decides what Python does"
LEAVES = "a value that leaves torch"
RANDOM = "a source of random numbers of its own"
OTHERS = "a path may depend on its own state only"
INDEX = "an index or mask that depends on the path"
NO_FORM = "which has no form for a kernel"

REFUSED = {
    "if on x": (branch, DECIDES, "torch.where"),
    "while on x": (loop, DECIDES, "torch.where"),
    "if on t": (branch_on_time, DECIDES, "torch.where"),
    "float(t)": (lambda t, x: x * math.sin(float(t)), DECIDES, "torch.sin"),
    "int(t)": (lambda t, x: x * int(t), DECIDES, "torch.where"),
    "math of t": (lambda t, x: x * math.exp(t), DECIDES, "torch.sin"),
    "item": (lambda t, x: x * t.item(), DECIDES, "torch.where"),
    "bool": (lambda t, x: x if bool((x > 0).all()) else -x, DECIDES, "torch.where"),
    "in": (lambda t, x: x if 1.0 in x else -x, DECIDES, "torch.where"),
    "nonzero": (lambda t, x: x * len(torch.nonzero(x)), DECIDES, "torch.where"),
    "numpy": (lambda t, x: torch.from_numpy(x.numpy()), LEAVES, "torch's own functions"),
    "numpy function": (lambda t, x: np.sin(x), LEAVES, "torch's own functions"),
    "tolist": (lambda t, x: torch.tensor(x.tolist()), LEAVES, "torch's own functions"),
    "tensor of numbers": (lambda t, x: torch.as_tensor([x[0, 0], t]) * x, LEAVES, "torch's own"),
    "format": (lambda t, x: x * float(f"{t:.2f}"), LEAVES, "torch's own functions"),
    "randn": (lambda t, x: x + torch.randn_like(x), RANDOM, "through the diffusion"),
    "rand": (lambda t, x: x * torch.rand(3), RANDOM, "through the diffusion"),
    "normal": (lambda t, x: torch.normal(x, 1.0), RANDOM, "through the diffusion"),
    "bernoulli": (lambda t, x: torch.bernoulli(x.sigmoid()), RANDOM, "through the diffusion"),
    "dropout": (lambda t, x: F.dropout(x, 0.5), RANDOM, ".eval()"),
    "batch norm": (lambda t, x: F.batch_norm(x, None, None, training=True), "training", ".eval()"),
    "x += 1": (change_state, "torch.add_ changes the state", "x = x + ..."),
    "x[:, 0] = 0": (change_part_of_state, "changes the state", "x = x + ..."),
    "expanded += 1": (change_broadcast, "a broadcast view, in place", ".clone()"),
    "one sample": (change_one_sample, "writing to some samples", OTHERS),
    "part of one sample": (change_part_of_one_sample, "writing to some samples", OTHERS),
    "buffer": (fill_buffer, "torch.copy_ writes values of a path", "torch.zeros_like(x)"),
    "counter": (count, "torch.add_ changes a tensor that outlives the step", "keep no state"),
    "view of a buffer": (change_view_of_buffer, "outlives the step", "keep no state"),
    "parameter written": (write_into_parameter, "not the step's own", "torch.zeros_like(x)"),
    "out=": (lambda t, x: torch.add(x, x, out=torch.empty(5, 3)), "with out=", "use its result"),
    "mask": (lambda t, x: x[x > 0], INDEX, "torch.where"),
    "masked_select": (lambda t, x: x.masked_select(x > 0).sum() * x, INDEX, "torch.where"),
    "masked_scatter": (lambda t, x: x.masked_scatter(x > 0, x), INDEX, "torch.where"),
    "found index": (lambda t, x: x[:, x.argmax(1)], INDEX, "torch.where"),
    "found gather": (lambda t, x: x.gather(1, x.argmax(1, keepdim=True)), INDEX, "torch.where"),
    "index by time": (lambda t, x: BUFFER[t.long()] * x, "a conversion to torch.int64",
        "torch.where"),
    "gather of paths": (
        lambda t, x: x.gather(1, torch.arange(5)[:, None] % 3), "differs between paths",
            "torch.where"
    ),
    "mean(0)": (lambda t, x: x - x.mean(0), "a mean over the samples of the batch", OTHERS),
    "sum()": (lambda t, x: x - x.sum(), "a sum over the samples of the batch", OTHERS),
    "norm()": (lambda t, x: x / x.norm(), "a norm over the samples of the batch", OTHERS),
    "x[:2]": (lambda t, x: x[:2].sum() * x, "reading some samples of the batch, a slice", OTHERS),
    "x[0]": (lambda t, x: x - x[0], "an index that reads one sample of the batch", OTHERS),
    "x[order]": (lambda t, x: x[torch.arange(4, -1, -1)], "reading some samples of the batch",
        OTHERS),
    "cumsum(0)": (lambda t, x: x.cumsum(0), "a cumulative sum over the samples", OTHERS),
    "softmax(0)": (lambda t, x: x.softmax(0), "a softmax over the samples", OTHERS),
    "flip(0)": (lambda t, x: x.flip(0), "a flip over the samples", OTHERS),
    "roll(1, 0)": (lambda t, x: x.roll(1, 0), "a roll over the samples", OTHERS),
    "cat(0)": (lambda t, x: torch.cat([x, x])[:5], "torch.cat along the batch axis", OTHERS),
    "unbind(0)": (lambda t, x: torch.stack([v * v for v in x]), "torch.unbind over the samples",
        OTHERS),
    "x @ x.T": (lambda t, x: x @ x.T @ x, "a matrix product over the samples", OTHERS),
    "pairs": (lambda t, x: (x[:, None] - x[None]).sum(1), "samples of the batch against each",
        OTHERS),
    "view": (lambda t, x: x.view(-1).cumsum(0).view(5, 3), "merges the batch axis",
        "keep the batch axis"),
    "sort": (lambda t, x: x.sort(1)[0], "torch.sort, which moves numbers about", "torch.amax"),
    "median": (lambda t, x: x - x.median(1, True)[0], "torch.median, which moves numbers",
        "torch.amax"),
    "topk": (lambda t, x: x.topk(2, 1)[0].sum(1, True) * x, "torch.topk", "torch.amax"),
    "complex": (lambda t, x: (x * 1j).real, "complex numbers", "the real and the imaginary part"),
    "torch.complex": (lambda t, x: torch.complex(x, x).abs(), "complex numbers", "the real and"),
    "fft": (lambda t, x: torch.fft.rfft(x).abs().sum(1, True) * x, "complex numbers",
        "the real and"),
    "double": (lambda t, x: x.double().sin().float(), "a conversion to torch.float64",
        ".to(x.dtype)"),
    "half": (lambda t, x: x.half() * x, "a conversion to torch.float16", ".to(x.dtype)"),
    "float64 parameter": (lambda t, x: x * WIDE, "a float64 tensor, while the state is float32",
        "float64"),
    "float64 time": (lambda t, x: x * t.double().sin().float(), "a conversion to torch.float64",
        "float64"),
    "int": (lambda t, x: x.int() * x, "a conversion to torch.int32", "torch.floor"),
    "lgamma": (lambda t, x: torch.lgamma(x), f"torch.lgamma, {NO_FORM}", "arithmetic, exp, log"),
    "eigenvalues": (lambda t, x: torch.linalg.eigvalsh(torch.diag_embed(x)), NO_FORM, "arithmetic"),
    "determinant": (
        lambda t, x: torch.linalg.det(torch.diag_embed(x.repeat(1, 2)))[:, None] * x,
        "a determinant or inverse of 6 x 6", "up to 3 x 3",
    ),
    "distances": (lambda t, x: torch.cdist(x, x).sum(1, True) * x, NO_FORM, "arithmetic"),
    "sparse": (lambda t, x: (torch.eye(3).to_sparse() @ x.T).T, "a sparse tensor", ".to_dense()"),
    "other device": (
        lambda t, x: x * torch.ones(3, device="meta"),
        "a parameter on meta, while the state is on cpu", "move it with .to('cpu')",
    ),
    "other device, a number": (
        lambda t, x: x * torch.ones((), device="meta"), "a parameter on meta",
            "move it with .to('cpu')"
    ),
    "moved": (lambda t, x: x.to("meta"), "a tensor on meta", "stay on cpu"),
    "round to digits": (lambda t, x: x.round(decimals=2), "torch.round with decimals=2",
        "leave decimals="),
    "wide layers": (lambda t, x: x @ torch.ones(3, 9000) @ torch.ones(9000, 3),
        "a tensor of 27000 entries", "step-by-step"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_operation_line_and_remedy(name):
    drift, what, remedy = REFUSED[name]
    with pytest.raises(CannotFuse) as caught:
        trace(drift, states(5, 3, dtype=torch.float32))
    said = str(caught.value)
    assert what in said and remedy in said, said
    where = re.search(r" in (\S+), test_refusals\.py line (\d+): ", said)
    assert where, said
    lines, first = inspect.getsourcelines(drift)
    assert where[1] == drift.__name__ and first <= int(where[2]) < first + len(lines), said
    assert len(said) < 320 and "\n" not in said


def test_refusals_change_nothing():
    BUFFER.zero_()
    COUNTER.zero_()
    x = states(5, 3, dtype=torch.float32)
    before = x.clone()
    for drift, _, _ in REFUSED.values():
        with pytest.raises(CannotFuse):
            trace(drift, x)
    assert torch.equal(x, before) and not BUFFER.any() and not COUNTER


@pytest.mark.parametrize("shape", [(5,), (1,), (3, 3), (1, 1), (2, 3, 2)])
def test_batch_operations_of_other_shapes(shape):
    x = states(*shape)
    with pytest.raises(CannotFuse, match="a sum over the samples"):
        trace(lambda t, x: x - x.sum(0), x)
    with pytest.raises(CannotFuse, match="one sample"):
        trace(lambda t, x: x * x[-1], x)


class Scaled:
    def __init__(self, *size):
        self.p = numbers(*size)

    def __call__(self, t, x):
        return self.p * x


def test_a_parameter_of_another_batch():
    for size in [(4, 1), (4, 3), (2,)]:
        with pytest.raises(CannotFuse, match=r"shapes .* do not fit"):
            trace(Scaled(*size), states(5, 3))


class Remembers:
    """Equations that are no functions of t and x."""

    def __init__(self):
        self.last, self.calls = None, 0

    def first(self, t, x):
        if self.last is None:
            self.last = x
        return 1.37 * self.last

    def previous(self, t, x):
        last, self.last = self.last, x
        return x if last is None else x - last

    def counts(self, t, x):
        self.calls += 1
        return x * (0.1 * self.calls)

    def moves(self, t, x):
        self.last = numbers(3) if self.last is None else 0.9 * self.last
        return x * self.last


@pytest.mark.parametrize("name", ["first", "previous", "counts", "moves"])
def test_equations_that_remember(name):
    kept = "kept from an earlier call|does not compute the same twice"
    for _ in range(2):
        with pytest.raises(CannotFuse, match=kept):
            trace(getattr(Remembers(), name), states(5, 3))


def test_a_tensor_of_an_earlier_trace():
    kept = []
    trace(lambda t, x: kept.append(x) or x, states(5, 3))
    with pytest.raises(CannotFuse, match=r"kept from an earlier call in <lambda>, .* alone"):
        trace(lambda t, x: x + kept[0], states(5, 3))
    with pytest.raises(CannotFuse, match=r"kept from an earlier call in test_a_tensor"):
        kept[0] + 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_state_types(dtype):
    with pytest.raises(CannotFuse, match=r"x0\.float\(\)"):
        trace(lambda t, x: x, states(5, 3, dtype=dtype))


def test_too_large_a_state():
    trace(lambda t, x: -x, states(2, MAX_COMPONENTS))
    with pytest.raises(CannotFuse, match=r"65 components of the state a sample: .* hold 64; solve"):
        trace(lambda t, x: -x, states(2, MAX_COMPONENTS + 1))
    with pytest.raises(CannotFuse, match="65 Brownian motions a sample"):
        trace_step(lambda now, z, s: (s[0] + z.sum(1, True),), [states(2, 1)], (65,), ("t",))


def test_too_many_operations():
    def long(t, x):
        for _ in range(40000):
            x = torch.sin(x)
        return x

    with pytest.raises(CannotFuse, match="more than 4096 operations a step in long"):
        trace(long, states(2, 1))


@pytest.mark.parametrize(
    "returned", [lambda x: x[:, :2], lambda x: x.sum(1), lambda x: x[..., None], lambda x: x.T]
)
def test_a_step_that_changes_the_shape(returned):
    def step(now, z, given):
        return (returned(given[0]),)

    with pytest.raises(CannotFuse, match=r"the step turns a state of shape \(5, 3\) into"):
        trace_step(step, [states(5, 3)], (3,), ("t",))


def test_a_step_that_changes_the_type():
    def step(now, z, given):
        return (torch.zeros(5, 3),)

    with pytest.raises(CannotFuse, match=r"a state of torch\.float64 into torch\.float32"):
        trace_step(step, [states(5, 3)], (3,), ("t",))


@pytest.mark.parametrize(
    "drift, said",
    [
        (lambda t, x: x[:, :2], r"shapes \(5, 3\) and \(5, 2\) do not fit"),
        (lambda t, x: x @ torch.ones(2), "do not multiply"),
        (lambda t, x: x.no_such_thing(), "AttributeError.*no_such_thing"),
        (lambda t, x: None, "TypeError.*NoneType"),
        (lambda t, x: x[:, 7], "IndexError"),
        (lambda t, x: {}["theta"], "KeyError.*theta"),
    ],
)
def test_mistakes_are_told_as_such(drift, said):
    with pytest.raises(CannotFuse, match=said) as caught:
        trace(drift, states(5, 3))
    assert "if it is a mistake in the equation" in str(caught.value)


def test_what_looks_like_a_refusal_and_is_none():
    """Numbers that Python may know, and what the result does not depend on."""

    def settled(t, x):
        print(x, end="")
        scale = torch.full((), 2.0)
        scale += 1
        if scale > 2:  # known while tracing
            x = x * scale.item()
        x = copy.deepcopy(x)
        x.sum()  # over the batch, and not used
        kept = x.clone()
        kept[x > 1] = 0.3  # a mask that keeps the shape
        kept[x < -1] = t
        return kept

    assert_agrees(settled, states(5, 3))


def test_gradients_by_autograd():
    def force(t, x):
        with torch.enable_grad():
            y = x.detach().requires_grad_()
            energy = ((y**2 - 1) ** 2).sum() + torch.logsumexp(y, 1).sum() + F.softplus(y).sum()
            return -torch.autograd.grad(energy, y)[0]

    assert not assert_agrees(force, states(5, 3)).learns
    p = numbers(3).requires_grad_()
    with torch.no_grad():
        assert assert_agrees(lambda t, x: (2 * p) * x, states(5, 3)).learns
