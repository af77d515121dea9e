r"""The Ito and the Stratonovich form of one process.

x_t with dx = f dt + G o dW (Stratonovich) is the same process as dx = (f + c) dt + G dW (Ito) with

    c_i = 1/2 \sum_{jk} G_{kj} d G_{ij} / d x_k

(Stratonovich 1966; Kloeden & Platen 1992, section 4.9). Only the drift differs: laws, paths and
the diffusion are those of the given equation. By noise type, with D_v the derivative along v:

- additive, or no noise: c = 0;
- scalar, G = g a column: c = D_g g / 2;
- diagonal: c_i = g_i (d g_i / d x_i) / 2, D_g g / 2 where g_i depends on x_i alone;
- general: c = \sum_j D_{G_j} G_j / 2 over the columns G_j.

An equation that runs backwards, dt < 0, has f dt + c |dt| = (f - c) dt: the sign of c turns.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, final

import torch
from sdekit_kernels.checks import check_choice
from torch import Tensor

from sdekit.sde.base import SDE, Interpretation, check_output
from sdekit.sde.derivatives import Function, along, jacobian_diagonal, value_and_slope

__all__ = ["Converted", "drift_correction", "to_ito", "to_stratonovich"]


def to_ito(sde: Any, *, elementwise: bool | None = None) -> Any:
    """The Ito form of an equation; the equation itself if it is one.

    Args:
        sde: any object with ``drift`` and ``diffusion``. Its diffusion must be written in torch,
            which differentiates it.
        elementwise: of diagonal noise, whether component i of the diffusion depends on t and x_i
            alone. True takes one derivative, False one for each component, which is right for every
            diffusion; None asks the equation's attribute ``elementwise``, False if there is none.

    Raises:
        TypeError: no equation; and, when the drift is called, a diffusion without a derivative.
        ValueError: an unknown noise type or interpretation; ``elementwise`` where the noise is
            scalar or general.
    """
    return _converted(sde, "ito", elementwise)


def to_stratonovich(sde: Any, *, elementwise: bool | None = None) -> Any:
    """The Stratonovich form of an equation; arguments and errors as for ``to_ito``."""
    return _converted(sde, "stratonovich", elementwise)


@final
class Converted(SDE):
    """An equation in its other interpretation: made by ``to_ito`` and ``to_stratonovich``.

    ``sde`` is the given equation, where its parameters and the laws of the process are found;
    ``name`` is that equation's. Where the noise depends on the state the form is one of one
    direction of time: of an equation that may be solved in either one, it is that for increasing
    times.
    """

    def __init__(self, sde: Any, interpretation: Interpretation, elementwise: bool) -> None:
        self.sde = sde
        self.interpretation = interpretation
        self.elementwise = elementwise
        self.noise_type = _noise_type(sde)
        self.deterministic = bool(getattr(sde, "deterministic", False))
        self.time_direction = getattr(sde, "time_direction", "forward")
        if self.time_direction == "either" and not self._same:
            self.time_direction = "forward"
        self.nonnegative = getattr(sde, "nonnegative", ())
        self.name = _name(sde)

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """f + c for the Ito form, f - c for the Stratonovich form (reversed backwards in time)."""
        drift: Tensor = self.sde.drift(t, x)
        if self._same:
            return drift
        drift = check_output(f"{self.name}.drift", drift, x)
        c = drift_correction(self.sde, t, x, elementwise=self.elementwise)
        plus = (self.interpretation == "ito") == (self.time_direction == "forward")
        return drift + c if plus else drift - c

    @property
    def _same(self) -> bool:
        """Whether both forms have one drift."""
        return self.deterministic or self.noise_type == "additive"

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        """That of the given equation."""
        g: Tensor = self.sde.diffusion(t, x)
        return g

    @property
    def linear_part(self) -> Callable[[], tuple[Tensor, Tensor]]:
        """That of the given equation, where it tells one: its rate and c's, mu^2 / 2, together."""
        given = getattr(self.sde, "linear_part", None)
        if given is None:
            raise AttributeError(f"{self.name} has no linear_part")

        def linear_part() -> tuple[Tensor, Tensor]:
            rate, mu = given()
            c = 0.5 * mu.square() * (1.0 if self.interpretation == "ito" else -1.0)
            return rate if self._same else rate + c, mu

        return linear_part

    def __repr__(self) -> str:
        return f"Converted({self.name}, {self.interpretation!r})"


def drift_correction(sde: Any, t: Tensor, x: Tensor, *, elementwise: bool = False) -> Tensor:
    """c of the module's equation, Ito drift minus Stratonovich drift, of x's shape.

    Arguments and errors as for ``to_ito``; for a diffusion that does not depend on x it is zero.
    """
    noise_type, what = _noise_type(sde), f"{_name(sde)}.diffusion"

    def noise(x: Tensor) -> Tensor:
        return _diffusion(sde, noise_type, t, x)

    if noise_type == "diagonal" and elementwise:
        g, slope = value_and_slope(noise, x, what)
        return 0.5 * g * slope
    g = noise(x)
    if noise_type == "general":
        c = torch.zeros_like(x)
        for j in range(g.shape[-1]):
            column = partial(_column, noise, j)
            c = c + along(column, x, g[..., j], what)
        return 0.5 * c
    if noise_type == "diagonal":
        return 0.5 * (g * jacobian_diagonal(noise, x, what))
    if noise_type == "additive":
        return torch.zeros_like(x)
    return 0.5 * along(noise, x, g, what)


def _column(noise: Function, j: int, x: Tensor) -> Tensor:
    return noise(x)[..., j]


def _diffusion(sde: Any, noise_type: str, t: Tensor, x: Tensor) -> Tensor:
    """The diffusion in x's type, of x's shape, or (B, D..., M) for general noise."""
    g = sde.diffusion(t, x)
    g = g if isinstance(g, Tensor) else torch.as_tensor(g, device=x.device)
    g = g.to(x.dtype)
    fits = g.ndim == x.ndim + 1 and g.shape[:-1] == x.shape
    if noise_type != "general":
        full = (*(1,) * (x.ndim - g.ndim), *g.shape)
        fits = len(full) == x.ndim
        fits = fits and all(n in (1, m) for n, m in zip(full, x.shape, strict=True))
    if not fits:
        need = (*x.shape, "M") if noise_type == "general" else f"what broadcasts to {(*x.shape,)}"
        raise ValueError(
            f"{_name(sde)} declares {noise_type} noise, but its diffusion has shape "
            f"{tuple(g.shape)}: return {need}"
        )
    return g if noise_type == "general" else g.expand(x.shape)


def _converted(sde: Any, target: Interpretation, elementwise: bool | None) -> Any:
    if isinstance(sde, type):
        raise TypeError(f"sde must be an equation, got the class {sde.__name__}: write an instance")
    for name in ("drift", "diffusion"):
        if not callable(getattr(sde, name, None)):
            raise TypeError(
                "sde must have the methods drift(t, x) and diffusion(t, x), "
                f"{type(sde).__name__} has no {name}"
            )
    noise_type = check_choice(
        "noise_type", _noise_type(sde), ("additive", "diagonal", "scalar", "general")
    )
    if elementwise is not None and not isinstance(elementwise, bool):
        raise TypeError(f"elementwise must be True, False or None, got {elementwise!r}")
    if elementwise and noise_type in ("scalar", "general"):
        raise ValueError(
            f"elementwise=True is for diagonal noise, {_name(sde)} has {noise_type} noise: "
            "leave it away"
        )
    given = check_choice("interpretation", _interpretation(sde), ("ito", "stratonovich"))
    if given == target:
        return sde
    if isinstance(sde, Converted):
        return sde.sde  # the way back is the equation that was given, without a rounding
    if elementwise is None:
        elementwise = bool(getattr(sde, "elementwise", False))
    return Converted(sde, target, elementwise)


def _noise_type(sde: Any) -> Any:
    return getattr(sde, "noise_type", "diagonal")


def _interpretation(sde: Any) -> Any:
    return getattr(sde, "interpretation", "ito")


def _name(sde: Any) -> str:
    return str(getattr(sde, "name", type(sde).__name__))
