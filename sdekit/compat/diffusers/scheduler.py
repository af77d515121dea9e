"""This library's predictors as a scheduler that pipelines of diffusers use unchanged."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Final

import sdekit_kernels
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerMixin, SchedulerOutput
from sdekit_kernels import predictor_step
from sdekit_kernels.checks import check_choice, check_int_range
from torch import Tensor

from sdekit.compat.diffusers.config import PREDICTIONS, betas_of, check_chain
from sdekit.compat.diffusers.seeds import run_seeds
from sdekit.noise import keys
from sdekit.sample.predictors import PREDICTORS, VARIANCES, check_options
from sdekit.score import clip_data, from_eps, from_v, from_x0
from sdekit.sde import DDPM

__all__ = ["SdekitScheduler"]

_ADAPTERS: Final = {"eps": from_eps, "x0": from_x0, "v": from_v}
_LEARNED: Final = (
    "a learned variance needs sdekit.sample.ddpm_learned(sde, score.eps_and_variance, shape), with "
    "sde, score = from_diffusers(network, scheduler); write variance='fixed_small' to leave it away"
)
_SPACINGS: Final = ("leading", "trailing", "linspace")


class SdekitScheduler(SchedulerMixin, ConfigMixin):  # type: ignore[misc]
    """A step of any predictor of ``sdekit.sample`` on a chain of betas, for networks of diffusers.

    It reads the configuration of DDPMScheduler and DDIMScheduler (``from_config`` takes theirs):
    num_train_timesteps, beta_start, beta_end, beta_schedule, trained_betas, snr_shift_scale,
    prediction_type, clip_sample, clip_sample_range, timestep_spacing, steps_offset;
    set_alpha_to_one, without which the last step ends at the first level instead of at 0;
    variance_type, the predictor "ddpm"'s variance where ``variance`` is None. Its own:

    predictor: "ddpm", "ddim", "ancestral", "reverse_diffusion", "euler_maruyama" or
        "probability_flow"; variance ("fixed_small", "fixed_large") belongs to "ddpm" and eta to
        "ddim". seed: of the noise, which is a function of the seed, the run, the step and the
        image's number in the batch: an image does not depend on the others.

    A run begins with the first step after ``set_timesteps``, or with a step that is not below the
    last one. It draws its seed from the torch.Generator that is handed to that step, and moves the
    generator on: the same fresh generator gives the same images, and a second call others. With a
    list of generators, one an image, each image is a function of its own alone. Without one the
    seed is ``seed`` in the first run, and another in each run after it.

    Pipelines keep the scheduler that they are given, but for DDIMPipeline, whose constructor makes
    a DDIMScheduler of any: write ``pipeline.scheduler = SdekitScheduler(predictor="ddim")`` after
    it.

    Raises ValueError for an unknown predictor, prediction type, spacing or beta schedule, a learned
    variance_type and for thresholding.
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
        snr_shift_scale: float = 1.0,
        set_alpha_to_one: bool = True,
        variance_type: str | None = None,
        thresholding: bool = False,
        predictor: str = "ddpm",
        variance: str | None = None,
        eta: float | None = None,
        seed: int = 0,
    ) -> None:
        check_choice("prediction_type", prediction_type, PREDICTIONS)
        check_choice("timestep_spacing", timestep_spacing, _SPACINGS)
        check_choice("predictor", predictor, [name for name, row in PREDICTORS.items() if row])
        if thresholding:
            raise ValueError(
                "thresholding=True is not known here: clip_sample=True with a clip_sample_range is"
            )
        if predictor == "ddpm" and variance is None:
            variance = _variance(variance_type)
        self._options = check_options(predictor, {"variance": variance, "eta": eta})
        self.chain = DDPM(betas_of(self.config))
        self.init_noise_sigma = 1.0
        self.num_inference_steps: int | None = None
        self.timesteps = torch.arange(self.chain.steps - 1, -1, -1)
        self._runs, self._seeds, self._last = 0, [seed], 0
        self._plan()

    @classmethod
    def from_config(
        cls, config: Any = None, return_unused_kwargs: bool = False, **kwargs: Any
    ) -> Any:
        """From the configuration of a scheduler of a chain of betas, with changes in ``kwargs``.

        Raises ValueError for that of a scheduler of another kind, and as the constructor does.
        """
        if isinstance(config, Mapping):
            # diffusers would put our defaults in the place of theirs: another chain's betas.
            config = {k: v for k, v in config.items() if k != "_use_default_values"}
            if not set(config) <= set(_OWN):
                check_chain(config, str(config.get("_class_name", "the configuration")))
        return super().from_config(config, return_unused_kwargs, **kwargs)

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
        eta: float | None = None,
        use_clipped_model_output: bool | None = None,
    ) -> Any:
        """The state at the next level: ``prev_sample`` of a SchedulerOutput, or a tuple.

        eta, use_clipped_model_output: what DDIMPipeline passes on. The scheduler's own eta counts:
        None and 0, the pipeline's default, leave it, and another value must be equal to it. Where
        clip_sample is set, the noise follows the clipped x_0, which is True; None leaves it.
        Raises ValueError for other values of these, a timestep that was not set, an output of
        another shape, or one with a learned variance where the predictor "ddpm" would drop it.
        """
        self._check_asked(eta, use_clipped_model_output)
        i = self._place.get(int(timestep))
        if i is None:
            raise ValueError(f"timestep {int(timestep)} is not among those that were set")
        if model_output.shape[1] == 2 * sample.shape[1]:
            if self.config["predictor"] == "ddpm" and self.config["variance"] is None:
                raise ValueError(_LEARNED)
            model_output = model_output[:, : sample.shape[1]]
        adapter = _ADAPTERS[PREDICTIONS[self.config["prediction_type"]]]
        score = adapter(lambda t, x: model_output, self.chain.sde)
        if self.config["clip_sample"]:
            limit = float(self.config["clip_sample_range"])
            score = clip_data(score, self.chain.sde, -limit, limit)
        s = score(self._times[i], sample)
        a, b, c = self._rows[i]
        self._begin(i, generator, len(sample))
        rows = [(sample, s, self._seeds[0])]
        if len(self._seeds) > 1:
            rows = [(sample[j : j + 1], s[j : j + 1], k) for j, k in enumerate(self._seeds)]
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

    def _begin(self, i: int, generator: Any, images: int) -> None:
        """Where step i begins a run: choose the run's seeds."""
        if i <= self._last:
            self._seeds = run_seeds(generator, self.config["seed"], self._runs, images)
            self._runs += 1
        self._last = i

    def _check_asked(self, eta: float | None, use_clipped_model_output: bool | None) -> None:
        """Raises ValueError unless the scheduler does what a DDIMPipeline asks for."""
        own = self._options.get("eta", 0.0)
        if eta and eta != own:
            raise ValueError(
                f"eta={eta:g} was asked for, but the scheduler has eta={own:g}: write "
                f"SdekitScheduler(predictor='ddim', eta={eta:g})"
            )
        if use_clipped_model_output is False and self.config["clip_sample"]:
            raise ValueError(
                "use_clipped_model_output=False was asked for, but with clip_sample=True the noise "
                "follows the clipped x_0: write True or None, or set clip_sample=False"
            )

    def _plan(self) -> None:
        """Every step's coefficients, in float64 ahead of the loop; the next step begins a run."""
        self._last = len(self.timesteps)
        levels = self.timesteps.cpu() + 1
        last = torch.tensor([0 if self.config["set_alpha_to_one"] else 1])
        times = self.chain.time(torch.cat([levels, last]))
        row = PREDICTORS[self.config["predictor"]]
        assert row is not None
        tables = row.coefficients(self.chain.sde, times[:-1], times[1:], **self._options)
        device = self.timesteps.device
        self._rows = list(zip(*(v.to(device, torch.float32).unbind() for v in tables), strict=True))
        self._times = times[:-1].unbind()
        self._place = {int(k): i for i, k in enumerate(self.timesteps.tolist())}


def _variance(kind: str | None) -> str | None:
    """Our name of a ``variance_type``; its logarithmic form has the same law."""
    if kind is None or kind in VARIANCES:
        return kind
    if kind == "fixed_small_log":
        return "fixed_small"
    raise ValueError(
        f"variance_type={kind!r} is not known here: {', '.join(VARIANCES)} are; "
        + (_LEARNED if "learned" in kind else "write variance='fixed_large'")
    )


def _spaced(spacing: str, count: int, total: int) -> Tensor:
    """Levels from 0, decreasing (Lin et al. 2024, arXiv 2305.08891, table 2)."""
    if spacing == "leading":
        return torch.arange(count - 1, -1, -1) * (total // count)
    if spacing == "trailing":
        steps = torch.arange(count, dtype=torch.float64) * (total / count)
        return (total - steps).round().long() - 1
    return torch.linspace(total - 1, 0, count, dtype=torch.float64).round().long()


_OWN: Final = tuple(inspect.signature(SdekitScheduler.__init__).parameters)
"""A configuration of these alone may be a part of one."""
