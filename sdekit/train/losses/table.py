"""The losses by name, each as loss(sde, net, x0, *, seed, step=0, ...): (B,).

    name         loss, and its own options beside seed and step
    dsm          denoising score matching: target, weighting, times, gap
    ism          implicit score matching, exact trace: weighting, times
    ssm          sliced score matching: reduced, n_projections, projections, weighting, times
    ncsn         the multi-scale loss at the levels of the SDE: target, levels, times
    ddpm_simple  L_simple at N levels of the SDE: target, steps
    ddpm_bound   the variational bound of the chain of a VP equation, at random levels: target,
                 steps, variance, decoder, transform
    edm          Karras et al.'s law of the levels and weighting: target, mean, std, data_std, times

A net is a score unless ``target`` says otherwise, or the loss needs the score itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sdekit_kernels.checks import check_choice
from torch import Tensor

from sdekit.train.losses.ddpm import ddpm_simple_of_score
from sdekit.train.losses.ddpm_bound import ddpm_bound_of_score
from sdekit.train.losses.denoising import denoising_score_matching
from sdekit.train.losses.edm import edm_of_score
from sdekit.train.losses.implicit import implicit_score_matching
from sdekit.train.losses.ncsn import ncsn_of_score
from sdekit.train.losses.sliced import sliced_score_matching

__all__ = ["LOSSES", "Loss", "get_loss"]

Loss = Callable[..., Tensor]

LOSSES: Final[dict[str, Loss]] = {
    "dsm": denoising_score_matching,
    "ism": implicit_score_matching,
    "ssm": sliced_score_matching,
    "ncsn": ncsn_of_score,
    "ddpm_simple": ddpm_simple_of_score,
    "ddpm_bound": ddpm_bound_of_score,
    "edm": edm_of_score,
}


def get_loss(loss: str | Loss) -> Loss:
    """The loss of this name, or the function itself; raises ValueError or TypeError."""
    if isinstance(loss, str):
        return LOSSES[check_choice("loss", loss, LOSSES)]
    if not callable(loss):
        raise TypeError(
            f"loss must be a name or a function (sde, net, x0, *, seed, step), got {loss!r}"
        )
    return loss
