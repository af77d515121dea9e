"""One term of the bound for given noise: what level k costs sample x_0, and how far x0_hat is."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sdekit.likelihood.variational import decoder as decoders
from sdekit.likelihood.variational.bins import Bins
from sdekit.likelihood.variational.coefficients import Coefficients
from sdekit.sde import check_output

__all__ = ["DECODERS", "Terms", "decoder_control", "last_term", "split_output"]

DECODERS = ("discretized", "discretized_tanh", "gaussian")


@dataclass(frozen=True, slots=True)
class Terms:
    """(value, squared error) of rows (sample, level, noise); see ``coefficients.py``.

    bins: of all samples, None for decoder="gaussian". clip: the range that x0_hat is held in.
    """

    table: Coefficients
    decoder: str
    variance: str
    bins: Bins | None
    clip: tuple[float, float] | None

    def __call__(
        self, sample: Tensor, k: Tensor, x0: Tensor, z: Tensor, output: Any
    ) -> tuple[Tensor, Tensor]:
        """L_{k-1} in nats, less its control, and |x_0 - x0_hat|^2 / D, (R,) float64.

        sample: (R,) int64 on the host, the row's sample; k: (R,) on the host, its level in 1..N;
        x0, z: (R, D...), data and noise; output: of the network at a_k x_0 + s_k z.
        """
        eps, u = split_output(self.variance, output, z)
        error = (eps.double() - z).mul_(self._column(self.table.scale, k, x0))
        if self.clip is not None:
            point = x0.double()
            error = point - (point - error).clamp_(*self.clip)
        square, dim = _square_sum(error), x0.shape[1:].numel()
        if u is None:
            excess = self._column(self.table.excess, k, square)
            weight = self._column(self.table.weight, k, square)
            value = 0.5 * (dim * excess + weight * square)
            log_variance = self._column(self.table.log_variance, k, x0)
        else:
            log_variance = self._learned(k, u.double())
            value = 0.5 * self._learned_divergence(k, error, log_variance)
        first = (k == 1).nonzero()[:, 0]
        if len(first):
            here = first.to(x0.device)
            std = (0.5 * log_variance[here]).exp()
            value[here] = self._decode(sample[first], error[here], std).flatten(1).sum(1)
        spare = _square_sum(z.double()) - dim
        return value - self._column(self.table.control, k, spare) * spare, square / dim

    def _learned_divergence(self, k: Tensor, error: Tensor, log_variance: Tensor) -> Tensor:
        """Twice the KL divergence for a variance of each component."""
        gap = self._column(self.table.log_posterior, k, error) - log_variance
        shift = self._column(self.table.shift, k, error)
        # exp(gap) - 1 - gap loses half the digits where gap is 1e-8; it is of order 1e-16 then.
        each = torch.expm1(gap) - gap + (shift * error).square() / log_variance.exp()
        return each.flatten(1).sum(1)

    def _decode(self, sample: Tensor, residual: Tensor, std: Tensor) -> Tensor:
        """-log p(x_0 | x_1) of each component."""
        if self.bins is None:
            return decoders.gaussian(residual, std)
        rule = decoders.discretized if self.decoder == "discretized" else decoders.discretized_tanh
        return rule(residual, std, self.bins.rows(sample.to(residual.device)))

    def _learned(self, k: Tensor, u: Tensor) -> Tensor:
        """log v_k = u log beta_k + (1 - u) log v~_k of each component."""
        high, low = (self._column(t, k, u) for t in (self.table.log_beta, self.table.log_posterior))
        return u * high + (1.0 - u) * low

    @staticmethod
    def _column(table: Tensor, k: Tensor, x: Tensor) -> Tensor:
        """A level's number for each row, in float64, to multiply rows like x."""
        return table[k - 1].to(x.device).view(-1, *([1] * (x.ndim - 1)))


def decoder_control(table: Coefficients, decoder: str, bins: Bins) -> Coefficients:
    """``table`` with the control of L_0 for a discretized decoder, whose bins may be wide."""
    std = math.exp(0.5 * float(table.log_variance[0]))
    control = table.control.clone()
    control[0] = decoders.noise_share(float(table.residual[0]), std, bins.half, decoder)
    return replace(table, control=control)


def _square_sum(x: Tensor) -> Tensor:
    """The sum of squares of each row, without a tensor of the squares."""
    flat = x.flatten(1)
    return torch.linalg.vecdot(flat, flat)


def last_term(table: Coefficients, x0: Tensor) -> Tensor:
    """L_T = KL(q(x_N | x_0) | N(0, 1)) = 1/2 (a^2 |x_0|^2 + D (s^2 - 1 - log s^2)), (B,) nats."""
    kept = table.mean[-1].square().item()
    excess = -kept - torch.log1p(torch.tensor(-kept, dtype=torch.float64)).item()
    return 0.5 * (kept * x0.double().square() + excess).flatten(1).sum(1)


def split_output(variance: str, output: Any, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """(eps, u) of what the network returned: u for "learned", else None.

    Raises TypeError or ValueError, with what to return, if it is neither a tensor of x's shape nor,
    for the learned variance, two of them.
    """
    if variance != "learned":
        if isinstance(output, tuple):
            raise TypeError(
                f'eps_model returned {len(output)} values, but variance="{variance}" is fixed: '
                'write variance="learned" for a network that returns (eps, u)'
            )
        return check_output("eps_model", output, x), None
    if not isinstance(output, tuple) or len(output) != 2:
        raise TypeError(
            'variance="learned" needs an eps_model that returns (eps, u), u in [0, 1] of '
            f"x's shape, got {type(output).__name__}: for channels in [-1, 1] write "
            "eps, w = net(t, x).chunk(2, 1) and u = (w + 1) / 2"
        )
    eps, u = output
    return check_output("eps of eps_model", eps, x), check_output("u of eps_model", u, x)
