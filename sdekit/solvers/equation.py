"""An equation as a solver sees it: every value checked against what the equation declares."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from sdekit_kernels.checks import check_choice
from torch import Tensor

from sdekit.sde.derivatives import along, value_and_slope

__all__ = ["Equation"]

NOISE_TYPES = ("additive", "diagonal", "scalar", "general")
INTERPRETATIONS = ("ito", "stratonovich")
_FEW = 4
DIRECTIONS = ("forward", "backward", "either")


class Equation:
    """Any object with ``drift(t, x)`` and ``diffusion(t, x)``, checked.

    ``noise_type`` defaults to "diagonal", ``interpretation`` to "ito", ``time_direction`` to
    "forward"; see ``sdekit.sde.SDE`` for what they mean.

    Raises:
        TypeError: an object without the two methods, or a method that returns no tensor.
        ValueError: an unknown noise type, interpretation or direction; a drift that is not of x's
            shape; a diffusion whose shape, or whose dependence on x, contradicts the noise type.
    """

    def __init__(self, sde: Any) -> None:
        if isinstance(sde, type):
            raise TypeError(
                f"sde must be an equation, got the class {sde.__name__}: write an instance"
            )
        for name in ("drift", "diffusion"):
            if not callable(getattr(sde, name, None)):
                raise TypeError(
                    f"sde must have the methods drift(t, x) and diffusion(t, x), "
                    f"{type(sde).__name__} has no {name}"
                )
        self.sde = sde
        self.name = str(getattr(sde, "name", type(sde).__name__))
        self.noise_type = check_choice(
            "noise_type", getattr(sde, "noise_type", "diagonal"), NOISE_TYPES
        )
        self.interpretation = check_choice(
            "interpretation", getattr(sde, "interpretation", "ito"), INTERPRETATIONS
        )
        self.deterministic = bool(getattr(sde, "deterministic", False))
        self.time_direction = check_choice(
            "time_direction",
            "either" if self.deterministic else getattr(sde, "time_direction", "forward"),
            DIRECTIONS,
        )

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """f(t, x), of x's shape."""
        f = self._call("drift", t, x)
        self._check_tensor("drift", f, x)
        if f.shape != x.shape:
            raise ValueError(
                f"{self.name}.drift returned shape {tuple(f.shape)} for x of shape "
                f"{tuple(x.shape)}: return one value for each component, of x's own shape"
            )
        return f

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        """G(t, x), broadcastable to x.shape with all its axes (or (B, D..., M) for general noise).

        Fewer axes than x's stand for the last ones, as everywhere in torch: (D,) is one entry a
        component, whatever the size of the batch.
        """
        g = self._call("diffusion", t, x)
        if not isinstance(g, Tensor):
            g = torch.as_tensor(g, dtype=x.dtype, device=x.device)
        self._check_tensor("diffusion", g, x)
        if self.noise_type == "general":
            if g.ndim != x.ndim + 1 or g.shape[:-1] != x.shape:
                raise ValueError(
                    f"{self.name} declares general noise, but its diffusion has shape "
                    f"{tuple(g.shape)}: return {(*x.shape, 'M')} for M Brownian motions"
                )
            return g
        if g.ndim == 0 or g.shape == x.shape:
            return g
        if g.ndim == x.ndim + 1 and g.shape[: x.ndim] == x.shape:
            raise ValueError(
                f"{self.name} declares {self.noise_type} noise, but its diffusion has the matrix "
                f"shape {tuple(g.shape)}: set noise_type = 'general'"
            )
        full = (*(1,) * (x.ndim - g.ndim), *g.shape)
        if len(full) == x.ndim and all(n in (1, m) for n, m in zip(full, x.shape, strict=True)):
            return g.reshape(full)
        hint = "return something that broadcasts to x's shape"
        if g.shape == x.shape[:1]:
            hint = f"for one entry a sample return shape {(x.shape[0], *(1,) * (x.ndim - 1))}"
        raise ValueError(
            f"{self.name} declares {self.noise_type} noise, but its diffusion has shape "
            f"{tuple(g.shape)} for x of shape {tuple(x.shape)}: {hint}"
        )

    def _call(self, what: str, t: Tensor, x: Tensor) -> Any:
        try:
            return getattr(self.sde, what)(t, x)
        except RuntimeError as error:
            said = str(error)
            if "must match the size of tensor" in said:
                raise ValueError(
                    f"{self.name}.{what} cannot combine its parameters with x of shape "
                    f"{tuple(x.shape)}: {said}. A parameter with one entry a sample must have as "
                    "many as x0 has rows"
                ) from error
            # What torch says of a GPU's and a CPU's tensors, and of those without memory.
            if "to be on the same device" in said or "not on the expected device" in said:
                raise ValueError(
                    f"{self.name}.{what} cannot combine its parameters with x on {x.device}: "
                    f"{said}. Move the equation's parameters to {x.device}"
                ) from error
            raise

    def check_additive(self, t: Tensor, x: Tensor) -> None:
        """Refuse "additive" noise that changes when x does (looked at in two states)."""
        if self.noise_type != "additive" or x.shape[0] == 0:
            return
        with torch.no_grad():
            here, there = self.diffusion(t, x), self.diffusion(t, x + 1.0)
        if not torch.equal(here, there):
            raise ValueError(
                f"{self.name} declares additive noise, but its diffusion depends on x: "
                "set noise_type = 'diagonal'"
            )

    def drift_and_slope(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """(f_i, df_i / dx_i) of a drift that mixes no components; TypeError without a gradient."""
        return value_and_slope(partial(self.drift, t), x, f"{self.name}.drift")

    def diffusion_and_slope(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """(g_i, dg_i / dx_i) of diagonal noise that mixes no components; likewise."""
        return value_and_slope(partial(self.diffusion, t), x, f"{self.name}.diffusion")

    def diffusion_along(self, t: Tensor, x: Tensor, v: Tensor) -> Tensor:
        """(dG / dx) v, the derivative in direction v; TypeError where there is none forwards."""
        return along(partial(self.diffusion, t), x, v, f"{self.name}.diffusion")

    def mixes(self, what: str, t: Tensor, x: Tensor) -> bool:
        """Whether component i of a coefficient ("drift", "diffusion") depends on more than x_i.

        Two components differ in some binary digit of their number, so for each digit those with a
        1 are moved, and those with a 0 must stay, and the reverse. Looked at on the first samples
        where the equation takes them alone, on all where it has one parameter a sample.
        """
        count = x[:1].numel()
        if count < 2:
            return False
        x = x.detach()
        coefficient = self.drift if what == "drift" else self.diffusion
        number = torch.arange(count, device=x.device).view(1, *x.shape[1:])
        with torch.no_grad():
            if t.ndim == 0 and x.shape[0] > _FEW and self._takes(coefficient, t, x[:_FEW]):
                x = x[:_FEW]
            here = coefficient(t, x).expand_as(x)
            for digit in range((count - 1).bit_length()):
                for moved in (number >> digit & 1 == 1, number >> digit & 1 == 0):
                    there = coefficient(t, torch.where(moved, 1.25 * x + 0.125, x))
                    if not torch.equal(torch.where(moved, here, there.expand_as(x)), here):
                        return True
        return False

    def _takes(self, coefficient: Callable[[Tensor, Tensor], Tensor], t: Tensor, x: Tensor) -> bool:
        """Whether a coefficient can be had of these samples without their batch."""
        try:
            coefficient(t, x)
        except (RuntimeError, ValueError):
            return False
        return True

    def channels(self, t: Tensor, x: Tensor) -> tuple[int, ...]:
        """Shape of one Brownian increment for the batch x."""
        if self.noise_type == "scalar":
            return (x.shape[0],)
        if self.noise_type == "general":
            with torch.no_grad():
                return (x.shape[0], self.diffusion(t, x).shape[-1])
        return tuple(x.shape)

    def apply_noise(self, g: Tensor, dw: Tensor, x: Tensor) -> Tensor:
        """G dW, of x's shape."""
        if self.deterministic:
            return torch.zeros_like(x)
        if self.noise_type == "general":
            if g.dtype != dw.dtype:
                g, dw = g.to(x.dtype), dw.to(x.dtype)
            # A batched product: 15 times as fast as the sum of an outer one.
            return torch.bmm(g.reshape(g.shape[0], -1, g.shape[-1]), dw[:, :, None]).view_as(x)
        if self.noise_type == "scalar":
            return g * dw.view(-1, *(1,) * (x.ndim - 1))
        return g * dw

    def _check_tensor(self, what: str, value: Any, x: Tensor) -> None:
        if not isinstance(value, Tensor):
            raise TypeError(f"{self.name}.{what} must return a tensor, got {type(value).__name__}")
        if not value.is_floating_point():
            raise TypeError(
                f"{self.name}.{what} must return floating-point numbers, got {value.dtype}"
            )
        if value.device != x.device and value.ndim > 0:
            raise ValueError(
                f"{self.name}.{what} returned a tensor on {value.device}, but x is on {x.device}: "
                "move the equation's parameters there"
            )
