"""Every kind of torch code that a drift may hold, traced, against the same code as it stands."""

from __future__ import annotations

import gc
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from sdekit_kernels.fuse import trace as trace_module
from sdekit_kernels.fuse.trace import trace_step
from sdekit_kernels.fuse.tracer import CannotFuse
from torch.func import grad, jacrev, jvp, vjp, vmap

from tests.kernels.fuse.stepping import assert_agrees, numbers, states, trace

SHAPES = [(b, d) for b in (1, 2, 5, 1000) for d in (1, 2, 5)]
"""Batches and components that may be taken for each other, and a batch that may not."""

POINTWISE = {
    "sums": lambda t, x: 1.37 * x - x * 2 + (3 - x) / 4 - -x + 0.5,
    "products": lambda t, x: x * x * 1.37 * (x * 0.21) * 3,
    "quotients": lambda t, x: 1 / (2 + x) + x / 3.7 + x / 0.5 + (x + 2) / (x + 3) + 7 / 3 * x,
    "powers": lambda t, x: x**2 - x**3 + 0.1 * x**7 + (x + 2) ** -1 + (x + 2) ** -3,
    "roots": lambda t, x: (x + 2) ** 0.5 + (x + 2) ** -0.5 + (x + 2) ** 1.37 + (2 + x).sqrt(),
    "powers of numbers": lambda t, x: 2**x + 1.37**x + (x + 2) ** x + torch.pow(x + 2, t),
    "rsqrt": lambda t, x: torch.rsqrt(x + 2) + torch.reciprocal(x + 2) + x.square(),
    "exp": lambda t, x: x.exp() + torch.exp2(x) + torch.expm1(x) + torch.special.expit(x),
    "log": lambda t, x: (x + 2).log() + (x + 2).log2() + (x + 2).log10() + torch.log1p(x + 1),
    "sin": lambda t, x: x.sin() + x.cos() + x.tan() * 0.1 + torch.sinc(x),
    "asin": lambda t, x: torch.asin(x / 2) + torch.acos(x / 2) + torch.atan(x)
        + torch.atan2(x, x + 2),
    "sinh": lambda t, x: x.sinh() + x.cosh() + x.tanh(),
    "asinh": lambda t, x: torch.asinh(x) + torch.acosh(x + 3) + torch.atanh(x / 2),
    "sigmoid": lambda t, x: torch.sigmoid(x) + F.logsigmoid(x) + torch.logit(torch.sigmoid(x)),
    "softplus": lambda t, x: F.softplus(x) + F.softplus(x, beta=3) + F.softplus(30 * x),
    "erf": lambda t, x: x.erf() + x.erfc(),
    "abs": lambda t, x: x.abs() + torch.sign(x) + x.sgn() + torch.relu(x) + abs(x),
    "min, max": lambda t, x: torch.minimum(x, 1 - x) + torch.maximum(x, x * x) + torch.max(x, -x),
    "fmin": lambda t, x: torch.fmin(x, 1 - x) + torch.fmax(x, x.log()),
    "clamp": lambda t, x: x.clamp(-1, 0.5) + x.clamp(min=0) + x.clamp(max=0.2) + x.clip(-0.1, 0.1),
    "clamp by tensors": lambda t, x: x.clamp(min=-x * x, max=x * x) + torch.clamp(x, max=t),
    "where": lambda t, x: torch.where(x > 0, x, x * x) + torch.where(x < 0.2, 1.5, x),
    "where of numbers": lambda t, x: torch.where(x >= 0, 1.0, -2.0) + torch.where(x <= t, x, 0),
    "comparisons": lambda t, x: (x > 0.1) * x + (x == x) * 2 + (x != 0.5) + (x < t).to(x.dtype),
    "logic": lambda t, x: ((x > 0) & ~(x > 1) | (x < -1) ^ (x < 0)).to(x.dtype) * 1.37,
    "logical": lambda t, x: torch.logical_and(x > 0, torch.logical_not(x > 1)) * x
    + torch.logical_or(x > 1, x < -1) * x + torch.logical_xor(x > 0, x > 1) * x,
    "masks as floats": lambda t, x: (x > 0).float() * x + (x < 0).double() - (x > 1).type_as(x),
    "masks as integers": lambda t, x: (x > 0).long() * x + (x > 0).int() - 2 * (x > 0),
    "rounding": lambda t, x: x.floor() + x.ceil() + x.round() + x.trunc() + x.frac(),
    "remainder": lambda t, x: x % 0.3 + torch.fmod(x, 0.3) + torch.remainder(x, -0.7) + x // 0.3,
    "floor division": lambda t, x: torch.div(x, 0.3, rounding_mode="trunc") + (x / 0.3).floor(),
    "isfinite": lambda t, x: torch.where(torch.isfinite(1 / x), x, 0) + torch.isnan(x).to(x),
    "isinf": lambda t, x: torch.isinf(x / 0).to(x) + torch.isposinf(x / 0).to(x)
        + torch.isneginf(x),
    "nan_to_num": lambda t, x: x.log().nan_to_num(nan=0.3)
        + (x > 9).to(x).log().nan_to_num(neginf=2),
    "lerp": lambda t, x: torch.lerp(x, x * x, 0.3) + torch.lerp(x, x * x, x) + torch.lerp(x, -x, t),
    "addcmul": lambda t, x: torch.addcmul(x, x, x + 1, value=0.3) + torch.addcdiv(x, x, x + 2),
    "alpha": lambda t, x: torch.add(x, x * x, alpha=1.3) + torch.sub(x, x * x, alpha=0.7)
    + torch.rsub(x, 2, alpha=3),
    "hypot": lambda t, x: torch.hypot(x, x + 1) + torch.hypot(x * 1e-200, x)
        + torch.hypot(x, x * 0),
    "logaddexp": lambda t, x: torch.logaddexp(x, 2 * x) + torch.logaddexp2(x, x * x),
    "xlogy": lambda t, x: torch.xlogy(x, x + 2) + torch.special.xlog1py(x, x + 1)
    + torch.xlogy(0 * x, x.abs()),
    "heaviside": lambda t, x: torch.heaviside(x, torch.full_like(x, 0.5)) + torch.copysign(x, -x),
    "degrees": lambda t, x: torch.deg2rad(x) + torch.rad2deg(x),
    "activations": lambda t, x: F.silu(x) + F.gelu(x) + F.gelu(x, approximate="tanh") + F.elu(x)
    + F.leaky_relu(x, 0.2) + F.mish(x) + F.selu(x) + F.celu(x, 1.3) + F.relu6(3 * x),
    "more activations": lambda t, x: F.hardtanh(x) + F.hardsigmoid(3 * x) + F.hardswish(3 * x)
    + F.softsign(x) + F.tanhshrink(x) + F.threshold(x, 0.1, 0.7) + F.softshrink(x)
    + F.hardshrink(x),
    "masked_fill": lambda t, x: x.masked_fill(x > 0.3, 0.7) + torch.masked_fill(x, x < 0, t),
    "time": lambda t, x: torch.sin(3 * t) * x + t * t - x / (1 + t) + torch.exp(-t * x) + t**1.3,
    "time decides": lambda t, x: torch.where(t > 0.5, x, -x) + (t < 0.2) * x
        + torch.clamp(t, 0, 0.3),
    "copies": lambda t, x: x.clone() + x.detach() + x.to(torch.float64) + x.contiguous() + x.data,
    "fresh tensors": lambda t, x: torch.ones_like(x) * x + torch.full_like(x, 1.37) + x.new_ones(())
    + torch.zeros(x.shape, dtype=x.dtype) + torch.tensor(0.3) + torch.full((), 1.37),
    "shapes": lambda t, x: x.reshape(x.shape) + x.view(x.size()) + x.unsqueeze(1).squeeze(1)
    + x[None][0] + x.unsqueeze(-1)[..., 0] + x.expand_as(x)
    + x.reshape(x.shape[0], -1).reshape(x.shape) + x.movedim(0, -1).movedim(-1, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", POINTWISE)
def test_pointwise(name):
    for shape in ((1,), (5,), (1000,), (1, 1), (2, 2), (5, 5), (1000, 5), (2, 2, 3), (1, 2, 3)):
        assert_agrees(POINTWISE[name], states(*shape))


COMPONENTS = {
    "sum": lambda t, x: x.sum(-1, keepdim=True) * x + x.sum(1)[:, None]
        + (x > 0).sum(1, keepdim=True),
    "mean": lambda t, x: x.mean(1, keepdim=True) - x + torch.mean(x, -1)[:, None],
    "prod": lambda t, x: x.prod(1, keepdim=True) + x,
    "norm": lambda t, x: x / x.norm(dim=1, keepdim=True) + torch.linalg.norm(x, dim=-1)[:, None],
    "norms": lambda t, x: sum(
        torch.linalg.vector_norm(x, p, 1, True) for p in (0, 1, 2, 3, 1.5, math.inf, -math.inf)
    ) * x,
    "extremes": lambda t, x: x.amax(1, keepdim=True) + x.amin(1)[:, None] + x.max(1)[0][:, None]
    + x.min(-1, keepdim=True).values + x.max(1).indices[:, None] * x,
    "places": lambda t, x: 0.3 * x.argmax(1)[:, None].to(x) + x.argmin(1, keepdim=True) + x,
    "any, all": lambda t, x: (x > 1).any(1, keepdim=True) * x + (x > -1).all(1)[:, None]
    + torch.count_nonzero(x > 0, 1)[:, None],
    "variance": lambda t, x: x.var(1, keepdim=True, correction=0)
        + x.std(1, unbiased=False)[:, None],
    "softmax": lambda t, x: x.softmax(1) + F.log_softmax(x, -1) + F.softmin(x, 1),
    "logsumexp": lambda t, x: torch.logsumexp(x, 1, keepdim=True)
        + torch.logsumexp(3 * x, -1)[:, None],
    "running": lambda t, x: x.cumsum(1) + x.cumprod(-1) + x.cummax(1)[0] + x.cummin(1).values
    + torch.logcumsumexp(x, 1),
    "differences": lambda t, x: x + torch.diff(x, dim=1, prepend=x[:, -1:]),
    "order": lambda t, x: x.flip(1) + x.roll(1, 1) + x.roll((1, -2), (1, 1)) + torch.fliplr(x),
    "repeat": lambda t, x: x.repeat(1, 2)[:, : x.shape[1]] + x.tile((1, 2))[:, x.shape[1] :]
    + x.repeat_interleave(2, 1)[:, ::2],
    "integers": lambda t, x: x[:, 0:1] * x + x[:, -1][:, None] + x[..., 0].unsqueeze(-1),
    "slices": lambda t, x: x[:, :] + x[:, ::1] + x[..., -1:] + x[:, :1] + x[:x.shape[0]],
    "lists": lambda t, x: x[:, [-1]] + x[:, [0] * x.shape[1]],
    "tensors": lambda t, x: x[:, torch.arange(x.shape[1] - 1, -1, -1)]
    + x.index_select(1, torch.zeros(x.shape[1], dtype=torch.long)),
    "constant mask": lambda t, x: x[:, torch.ones(x.shape[1], dtype=torch.bool)],
    "gather": lambda t, x: x.gather(1, torch.zeros(x.shape, dtype=torch.long))
    + torch.take_along_dim(x, torch.zeros(1, x.shape[1], dtype=torch.long), 1),
    "stack": lambda t, x: torch.stack([x[:, 0] * x[:, j] for j in range(x.shape[1])], 1)
    + torch.stack(list(x.T), -1) + torch.stack([x, -x]).sum(0) + torch.column_stack(x.unbind(1)),
    "cat": lambda t, x: torch.cat([x[:, :1] * 2, x[:, 1:]], 1) + torch.cat([x[:, 1:], x[:, :1]], -1)
    + torch.hstack([x[:, :1], x[:, 1:] * t]),
    "unbind": lambda t, x: sum(c[:, None] for c in x.unbind(1)) + torch.unbind(x, -1)[0][:, None],
    "chunk": lambda t, x: torch.cat(x.chunk(2, 1)[::-1], 1)
    + torch.cat(x.split(2, dim=1)[::-1], 1) + torch.cat(x.tensor_split(2, 1)[::-1], 1),
    "outer": lambda t, x: (x[:, :, None] * x[:, None, :]).sum(1)
    + (x[:, :, None] - x[:, None, :]).abs().mean(2),
    "diagonals": lambda t, x: torch.diag_embed(x).sum(1)
        + torch.diagonal(x[:, :, None] * x[:, None, :],
    dim1=1, dim2=2) + torch.diag_embed(x, 1).sum(1)[:, 1:],
    "triangles": lambda t, x: torch.tril(x[:, :, None] * x[:, None, :]).sum(2)
    + torch.triu(x[:, :, None] * x[:, None, :], 1).sum(2),
    "matrices": lambda t, x: torch.bmm(x[:, None, :], x[:, :, None] * x[:, None, :])[:, 0]
    + torch.einsum("bi,bj,bj->bi", x, x, x) + torch.einsum("bi,bi->b", x, x)[:, None]
    + torch.linalg.vecdot(x, x)[:, None] + (x[:, None, :] @ x[:, :, None])[:, :, 0],
    "kron": lambda t, x: torch.einsum("bi,bj->bij", x, x).flatten(1)[:, : x.shape[1]],
    "layer norm": lambda t, x: F.layer_norm(x, x.shape[1:]) + F.normalize(x, dim=1),
    "distances": lambda t, x: F.cosine_similarity(x, x + 1, dim=1)[:, None]
    + F.pairwise_distance(x, 2 * x)[:, None] + F.mse_loss(x, 2 * x, reduction="none"),
    "all of one sample": lambda t, x: x.flatten(1).sum(1, keepdim=True) * x,
    "pad": lambda t, x: F.pad(x, (1, 0))[:, :-1] + F.pad(x, (0, 1), value=0.7)[:, 1:],
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", COMPONENTS)
def test_components(name, shape):
    assert_agrees(COMPONENTS[name], states(*shape))


def filled(t, x):
    dx = torch.zeros_like(x)
    dx[:, 0] = x[:, -1] * t
    dx[:, 1:] = x[:, :-1] - 0.3
    dx[..., -1] += 2 * x[..., 0]
    dx += x
    dx *= 1.37
    dx.sub_(x).div_(2).clamp_(-1, 1).add_(x, alpha=0.3)
    dx[:, [0]] = dx[:, [-1]] * 2
    return dx


def filled_empty(t, x):
    dx = torch.empty_like(x)
    for j in range(x.shape[1]):
        dx[:, j] = torch.sin(x[:, j]) * j
    dx[:, :1].mul_(t)
    dx.neg_()
    y = x.new_zeros(x.shape)
    y.copy_(dx).exp_()
    return y.tanh_()


def filled_by_shape(t, x):
    b, d = x.shape
    dx = torch.zeros(b, d, dtype=x.dtype)
    dx[:, 0] = x[:, 0]
    other = torch.zeros((d, b), dtype=x.dtype).T
    other[:, 0] = x[:, -1]
    m = torch.zeros(b, d, d, dtype=x.dtype)
    m[:, 0, :] = x
    m.diagonal(dim1=1, dim2=2).add_(1.3)
    return dx + other + torch.einsum("bij,bj->bi", m, x)


def filled_views(t, x):
    y = x.clone()
    first, rest = y[:, :1], y[:, 1:]
    first.fill_(0.3)
    rest.zero_()
    y.T[0] += x[:, 0]
    y.view(x.shape).add_(1.0)
    return y.masked_fill_(y > 5, 0.0)


def scattered(t, x):
    made = torch.zeros_like(x).scatter(1, torch.zeros_like(x, dtype=torch.long)[:, :1], x[:, :1])
    return (
        made
        + torch.select_scatter(x, 2 * x[:, 0], 1, 0)
        + torch.slice_scatter(x, -x[:, :1], 1, 0, 1)
    )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("drift", [filled, filled_empty, filled_views, scattered])
def test_fresh_tensors_filled_in_place(drift, shape):
    assert_agrees(drift, states(*shape))


@pytest.mark.parametrize("shape", [(b, d) for b in (1, 2, 5, 1000) for d in (2, 5)], ids=str)
def test_tensors_of_a_shape_worked_out_filled_in_place(shape):
    assert_agrees(filled_by_shape, states(*shape))


THREE = {
    "cross": lambda t, x: torch.linalg.cross(x, x.flip(1)) + torch.cross(x, x * x, dim=1),
    "cross with a constant": lambda t, x: torch.linalg.cross(
        x, torch.tensor([[0.3, -1, 2]], dtype=x.dtype).expand_as(x)
    ),
    "determinant": lambda t, x: torch.linalg.det(torch.diag_embed(x) + x[:, :, None])[:, None] * x,
    "inverse": lambda t, x:
        (torch.linalg.inv(torch.diag_embed(x + 9) + x[:, None, :]) @ x[..., None])[..., 0],
    "solve": lambda t, x: torch.linalg.solve(torch.diag_embed(x + 9) + x[:, None, :], x),
    "matrix power": lambda t, x: torch.linalg.matrix_power(torch.diag_embed(x) + 0.3, 3).sum(1),
    "norm of matrices": lambda t, x:
        torch.linalg.matrix_norm(x[:, :, None] * x[:, None, :])[:, None] + x,
    "trace": lambda t, x: vmap(torch.trace)(x[:, :, None] * x[:, None, :])[:, None] * x,
    "tensordot": lambda t, x: torch.tensordot(x, torch.ones(3, 3, dtype=x.dtype), 1),
    "lorenz": lambda t, x: torch.stack(
        [10 * (x[:, 1] - x[:, 0]), x[:, 0] * (28 - x[:, 2]) - x[:, 1],
            x[:, 0] * x[:, 1] - 8 / 3 * x[:, 2]], 1
    ),
}  # fmt: skip


@pytest.mark.parametrize("batch", [1, 2, 3, 1000])
@pytest.mark.parametrize("name", THREE)
def test_three_components(name, batch):
    assert_agrees(THREE[name], states(batch, 3), roundings=1000)


MATRICES = {
    "x @ A": lambda a, b: lambda t, x: x @ a.T + b,
    "mm": lambda a, b: lambda t, x: torch.mm(x, a) + torch.addmm(b, x, a, beta=0.3, alpha=2),
    "linear": lambda a, b: lambda t, x: F.linear(x, a, b),
    "A @ x": lambda a, b: lambda t, x: (a @ x.T).T + (a @ x[..., None])[..., 0],
    "einsum": lambda a, b: lambda t, x: torch.einsum("ij,bj->bi", a, x)
        + torch.einsum("bi,ij,bj->b", x, a, x)[:, None],
    "mv": lambda a, b: lambda t, x: vmap(lambda y: a @ y + torch.mv(a, y) * torch.dot(b, y))(x),
    "matmul of many": lambda a, b: lambda t, x:
        torch.matmul(a.expand(x.shape[0], *a.shape), x[..., None])[..., 0],
    "A(t)": lambda a, b: lambda t, x: x @ (a * torch.sin(t)).T + b * t,
    "A(t) filled": lambda a, b: lambda t, x: x @ (a + t * torch.eye(len(b), dtype=x.dtype)),
    "products of A(t)": lambda a, b: lambda t, x: x @ ((a * t) @ a) + (a * t) @ b
        + torch.outer(b, b * t)[0],
    "matrix exponential": lambda a, b: lambda t, x: x @ torch.linalg.matrix_exp(a),
    "cholesky": lambda a, b: lambda t, x:
        x @ torch.linalg.cholesky(a @ a.T + torch.eye(len(b), dtype=x.dtype)),
    "kron": lambda a, b: lambda t, x: x @ torch.kron(a, b[None, :1] * t),
    "quadratic form": lambda a, b: lambda t, x: ((x @ a) * x).sum(1, keepdim=True) * x,
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", MATRICES)
def test_matrices_of_parameters(name, shape):
    d = shape[1]
    assert_agrees(MATRICES[name](numbers(d, d), numbers(d, seed=1)), states(*shape))


PARAMETERS = {
    "shared": lambda b, d: [()],
    "one each component": lambda b, d: [(d,), (1, d)],
    "one each path": lambda b, d: [(b, 1), (b, d)],
}
FORMULAS = {
    "ou": lambda p: lambda t, x: p * (0.3 - x),
    "first with a time": lambda p: lambda t, x: (p * t) * x - torch.exp(-p * t),
    "first with a number": lambda p: lambda t, x: (1 + 2 * p) * x / (p * p) + p.sqrt(),
    "decides": lambda p: lambda t, x: torch.where(p > 1, x, -x) + (x > p) * 0.3,
    "filled": lambda p: lambda t, x: torch.zeros_like(x).copy_(p * x).add_(p),
    "stacked": lambda p: lambda t, x: torch.stack([x, p * torch.ones_like(x)], -1).prod(-1),
    "joined": lambda p: lambda t, x: torch.cat([p.expand_as(x), x], 1)[:, : x.shape[1]] * x,
    "expanded": lambda p: lambda t, x: p.expand(x.shape) * x + torch.broadcast_to(p * t, x.shape),
}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", PARAMETERS)
@pytest.mark.parametrize("name", FORMULAS)
def test_parameters(name, kind, shape):
    for size in PARAMETERS[kind](*shape):
        program = assert_agrees(FORMULAS[name](numbers(*size)), states(*shape))
        differs = kind == "one each path" and shape[0] > 1
        assert bool(program.path_parameters) == differs


@pytest.mark.parametrize("batch", [1, 2, 5, 1000])
@pytest.mark.parametrize(
    "name", ["ou", "first with a time", "first with a number", "decides", "filled"]
)
def test_parameters_of_states_without_components(name, batch):
    for size in [(), (1,), (batch,)]:
        assert_agrees(FORMULAS[name](numbers(*size)), states(batch))


def test_parameters_of_states_with_two_axes():
    for batch in (1, 2, 3, 1000):
        for size in [(), (2, 3), (3,), (2, 1), (1, 2, 3), (batch, 1, 1), (batch, 2, 3)]:
            for formula in ("ou", "first with a number", "decides"):
                assert_agrees(FORMULAS[formula](numbers(*size)), states(batch, 2, 3))


def test_matrices_of_paths():
    for batch, d in SHAPES:
        a = numbers(batch, d, d)
        assert_agrees(lambda t, x, a=a: torch.einsum("bij,bj->bi", a, x), states(batch, d))
        assert_agrees(lambda t, x, a=a: (a @ x[..., None])[..., 0] * t, states(batch, d))


def test_integer_and_boolean_parameters():
    keep = torch.tensor([True, False, True])
    powers = torch.tensor([1, 2, 3])
    each = torch.arange(5)[:, None]
    x = states(5, 3)
    one = assert_agrees(lambda t, x: torch.where(keep, x, -x) + x * keep + x * powers, x)
    assert_agrees(lambda t, x: x.abs() ** powers + x * each + torch.where(each > 2, x, 0.0), x)
    keep, powers = ~keep, powers + 70
    assert (
        assert_agrees(lambda t, x: torch.where(keep, x, -x) + x * keep + x * powers, x).key
        == one.key
    )


class Network(torch.nn.Module):
    def __init__(self, d):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(d + 1, 8), torch.nn.Tanh(), torch.nn.LayerNorm(8),
                torch.nn.Linear(8, 8),
            torch.nn.SiLU(), torch.nn.Dropout(0.5), torch.nn.Linear(8, d),
        ).double()  # fmt: skip
        for j, p in enumerate(self.parameters()):
            p.data = numbers(*p.shape, seed=j) - 1
        self.eval()

    def forward(self, t, x):
        return self.layers(torch.cat([x, t.expand(x.shape[0], 1)], 1))


@pytest.mark.parametrize("shape", [*SHAPES, (8, 2), (9, 8)], ids=str)
def test_networks(shape):
    network = Network(shape[1])
    with torch.no_grad():
        program = assert_agrees(network, states(*shape))
    assert program.learns


def potential(y):
    return (y**4).sum() / 4 - (y.cos() * y.roll(1)).sum() + torch.logsumexp(y, 0)


NESTED = {
    "jvp": lambda t, x: jvp(lambda y: torch.sin(y) * y.sum(1, keepdim=True), (x,), (x * t,))[1],
    "vjp": lambda t, x: vjp(lambda y: torch.tanh(y) * y.flip(1) + F.softplus(y), x)[1](x)[0],
    "vjp of a row": lambda t, x: vjp(lambda y: y.softmax(1) + torch.sigmoid(y) * y, x)[1](x * x)[0],
    "vmap": lambda t, x: vmap(lambda y: y * y.sum() + torch.sin(y) * t)(x),
    "vmap of grad": lambda t, x: -vmap(grad(potential))(x),
    "grad of a sum": lambda t, x: -grad(lambda y: ((y**2 - 1) ** 2).sum())(x),
    "vmap of vjp": lambda t, x: vmap(lambda y: vjp(torch.tanh, y)[1](y)[0])(x),
    "divergence": lambda t, x: vmap(lambda y: torch.trace(jacrev(torch.sin)(y)) * y)(x),
    "nested jvp": lambda t, x:
        jvp(lambda y: jvp(torch.exp, (y,), (y,))[1], (x,), (torch.ones_like(x),))[1],
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", NESTED)
def test_derivatives_and_maps_inside_a_step(name, shape):
    assert_agrees(NESTED[name], states(*shape))


def test_float32():
    x = states(5, 3, dtype=torch.float32)
    p = numbers(3, dtype=torch.float32)
    for name in ("sums", "exp", "sin", "remainder", "time"):
        assert_agrees(POINTWISE[name], x)
    assert_agrees(lambda t, x: torch.tanh(x @ torch.outer(p, p)) * p, x)


def test_parameters_of_another_precision():
    """Constants are taken in the state's type; a float64 number without axes changes nothing."""
    x = states(5, 3, dtype=torch.float32)
    p = torch.tensor(1.37, dtype=torch.float64)
    assert_agrees(lambda t, x: p * x + (p * t) * x, x)
    q = numbers(3, dtype=torch.float32)
    assert_agrees(lambda t, x: q * x, states(5, 3))


@pytest.mark.parametrize("one, other", [(1.37, 0.21), (-1.37, 91.3)])
def test_values_are_not_in_the_program(one, other):
    def by_number(p):
        return lambda t, x: p * x + torch.clamp(x, max=p) - x**3 / p + torch.sin(p * t) + x**p

    def by_tensor(p):
        p = torch.tensor([p, p * p, p / 3], dtype=torch.float64)
        return lambda t, x: p * x + torch.where(p > 1, x, p) - x / p + (x @ torch.outer(p, p))

    def by_path(p):
        p = numbers(4, 1) * p
        return lambda t, x: p * x - p.exp() * t

    x = states(4, 3)
    for make in (by_number, by_tensor, by_path):
        programs = [trace(make(p), x) for p in (one, other)]
        assert programs[0].text == programs[1].text and programs[0].key == programs[1].key


def test_parameters_changed_between_solves_are_seen():
    p = numbers(3)
    keys = set()

    def drift(t, x):
        return (1 + p) * x + p * t

    for _ in range(3):
        keys.add(assert_agrees(drift, states(4, 3)).key)
        p.mul_(1.37)
    assert len(keys) == 1


def test_the_table_is_read_when_it_is_made():
    p = numbers(3)
    x = states(4, 3)
    program = trace(lambda t, x: p * x, x)
    now = {name: torch.ones(2, dtype=x.dtype) for name in ("t", "dt", "root_dt")}
    before = program.table(now, x.device)[0]
    p *= 2
    after = program.table(now, x.device)[0]
    assert (before != after).any() and before.shape == (2, len(program.steps))


def test_a_batch_is_not_in_the_program():
    """Batches of other sizes make the same program, even one of as many as there are components."""
    a = numbers(3, 3)
    for drift in (lambda t, x: x @ (a * t), filled, COMPONENTS["stack"]):
        keys = {trace(drift, states(b, 3)).key for b in (1, 2, 3, 64, 65, 1000)}
        assert len(keys) == 1


def test_the_size_of_the_batch_may_be_used():
    for batch in (1, 2, 5, 1000):
        assert_agrees(lambda t, x: x * (1.3 / x.shape[0]), states(batch, 2))


def test_long_chains():
    """Deeper than Python's stack, in the kernel and in the table."""

    def drift(t, x):
        for _ in range(1200):
            x, t = torch.sin(x) + t, torch.cos(t)
        return x

    assert_agrees(drift, states(2, 1))


def test_infinite_and_missing_numbers():
    x = states(6, 2)
    x[0, 0], x[1, 0], x[2, 1], x[3, 0] = math.inf, -math.inf, math.nan, 0.0
    for drift in (*POINTWISE.values(), *COMPONENTS.values()):
        assert_agrees(drift, x)


def test_an_empty_batch():
    program = trace(lambda t, x: x @ (numbers(3, 3) * t) - x.softmax(1), states(4, 3))
    empty = trace(lambda t, x: x @ (numbers(3, 3) * t) - x.softmax(1), states(0, 3))
    assert empty.key == program.key


def test_numbers_of_each_path_beside_the_times():
    """A step may have numbers of its own for each path, where batches can be confused too."""
    a = numbers(3, 3)

    def step(now, z, given):
        (x,) = given
        return (x + (x @ (a * now["k"])) * now["dt"][:, None],)

    for batch in (1, 2, 3, 1000):
        dt = numbers(batch)
        x = states(batch, 3)
        program = trace_step(step, [x], (3,), ("k",), {"dt": dt})
        table, constants = program.table({"k": torch.full((1,), 2.0, dtype=x.dtype)}, x.device)
        got = program.step_torch(list(x.T), list(x.T), table[0], constants, program.path_table())
        wanted = step({"k": torch.tensor(2.0, dtype=x.dtype), "dt": dt}, None, (x,))[0]
        assert torch.allclose(torch.stack(got, 1), wanted, rtol=0, atol=1e-14)


class Counted:
    """An equation that counts how often it is asked."""

    def __init__(self, power):
        self.power, self.asked = power, 0

    def step(self, now, z, given):
        self.asked += 1
        return (given[0] ** self.power,)

    def trace(self, x):
        before = self.asked
        program = trace_step(self.step, [x], (3,), ("t",), owner=self)
        return program.key, self.asked - before


def test_a_steady_step_is_traced_twice_the_first_time_only():
    """Once for each owner and program: another program of this owner, or another owner, is new."""
    sde, other, x = Counted(2), Counted(2), states(5, 3)
    square, times = sde.trace(x)
    assert times == 2
    assert sde.trace(x) == (square, 1)
    sde.power = 3
    assert sde.trace(x)[1] == 2
    sde.power = 2
    assert sde.trace(x) == (square, 1)
    assert other.trace(x) == (square, 2)
    number = id(sde)
    assert number in trace_module._steady._keys
    del sde
    gc.collect()
    assert number not in trace_module._steady._keys


PLAIN = """
import sys, torch
from sdekit_kernels.fuse.trace import trace_step
from sdekit_kernels.fuse.tracer import CannotFuse
network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3))

def step(now, z, given):
    (x,) = given
    a, b, c = x.unbind(1)
    f = torch.stack([torch.sin(a) * b.exp(), torch.where(c > 0, a, b) / 3, c.clamp(0, 1) ** 2], 1)
    f[:, 0] += x.softmax(1).sum(1)
    f = f + network(x) + x @ torch.eye(3) + torch.einsum("bi,bj->bi", x, x)
    f = f + torch.sigmoid(x * now["t"])
    return (x + f * now["dt"] + torch.relu(x).mean(1, keepdim=True) * z,)

with torch.no_grad():
    trace_step(step, [torch.ones(5, 3)], (3,), ("t", "dt"))
heavy = ("torch._dynamo", "torch._inductor", "sympy", "numba", "triton")
print(*(m for m in heavy if m in sys.modules))
"""


def test_a_trace_loads_no_compiler():
    """Ordinary operations: torch's own compiler is two seconds of imports."""
    kernels = Path(__file__).parents[3] / "kernels"
    done = subprocess.run(
        [sys.executable, "-c", PLAIN],
        env={**os.environ, "PYTHONPATH": str(kernels)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.split() == []


def test_a_conversion_made_twice_is_one_parameter():
    a = numbers(3).float()

    def twice(t, x):
        return x * a.to(x) + a.to(x).exp()

    assert len(trace(twice, states(5, 3)).parameters) == 2  # a, and its exponentials
    assert_agrees(twice, states(5, 3))


def test_a_conversion_that_is_written_to():
    a = numbers(3).float()

    def once(t, x):
        b = a.to(x)
        b += 1.0
        return x * b + a.to(x)

    def shared(t, x):
        b, c = a.to(x), a.to(x)
        b += 1.0
        return x * b + c

    assert_agrees(once, states(5, 3))
    with pytest.raises(CannotFuse, match=r"changes what \.to\(\) gave in shared"):
        trace(shared, states(5, 3))
