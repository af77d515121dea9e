"""This library's predictors as a scheduler that pipelines of diffusers use unchanged."""

from __future__ import annotations

from typing import Any, Final

import sdekit_kernels
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerMixin, SchedulerOutput
from sdekit_kernels import predictor_step
from sdekit_kernels.checks import check_choice, check_int_range
from torch import Tensor

from sdekit.compat.diffusers.config import PREDICTIONS, betas_of
from sdekit.noise import keys
from sdekit.sample.predictors import PREDICTORS, check_options
from sdekit.score import clip_data, from_eps, from_v, from_x0
from sdekit.sde import DDPM

__all__ = ["SdekitScheduler"]

_ADAPTERS: Final = {"eps": from_eps, "x0": from_x0, "v": from_v}
_SPACINGS: Final = ("leading", "trailing", "linspace")


class SdekitScheduler(SchedulerMixin, ConfigMixin):  # type: ignore[misc]
    """A step of any predictor of ``sdekit.sample`` on a chain of betas, for networks of diffusers.

    It reads the configuration of DDPMScheduler and DDIMScheduler (``from_config`` takes theirs):
    num_train_timesteps, beta_start, beta_end, beta_schedule, trained_betas, prediction_type,
    clip_sample, clip_sample_range, timestep_spacing, steps_offset. Its own:

    predictor: "ddpm", "ddim", "ancestral", "reverse_diffusion", "euler_maruyama" or
        "probability_flow"; variance ("fixed_small", "fixed_large") belongs to "ddpm" and eta to
        "ddim". seed: of the noise, which is a function of the seed, the step and the image's number
        in the batch: an image does not depend on the others.

    A torch.Generator handed to ``step`` gives its ``initial_seed`` as the seed; a list of them, one
    an image, makes each image a function of its own generator alone.
    Raises ValueError for an unknown predictor, prediction type, spacing or beta schedule.
    """

    order = 1

    @register_to_config
    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 1e-4,
        beta_end: float = 0.02,
        beta_schedule: str = "linear",
        trained_betas: Any = None,
        prediction_type: str = "epsilon",
        clip_sample: bool = True,
        clip_sample_range: float = 1.0,
        timestep_spacing: str = "leading",
        steps_offset: int = 0,
        rescale_betas_zero_snr: bool = False,
        predictor: str = "ddpm",
        variance: str | None = None,
        eta: float | None = None,
        seed: int = 0,
    ) -> None:
        check_choice("prediction_type", prediction_type, PREDICTIONS)
        check_choice("timestep_spacing", timestep_spacing, _SPACINGS)
        check_choice("predictor", predictor, [name for name, row in PREDICTORS.items() if row])
        self._options = check_options(predictor, {"variance": variance, "eta": eta})
        self.chain = DDPM(betas_of(self.config))
        self.init_noise_sigma = 1.0
        self.num_inference_steps: int | None = None
        self.timesteps = torch.arange(self.chain.steps - 1, -1, -1)
        self._plan()

    def __len__(self) -> int:
        return self.chain.steps

    def scale_model_input(self, sample: Tensor, timestep: Any = None) -> Tensor:
        """``sample``: these chains scale nothing."""
        return sample

    def set_timesteps(
        self, num_inference_steps: int | None = None, device: Any = None, timesteps: Any = None
    ) -> None:
        """Choose the levels, counted from 0 as diffusers does: a number of them, or a list.

        Raises ValueError unless exactly one is given, within the chain and decreasing.
        """
        if (num_inference_steps is None) == (timesteps is None):
            raise ValueError("give either num_inference_steps or timesteps")
        total = self.chain.steps
        if timesteps is not None:
            chosen = torch.as_tensor(timesteps).long()
            inside = bool((chosen >= 0).all()) and bool((chosen < total).all())
            if (
                chosen.ndim != 1
                or not len(chosen)
                or not inside
                or bool((chosen.diff() >= 0).any())
            ):
                raise ValueError(
                    f"timesteps must decrease within 0..{total - 1}, got {timesteps!r}"
                )
        else:
            count = check_int_range("num_inference_steps", num_inference_steps, 1, total + 1)
            chosen = _spaced(self.config["timestep_spacing"], count, total)
            chosen = (chosen + self.config["steps_offset"]).clamp(max=total - 1)
        self.num_inference_steps = len(chosen)
        self.timesteps = chosen.to(device)
        self._plan()

    def step(
        self,
        model_output: Tensor,
        timestep: Any,
        sample: Tensor,
        generator: Any = None,
        return_dict: bool = True,
    ) -> Any:
        """The state at the next level: ``prev_sample`` of a SchedulerOutput, or a tuple.

        Raises ValueError for a timestep that was not set, or an output of another shape.
        """
        i = self._place.get(int(timestep))
        if i is None:
            raise ValueError(f"timestep {int(timestep)} is not among those that were set")
        if model_output.shape[1] == 2 * sample.shape[1]:
            model_output = model_output[:, : sample.shape[1]]
        adapter = _ADAPTERS[PREDICTIONS[self.config["prediction_type"]]]
        score = adapter(lambda t, x: model_output, self.chain.sde)
        if self.config["clip_sample"]:
            limit = float(self.config["clip_sample_range"])
            score = clip_data(score, self.chain.sde, -limit, limit)
        s = score(self._times[i], sample)
        a, b, c = self._rows[i]
        if isinstance(generator, list):
            seeds = [g.initial_seed() for g in generator]
            rows = [(sample[j : j + 1], s[j : j + 1], seed) for j, seed in enumerate(seeds)]
        else:
            seed = self.config["seed"] if generator is None else generator.initial_seed()
            rows = [(sample, s, seed)]
        moved = [
            predictor_step(x, grad, a, b, c, seed=seed, stream=keys.PATH, step=i, want_mean=False)[
                0
            ]
            for x, grad, seed in rows
        ]
        out = moved[0] if len(moved) == 1 else torch.cat(moved)
        return SchedulerOutput(prev_sample=out) if return_dict else (out,)

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """sqrt(abar) x_0 + sqrt(1 - abar) noise at the levels ``timesteps``, counted from 0."""
        alpha, std = self.chain.coefficients(timesteps.cpu() + 1)
        ones = [1] * (original_samples.ndim - 1)
        alpha, std = (v.to(original_samples).view(-1, *ones) for v in (alpha, std))
        return alpha * original_samples + std * noise

    def draw(self, shape: tuple[int, ...], *, seed: int | None = None, **like: Any) -> Tensor:
        """The first state from this library's noise, for pipelines that take ``latents``."""
        seed = self.config["seed"] if seed is None else seed
        return sdekit_kernels.normal(shape, seed=seed, stream=keys.PRIOR, **like)

    def _plan(self) -> None:
        """Every step's coefficients, in float64 ahead of the loop."""
        levels = self.timesteps.cpu() + 1
        times = self.chain.time(torch.cat([levels, torch.zeros(1, dtype=torch.int64)]))
        row = PREDICTORS[self.config["predictor"]]
        assert row is not None
        tables = row.coefficients(self.chain.sde, times[:-1], times[1:], **self._options)
        device = self.timesteps.device
        self._rows = list(zip(*(v.to(device, torch.float32).unbind() for v in tables), strict=True))
        self._times = times[:-1].unbind()
        self._place = {int(k): i for i, k in enumerate(self.timesteps.tolist())}


def _spaced(spacing: str, count: int, total: int) -> Tensor:
    """Levels from 0, decreasing (Lin et al. 2024, arXiv 2305.08891, table 2)."""
    if spacing == "leading":
        return torch.arange(count - 1, -1, -1) * (total // count)
    if spacing == "trailing":
        steps = torch.arange(count, dtype=torch.float64) * (total / count)
        return (total - steps).round().long() - 1
    return torch.linspace(total - 1, 0, count, dtype=torch.float64).round().long()
