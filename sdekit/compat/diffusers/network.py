r"""A network of diffusers as a score (t, x): its own time, its parameterization, its scale."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor, nn

from sdekit.compat.diffusers.config import Kind, read_scheduler
from sdekit.score import clip_data, from_edm, from_eps, from_v, from_x0
from sdekit.sde import AffineSDE, as_time, check_output, expand

__all__ = ["DiffusersScore", "from_diffusers"]

_ADAPTERS = {"eps": from_eps, "x0": from_x0, "v": from_v}
_TIME = 0.02
"""How near to a whole number a level is taken as that number: t = k / N is rounded in float32."""


def from_diffusers(
    network: nn.Module, scheduler: Any, *, labels: Any = None, clip: Any = None
) -> tuple[AffineSDE, DiffusersScore]:
    """(sde, score) of a network (UNet2DModel, DiTTransformer2DModel ...) and its scheduler.

    Args:
        network: called as network(x, time) or, with labels, network(x, time, class_labels=...); its
            output, or the output's ``sample``, has x's shape. An output of twice the channels is
            that of a learned variance: the score leaves its second half away,
            ``eps_and_variance`` gives it.
        scheduler: the one it was trained with, its configuration, or the path of that.
        labels: one class for all samples, or (B,) int64, one a sample.
        clip: hold the estimate of x_0 in [-clip, clip], as the samplers of diffusers do where
            ``clip_sample`` is set; None does not, True takes the scheduler's range.

    Raises TypeError or ValueError for a network or a scheduler of another kind; see
    ``read_scheduler``.
    """
    score = DiffusersScore(network, read_scheduler(scheduler), labels=labels, clip=clip)
    return score.sde, score


@final
class DiffusersScore(nn.Module):
    """The score (t, x) -> x's shape of ``network``, t in the units of ``sde``.

    network, sde, kind: what it was made from; ``kind.chain`` is the chain of levels, whose
    ``times`` are the grid on which the network was trained.
    The score raises ValueError if the network's output does not have x's shape.
    """

    def __init__(self, network: nn.Module, kind: Kind, *, labels: Any, clip: Any) -> None:
        super().__init__()
        if not isinstance(network, nn.Module):
            raise TypeError(f"network must be a torch module, got {type(network).__name__}")
        self.network, self.kind, self.sde = network, kind, kind.sde
        self.labels = _check_labels(network, labels)
        self._limit: float | None = None
        if clip is not None and clip is not False:
            limit = kind.clip if clip is True else float(clip)
            if limit is None:
                raise ValueError("clip=True, but the scheduler has no clip_sample: write a number")
            self._limit = limit
        self._score = self._adapted(self._model())

    @property
    def event_shape(self) -> tuple[int, ...] | None:
        """(C, H, W) if the network's configuration says so, else None."""
        config = getattr(self.network, "config", {})
        size, channels = config.get("sample_size"), config.get("in_channels")
        if size is None or channels is None:
            return None
        sides = (size, size) if isinstance(size, int) else tuple(size)
        return (channels, *sides)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        """The score at (t, x), of x's shape."""
        out: Tensor = self._score(t, x)
        return out

    def eps_and_variance(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """(eps, v) of x's shape, of a network with a learned variance: ``ddpm_learned``'s model.

        v in [0, 1] is the place of the logarithm of each component's variance between that of
        "fixed_small" and that of "fixed_large" (Nichol & Dhariwal 2021, eq. 15); the network gives
        2 v - 1 in the second half of its channels. eps is that of the score, clipped where it is.
        Raises ValueError for a network of x's shape, one whose scheduler does not have
        ``variance_type="learned_range"`` (or none, as DDIM's), or one of no chain.
        """
        kind, name = self.kind, type(self.network).__name__
        if kind.family != "chain" or kind.variance not in (None, "learned_range"):
            said = f"variance_type={kind.variance!r}" if kind.family == "chain" else "no chain"
            raise ValueError(
                f"the variance of {name} is not that of a chain with variance_type='learned_range':"
                f" its scheduler has {said}"
            )
        out, w = self._call(self._level(t), x)
        if w is None:
            raise ValueError(
                f"{name} has no learned variance: it returns {x.shape[1]} channels, not "
                f"{2 * x.shape[1]}"
            )
        score = self._adapted(lambda t, x: out)(t, x)
        return -expand(self.sde.std(as_time(t, x)), x) * score, 0.5 * (w + 1.0)

    def _model(self) -> Any:
        """What the network predicts, as (t, x) or, for "edm", (x, sigma)."""
        models = {"edm": self._denoiser, "score_ve": self._direct, "chain": self._at_level}
        return models[self.kind.family]

    def _adapted(self, model: Any) -> Any:
        """The score of ``model``, its estimate of x_0 held in the limit."""
        kind, score = self.kind, model
        if kind.family == "edm":
            score = from_edm(model, kind.sde)
        elif kind.family == "chain":
            score = _ADAPTERS[kind.predicts](model, kind.sde)
        if self._limit is None:
            return score
        return clip_data(score, kind.sde, -self._limit, self._limit)

    def _at_level(self, t: Tensor, x: Tensor) -> Tensor:
        """The network at the time t."""
        return self._call(self._level(t), x)[0]

    def _level(self, t: Tensor) -> Tensor:
        """The level k = N t, which diffusers counts from 0."""
        assert self.kind.chain is not None
        place = t.to(torch.float32) * self.kind.chain.steps - 1.0
        whole = place.round()
        return torch.where((place - whole).abs() < _TIME, whole, place)

    def _direct(self, t: Tensor, x: Tensor) -> Tensor:
        """The network that is a score at the level sigma(t)."""
        sde: Any = self.sde
        return self._call(sde.schedule.sigma(as_time(t, x)).to(x.dtype), x)[0]

    def _denoiser(self, x: Tensor, level: Tensor) -> Tensor:
        """D(x; sigma) = c_skip x + c_out F(c_in x, log(sigma) / 4) (Karras et al. 2022, tab. 1)."""
        data = self.kind.sigma_data
        sigma = expand(level, x)
        norm = (sigma.square() + data**2).sqrt()
        sign = -1.0 if self.kind.predicts == "v" else 1.0
        raw = self._call(0.25 * level.log(), x / norm)[0]
        return x * (data / norm) ** 2 + sign * sigma * data / norm * raw

    def _call(self, time: Tensor, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """The network's output, of x's shape, and the second half of its channels, if any."""
        time = time.expand(len(x)) if time.ndim == 0 else time
        extra = {}
        if self.labels is not None:
            labels = self.labels.to(x.device)
            if labels.ndim == 1 and len(labels) != len(x):
                raise ValueError(
                    f"there are {len(labels)} labels for {len(x)} samples: give one for all, or "
                    "one a sample to a sampler that keeps the batch together"
                )
            extra = {"class_labels": labels.expand(len(x))}
        out: Any = self.network(x, time, **extra)
        out = getattr(out, "sample", out)
        out = out[0] if isinstance(out, tuple) else out
        second = None
        if isinstance(out, Tensor) and x.ndim > 1 and out.shape == _doubled(x):
            out, second = out.chunk(2, dim=1)
        return check_output(f"the network {type(self.network).__name__}", out, x), second


def _doubled(x: Tensor) -> torch.Size:
    return torch.Size((x.shape[0], 2 * x.shape[1], *x.shape[2:]))


def _check_labels(network: nn.Module, labels: Any) -> Tensor | None:
    """Labels as int64, 0-d or (B,); raises TypeError or ValueError."""
    if labels is None:
        if "DiT" in type(network).__name__:
            raise ValueError(
                f"{type(network).__name__} needs class labels: write labels=k, or labels= the "
                "number of classes for its unconditional model"
            )
        return None
    given = torch.as_tensor(labels)
    if given.is_floating_point() or given.dtype == torch.bool or given.ndim > 1:
        raise TypeError(f"labels must be an integer or (B,) integers, got {labels!r}")
    return given.long()
