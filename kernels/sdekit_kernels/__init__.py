"""What touches bits and registers: the noise and the fused steps. Never imports sdekit."""

from __future__ import annotations

from sdekit_kernels.philox.normal import normal
from sdekit_kernels.steps.em_step import em_step
from sdekit_kernels.steps.langevin_step import langevin_step
from sdekit_kernels.steps.predictor_step import predictor_step

__all__ = ["em_step", "langevin_step", "normal", "predictor_step"]
