"""A small network for a drift: (t, x) -> x's shape, or two drifts at once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, Final, final

import sdekit_kernels
import torch
from sdekit_kernels.checks import check_int_range, check_positive
from torch import Tensor, nn
from torch.nn.utils import skip_init

from sdekit.bridge.grid import Direction
from sdekit.noise import keys
from sdekit.sde import as_time

_LEAST: Final = 1e-3
"""The share of time left below which the unit stays what it is: no drift is asked at its end."""
_NOT_KEPT = ("self", "__class__", "seed", "dtype", "device")


@final
class DriftMLP(nn.Module):
    r"""F(\bar y, f) + W y + a(f) y + c(f),  y = x / scale,  f = (t / T, \sin, \cos 2^k \pi t / T).

    F: layers of SiLU; W a matrix; a and c, affine in f, have one number a component. Between
    Gaussians drifts are affine in x, far from the data nearly so, and a mean or a variance that F
    has a little wrong in each direction is much in many. affine=False leaves F alone.
    \bar y: y; in evaluation mode with each component between ``low`` and ``high``, the range of all
    that the last regression has shown it. Layers of SiLU go on as straight lines where nothing was
    fitted, and a path that comes there would leave along them. A training loop of one's own calls
    ``forget_range`` before it, and ``see`` on what it fits, or leaves it without limits.
    noisy: this is of a bridge's drifts times the root of the time that is left, \sqrt{1 - t / T}
    forward and \sqrt{t / T} backward: toward their ends drifts grow as its inverse, and what they
    are fitted to has noise that does (see ``NetworkDrift``). Not for a flow's velocity.
    event_shape: D... drifts: 1, or 2 for a network of both directions, whose output is (B, 2,
    D...). T: the last time. scale: the size of x. seed: of the initial weights, normals of variance
    1 / inputs from the library's own noise; the last layer, W, a and c are zero, so that the first
    drift is.
    Raises TypeError or ValueError for sizes that are no positive integers.
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        width: int = 128,
        depth: int = 3,
        *,
        T: float = 1.0,
        scale: float = 1.0,
        features: int = 5,
        drifts: int = 1,
        affine: bool = True,
        noisy: bool = False,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        given = {k: v for k, v in locals().items() if k not in _NOT_KEPT}
        super().__init__()
        self._given = given
        self.event_shape = tuple(check_int_range("event_shape", d, 1, 1 << 31) for d in event_shape)
        width = check_int_range("width", width, 1, 1 << 20)
        depth = check_int_range("depth", depth, 1, 1 << 10)
        features = check_int_range("features", features, 0, 1 << 10)
        self.drifts, self.noisy = check_int_range("drifts", drifts, 1, 3), bool(noisy)
        self.T, self.scale = check_positive("T", T), check_positive("scale", scale)
        like: dict[str, Any] = {"dtype": dtype, "device": device}
        spectrum = math.pi * 2.0 ** torch.arange(features, **like)
        self.register_buffer("frequencies", spectrum, persistent=False)
        for name, limit in (("low", -math.inf), ("high", math.inf)):
            self.register_buffer(name, torch.full(self.event_shape, limit, **like))
        d, times = math.prod(self.event_shape), 2 * features + 1
        sizes = [d + times, *[width] * depth, d * self.drifts]
        self.layers = nn.ModuleList(_linear(n, m, like) for n, m in itertools.pairwise(sizes))
        self.matrix = _zero(d, d * self.drifts, like, bias=False) if affine else None
        self.scales = _zero(times, 2 * d * self.drifts, like) if affine else None
        self._initialize(check_int_range("seed", seed, 0, 1 << 64))

    def config(self) -> dict[str, Any]:
        """What ``DriftMLP(**values)`` needs to build this network again: plain values."""
        return {**self._given, "event_shape": list(self.event_shape)}

    def drift_unit(self, t: Tensor, direction: Direction) -> Tensor:
        """What the output is in units of the drift, of t's shape."""
        if not self.noisy:
            return torch.ones_like(t)
        way = t / self.T
        return (1.0 - way if direction == "forward" else way).clamp(min=_LEAST).sqrt()

    @torch.no_grad()
    def see(self, x: Tensor) -> None:
        """Widen the range to hold the finite entries of x (B, D...)."""
        y = x / self.scale
        least = torch.where(y.isfinite(), y, math.inf).amin(0)
        most = torch.where(y.isfinite(), y, -math.inf).amax(0)
        low, high = self.get_buffer("low"), self.get_buffer("high")
        # Infinite: nothing was seen, and the range is that of x alone.
        low.copy_(torch.where(low.isinf(), least, torch.minimum(low, least)))
        high.copy_(torch.where(high.isinf(), most, torch.maximum(high, most)))

    @torch.no_grad()
    def forget_range(self) -> None:
        """No limits, as before the first ``see``."""
        self.get_buffer("low").fill_(-math.inf)
        self.get_buffer("high").fill_(math.inf)

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        # Weights of a time before there were limits.
        for name, limit in (("low", -math.inf), ("high", math.inf)):
            state.setdefault(prefix + name, torch.full_like(self.get_buffer(name), limit))
        super()._load_from_state_dict(state, prefix, *args)

    @torch.no_grad()
    def _initialize(self, seed: int) -> None:
        for i, layer in enumerate(self.layers):
            assert isinstance(layer, nn.Linear)
            layer.bias.zero_()
            z = sdekit_kernels.normal(
                tuple(layer.weight.shape),
                seed=seed,
                stream=keys.INIT + i,
                dtype=layer.weight.dtype,
                device=layer.weight.device,
            )
            size = 0.0 if i + 1 == len(self.layers) else 1.0 / math.sqrt(layer.in_features)
            layer.weight.copy_(size * z)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        """(B, D...) for x (B, D...), or (B, 2, D...); t is 0-d or (B,)."""
        if tuple(x.shape[1:]) != self.event_shape:
            raise ValueError(
                f"this network is for events of shape {self.event_shape}, x has {tuple(x.shape)}"
            )
        # One time for all has one row of features: the sines of 10^4 equal rows cost a layer.
        way = (as_time(t, x) / self.T).to(x.dtype).reshape(-1, 1)
        phase = way * self.get_buffer("frequencies")
        y, f = x.flatten(1) / self.scale, torch.cat([way, phase.sin(), phase.cos()], 1)
        within = y
        if not self.training:
            low, high = self.get_buffer("low").flatten(), self.get_buffer("high").flatten()
            within = y.clamp(low, high)
        h = torch.cat([within, f.expand(len(x), -1)], 1)
        layers: list[Any] = list(self.layers)
        *hidden, last = layers
        for layer in hidden:
            h = nn.functional.silu(layer(h))
        out: Tensor = last(h)
        if self.matrix is not None and self.scales is not None:
            slopes, shifts = self.scales(f).chunk(2, 1)
            out = out + self.matrix(y) + shifts + slopes * torch.cat([y] * self.drifts, 1)
        return out.view(-1, *([2] if self.drifts == 2 else []), *self.event_shape)


def _linear(inputs: int, outputs: int, like: dict[str, Any], *, bias: bool = True) -> nn.Linear:
    """A linear layer whose weights are not drawn: torch's own draws are no part of the seed."""
    build: Any = skip_init
    layer: nn.Linear = build(nn.Linear, inputs, outputs, bias=bias, **like)
    return layer


def _zero(inputs: int, outputs: int, like: dict[str, Any], *, bias: bool = True) -> nn.Linear:
    """A linear layer that gives zero."""
    layer = _linear(inputs, outputs, like, bias=bias)
    with torch.no_grad():
        for weight in layer.parameters():
            weight.zero_()
    return layer
