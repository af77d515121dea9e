"""Who draws what: one stream number for each consumer of randomness.

A normal is a pure function of (seed, stream, sample, step, component). Two consumers that share a
seed must not share a stream, or their noise would be the same; this table is the only place where
stream numbers are given out.
"""

from __future__ import annotations

from typing import Final

PATH: Final = 0
"""Increments of the driving Brownian motion: solvers and predictors."""
PRIOR: Final = 1
"""The state at T from which a sampler starts."""
CORRECTOR: Final = 2
"""Langevin correctors and annealed Langevin dynamics."""
PROBE: Final = 3
"""Probe vectors of stochastic trace estimators."""
DEQUANTIZE: Final = 4
"""Uniform dequantization noise of a data transform."""
DATA: Final = 5
"""Draws from analytic data distributions."""
TRAIN: Final = 6
"""Training, in consecutive streams from here: the order of the data, times and levels of losses,
their noise, geometry and rounding of augmented images, projections of sliced score matching."""
INIT: Final = 32
"""Initial weights of networks, one stream a parameter tensor from here."""
SPACE_TIME: Final = 1 << 15
"""Space-time Levy areas of the driving Brownian motion."""
LEVY: Final = SPACE_TIME + 1
"""What the Levy areas between Brownian motions have beyond that."""
FREE: Final = SPACE_TIME + 2
"""Normals of a step that are no part of the Brownian path, one a Brownian motion."""
CHANCE: Final = SPACE_TIME + 3
"""Decisions of a step, one a sample: whether a proposal is accepted."""
SPACE_TIME_TIME: Final = SPACE_TIME + 4
"""Space-time-time Levy areas of the driving Brownian motion."""
ELBO: Final = SPACE_TIME + 5
"""Noise of the variational bound of a likelihood."""
ELBO_TIME: Final = SPACE_TIME + 6
"""Times of the variational bound of a likelihood."""
PRIOR_GAP: Final = SPACE_TIME + 7
"""Draws at T that normalize the law there."""
START: Final = SPACE_TIME + 8
"""Noise that takes given data up to a time, from which a sampler goes down again."""
CHURN: Final = SPACE_TIME + 9
"""Noise that EDM's sampler adds before a step."""
BOUND: Final = SPACE_TIME + 10
"""Noise of the variational bound of a chain."""
BOUND_LEVEL: Final = SPACE_TIME + 11
"""Levels of a chain at which its variational bound is evaluated."""
LATENT: Final = SPACE_TIME + 12
"""Latents that move from one frame of a film to the next."""
BRIDGE: Final = 1 << 16
"""Brownian bridges: BRIDGE + j for the j-th saved time inside a step."""
BRIDGE_AREA: Final = 1 << 24
"""Space-time Levy areas of Brownian bridges, numbered likewise."""
HALF_STEP: Final = 1 << 25
"""Fitting a Schrödinger bridge: HALF_STEP + 16 n + j is consumer j of half-step n < 2^14."""
