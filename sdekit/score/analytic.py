r"""Exact scores: Gaussian and Gaussian-mixture data, diffused by an affine SDE.

x_0 ~ N(m, C) becomes x_t ~ N(offset + alpha (m - offset), alpha^2 C + sigma(t)^2), and a mixture
stays a mixture with the same weights. Densities are in nats, summed over the event.
"""

from __future__ import annotations

import math
from typing import Any, final

import sdekit_kernels
import torch
from torch import Tensor

from sdekit.noise import keys
from sdekit.sde import AffineSDE, as_time, expand
from sdekit.sde.parameters import Parameter, event_sum, log_normal_density, parameter


@final
class Gaussian:
    """The score of Gaussian data under ``sde``, (t, x) -> (B, D...), for t 0-d or (B,).

    mean: a number or the event's shape. Either std: a number or the event's shape (independent
    components), or cov: (D, D) for events of D components in all, with one eigendecomposition now
    and two products with its vectors a call; the SDE's parameters must then be the same for all
    components. Numbers alone leave the event's shape open.
    Raises TypeError or ValueError for what is not finite, std < 0, shapes that differ, or a cov
    that is not symmetric and positive semi-definite.
    """

    def __init__(
        self, mean: Any, std: Any = None, sde: AffineSDE | None = None, *, cov: Any = None
    ) -> None:
        self.sde = _affine(sde)
        self.mean = _tensor(parameter("mean", mean))
        if (std is None) == (cov is None):
            raise TypeError(
                "give either std or cov: Gaussian(mean, std, sde) or (mean, cov=, sde=)"
            )
        self.std: Tensor | None = None
        if cov is None:
            self.std = _tensor(parameter("std", std, minimum=0.0))
            # Shapes meet here, so that what does not fit is refused before the first call.
            self.event_shape = _common_event(mean=self.mean, std=self.std)
        else:
            self.event_shape = _common_event(mean=self.mean)
            if self.event_shape is None:
                self.event_shape = tuple(torch.as_tensor(cov).shape[:1])
            self._values, self._vectors = self._decompose(cov)

    def _decompose(self, cov: Any) -> tuple[Tensor, Tensor]:
        """Eigenvalues (D,) and eigenvectors (D, D) of the covariance, in float64."""
        if self.sde.event_shape is not None:
            raise ValueError(
                "cov needs an SDE with the same parameters for every component, this one has "
                f"parameters of event shape {self.sde.event_shape}: use std"
            )
        d = math.prod(self.event_shape or ())
        matrix = torch.as_tensor(cov, dtype=torch.float64)
        if matrix.shape != (d, d):
            raise ValueError(f"cov must have shape ({d}, {d}), got {tuple(matrix.shape)}")
        if not bool(torch.isfinite(matrix).all()):
            raise ValueError("cov must be finite")
        scale = float(matrix.abs().max())
        # 1e-6: a covariance that was computed in float32 passes.
        if not torch.allclose(matrix, matrix.mT, rtol=0.0, atol=1e-6 * scale):
            raise ValueError("cov must be symmetric: write (cov + cov.mT) / 2")
        values, vectors = torch.linalg.eigh(0.5 * (matrix + matrix.mT))
        if float(values.min()) < -1e-6 * scale:
            raise ValueError(
                f"cov must be positive semi-definite, its smallest eigenvalue is {values.min():.3g}"
            )
        return values.clamp(min=0.0), vectors

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        """Gradient of log p_t at x, of x's shape."""
        alpha, var, residual = self._residual(t, x)
        if self.std is not None:
            return -residual / (alpha.square() * self.std.to(x).square() + var)
        vectors, spread = self._spread(alpha, var, x)
        return -((residual.flatten(1) @ vectors / spread) @ vectors.mT).view_as(x)

    def divergence(self, t: Tensor, x: Tensor) -> Tensor:
        """The score's divergence, the Laplacian of log p_t, (B,): minus the trace of 1 / cov."""
        if self.std is None:
            alpha, var, _ = self._residual(t, x)
            _, spread = self._spread(alpha, var, x)
            return -spread.reciprocal().sum(1).expand(x.shape[0])
        _check_event(self.event_shape, x)
        alpha, var = _diffused(self.sde, t, x)
        spread = alpha.square() * self.std.to(x).square() + var
        return -event_sum(spread.reciprocal().expand_as(x))

    def log_prob(self, t: Tensor, x: Tensor) -> Tensor:
        """Value of log p_t(x) in nats, (B,); t = 0 gives the density of the data."""
        alpha, var, residual = self._residual(t, x)
        if self.std is not None:
            std = (alpha.square() * self.std.to(x).square() + var).sqrt()
            return event_sum(log_normal_density(residual, std))
        vectors, spread = self._spread(alpha, var, x)
        return log_normal_density(residual.flatten(1) @ vectors, spread.sqrt()).sum(1)

    def sample(
        self,
        n: int,
        *,
        seed: int,
        first_sample: int = 0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        event_shape: tuple[int, ...] | None = None,
    ) -> Tensor:
        """Return n draws of the data, (n, D...), by the library's noise in the stream DATA.

        Raises ValueError if the event's shape is not known: numbers leave it open.
        """
        event = event_shape if event_shape is not None else self.event_shape
        if event is None:
            raise ValueError("mean and std are numbers: write sample(n, seed=..., event_shape=...)")
        z = sdekit_kernels.normal(
            (n, *event),
            seed=seed,
            stream=keys.DATA,
            first_sample=first_sample,
            dtype=dtype,
            device=device,
        )
        mean = self.mean.to(z)
        if self.std is not None:
            return mean + self.std.to(z) * z
        root = (self._vectors * self._values.sqrt()).to(z)
        return mean + (z.flatten(1) @ root.mT).view_as(z)

    def _residual(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """alpha, sigma^2 and x - E[x_t], to multiply x."""
        alpha, var = _diffused(self.sde, t, x)
        _check_event(self.event_shape, x)
        centre = self.sde.centered(self.mean.to(x).expand(1, *x.shape[1:]))
        return alpha, var, self.sde.centered(x) - alpha * centre

    def _spread(self, alpha: Tensor, var: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Eigenvectors, and the eigenvalues alpha^2 C + sigma^2 in each sample's row."""
        alpha, var = alpha.view(-1, 1), var.view(-1, 1)
        return self._vectors.to(x), alpha.square() * self._values.to(x) + var


@final
class GaussianMixture:
    """The score of Gaussian-mixture data under ``sde``, (t, x) -> (B, D...), for t 0-d or (B,).

    means: (K, D...). stds: a number, (K,), or (K, D...). weights: (K,), normalized here; equal if
    None. Responsibilities go through logsumexp, so any number of components D is safe. A call holds
    K tensors of x's size. A std of 0 (data that are points) is allowed; there is then no density at
    t = 0.
    Raises TypeError or ValueError for what is not finite, std < 0, weights < 0 or all zero, or
    shapes that differ.
    """

    def __init__(
        self,
        means: Any,
        stds: Any,
        weights: Any = None,
        sde: AffineSDE | None = None,
    ) -> None:
        self.sde = _affine(sde)
        given = _tensor(parameter("means", means))
        if given.ndim < 3:
            raise ValueError(f"means must have shape (K, D...), got {tuple(given.shape[1:])}")
        self.means = given[0]
        k, *event = self.means.shape
        self.event_shape = tuple(event)
        spread = _tensor(parameter("stds", stds, minimum=0.0))
        spread = spread[0] if spread.ndim > 0 else spread.expand(k)
        if spread.shape == (k,):
            spread = spread.view(k, *([1] * len(event)))
        if spread.shape[0] != k or spread.ndim != self.means.ndim:
            raise ValueError(
                f"stds must be a number, ({k},) or {tuple(self.means.shape)}, "
                f"got shape {tuple(spread.shape)}"
            )
        # One number a component stays one: a sample's variances are (K, 1) then, not (K, D).
        self._spread = spread
        self.stds = spread.expand_as(self.means)
        mass = _tensor(parameter("weights", [1.0] * k if weights is None else weights, minimum=0.0))
        if mass.shape != (1, k):
            raise ValueError(f"weights must have shape ({k},), got {tuple(mass.shape[1:])}")
        if not float(mass.sum()) > 0.0:
            raise ValueError("weights must not be all zero")
        self.weights = mass[0] / mass.sum()

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        """Gradient of log p_t at x, of x's shape."""
        residual, std = self._components(t, x)
        share = (
            self._joint(residual, std, x).softmax(0).view(len(self.means), -1, *[1] * (x.ndim - 1))
        )
        return -(share * residual / std.square()).sum(0)

    def divergence(self, t: Tensor, x: Tensor) -> Tensor:
        r"""The score's divergence, the Laplacian of log p_t, (B,), in O(K D) a sample.

        With the scores s_k and variances v_k of the components, their shares r_k and the score
        s = \sum_k r_k s_k,

            div s = \sum_k r_k (|s_k - s|^2 - \sum_d 1 / v_kd),

        because the gradient of r_k is r_k (s_k - s). Nothing is lost to cancellation in the spread.
        """
        return self.with_divergence(t, x)[1]

    def with_divergence(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """The score and its divergence, for little more than one of them."""
        residual, std = self._components(t, x)
        share = self._joint(residual, std, x).softmax(0)
        scores = -residual / std.square()
        score = (share.view(len(self.means), -1, *[1] * (x.ndim - 1)) * scores).sum(0)
        inner = (scores - score).square() - std.square().reciprocal()
        return score, (share * inner.flatten(2).sum(2)).sum(0)

    def log_prob(self, t: Tensor, x: Tensor) -> Tensor:
        """Value of log p_t(x) in nats, (B,); t = 0 gives the density of the data."""
        return self._joint(*self._components(t, x), x).logsumexp(0)

    def sample(
        self,
        n: int,
        *,
        seed: int,
        first_sample: int = 0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Tensor:
        """Return n draws of the data, (n, D...), by the library's noise in the stream DATA.

        The first of D + 1 normals a sample picks the component, through the normal distribution
        function.
        """
        z = sdekit_kernels.normal(
            (n, 1 + math.prod(self.event_shape)),
            seed=seed,
            stream=keys.DATA,
            first_sample=first_sample,
            dtype=dtype,
            device=device,
        )
        edges = self.weights.cumsum(0)[:-1].to(device=z.device, dtype=torch.float64)
        pick = torch.searchsorted(edges, torch.special.ndtr(z[:, 0].double()))
        noise = z[:, 1:].reshape(n, *self.event_shape)
        return self.means.to(z)[pick] + self.stds.to(z)[pick] * noise

    def _components(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """``x`` - E[x_t] and std of x_t for each component of the mixture, (K, B or 1, D...)."""
        _check_event(self.event_shape, x)
        alpha, var = _diffused(self.sde, t, x)
        centres = alpha * self.sde.centered(self.means.to(x)).unsqueeze(1)
        std = (alpha * self._spread.to(x).unsqueeze(1)).square() + var
        return self.sde.centered(x) - centres, std.sqrt()

    def _joint(self, residual: Tensor, std: Tensor, x: Tensor) -> Tensor:
        """``log(weight_k N_k(x))``, (K, B)."""
        log_density = log_normal_density(residual, std).flatten(2).sum(2)
        return self.weights.to(x).log().unsqueeze(1) + log_density


def _affine(sde: Any) -> AffineSDE:
    if not isinstance(sde, AffineSDE):
        raise TypeError(f"sde must be an AffineSDE, whose marginals are known, got {sde!r}")
    return sde


def _tensor(value: Parameter) -> Tensor:
    return value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)


def _common_event(**given: Tensor) -> tuple[int, ...] | None:
    """The event shape of tensors (1, D...) together; 0-d ones fit any."""
    shapes = [p.shape[1:] for p in given.values() if p.ndim > 0]
    if any(shape != shapes[0] for shape in shapes):
        listed = ", ".join(f"{name} {tuple(p.shape[1:])}" for name, p in given.items())
        raise ValueError(f"parameters must have one event shape, got {listed}")
    return tuple(shapes[0]) if shapes else None


def _check_event(event_shape: tuple[int, ...] | None, x: Tensor) -> None:
    if event_shape is not None and tuple(x.shape[1:]) != event_shape:
        raise ValueError(
            f"the data have events of shape {event_shape}, but x has shape {tuple(x.shape)}: "
            f"it must be (B, {', '.join(map(str, event_shape))})"
        )


def _diffused(sde: AffineSDE, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """alpha(t) and sigma(t)^2, to multiply x."""
    t = as_time(t, x)
    alpha = expand(sde.mean_coefficient(t), x)
    return alpha, expand(sde.transition_variance(torch.zeros_like(t), t), x)
