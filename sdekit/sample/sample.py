"""The predictor-corrector loop, from the prior at T down to data (Song et al. 2021, alg. 1)."""

from __future__ import annotations

from typing import Any

import torch
from sdekit_kernels import langevin_step, predictor_step
from sdekit_kernels.checks import check_choice, check_int_range, check_positive
from sdekit_kernels.dispatch import resolve_backend
from torch import Tensor

from sdekit.noise import keys
from sdekit.sample.correctors import CORRECTORS, check_data_std
from sdekit.sample.draws import check_draws
from sdekit.sample.fused import Run, go_pieces, obstacle_to, trace_run
from sdekit.sample.info import Recorder
from sdekit.sample.plan import first_state, make_grid, make_plan
from sdekit.sample.predictors import PREDICTORS, check_options
from sdekit.sample.start import (
    Score,
    check_path_points,
    check_score,
    check_shape,
    evaluate,
    launch_bar,
    progress_bar,
)
from sdekit.sde import AffineSDE
from sdekit.sde.parameters import shifted


def sample(
    sde: AffineSDE,
    score: Score,
    shape: Any,
    *,
    steps: int | None = None,
    predictor: str = "reverse_diffusion",
    corrector: str = "none",
    snr: float = 0.16,
    corrector_steps: int = 1,
    corrector_first: bool = False,
    norm: str = "sample",
    eta: float | None = None,
    variance: str | None = None,
    data_std: Any = None,
    t_min: float | None = None,
    times: Any = None,
    x_init: Tensor | None = None,
    denoise: bool = True,
    seed: Any = 0,
    first_sample: int = 0,
    samples: Any = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    backend: str = "auto",
    fuse: bool | None = None,
    progress: bool = False,
    return_info: bool = False,
    path_points: int = 0,
) -> Any:
    """Draws samples of the data with the score of an affine SDE, shape (B, D...).

    On the grid t_0 = T > ... > t_N = t_min, for i = 0..N - 1 (Song et al. 2021, Algorithm 1)::

        x = A_i x + B_i score(t_i, x) + C_i z          predictor, to t_{i+1}
        x = x + eps score(t, x) + sqrt(2 eps) z        corrector, ``corrector_steps`` times

    with x in displacement from ``sde.offset``. The corrector runs at t = t_{i+1}, as in the paper's
    algorithms, or with ``corrector_first`` before the predictor at t = t_i, as in the paper's code.
    A, B, C: ``sdekit.sample.predictors``; eps: ``sdekit.sample.correctors``. They are made for the
    whole grid in float64 before the loop, which then never waits for the device. No gradients are
    recorded.

    Args:
        score: any callable (t, x) -> score of x's shape, dtype and device; t is 0-d, in x's dtype
            (float32 for bfloat16 and float16), x is (B, D...).
        shape: (B, D...).
        steps: N; 1000 if neither this nor ``times`` is given.
        predictor: "euler_maruyama", "reverse_diffusion", "ancestral", "probability_flow", "ddpm",
            "ddim" or "none".
        corrector: "langevin" (by signal-to-noise ratio), "annealed" (by noise level), "ou" (without
            Langevin's bias) or "none".
        snr: the ratio r in the corrector's step size, above zero.
        norm: "sample", or "batch", which takes the means of the norms over the batch as the paper's
            code does, so that a sample depends on its batchmates; for corrector="langevin".
        eta: in [0, 1], of predictor="ddim": 0 adds no noise, 1 as much as DDPM; 0 if None.
        variance: "fixed_small" or "fixed_large", of predictor="ddpm"; "fixed_small" if None.
        data_std: the data's std, a number or (D...), of corrector="ou"; 0.5 if None.
        t_min: the grid's last time, in the SDE's units; ``sde.t_min`` if None.
        times: the grid itself, (N + 1,), strictly decreasing; instead of steps and t_min. Without
            it the steps are equal; ``VE("edm")`` wants ``polynomial_times``.
        x_init: the state at t_0, (B, D...); drawn from the prior at T if None.
        denoise: return the mean of the last update, without its noise.
        seed, first_sample: sample ``first_sample + k`` of this seed is the same however the batch
            is split (stream PRIOR at the start, PATH in predictors, CORRECTOR in correctors). A
            list of B seeds draws sample ``first_sample`` of each.
        samples: B numbers of samples, in any order, instead of first_sample.
        dtype, device: of the state; ``x_init``'s, or float32 on the CPU.
        backend: of the fused steps, see ``sdekit_kernels.dispatch``.
        fuse: None makes the whole run one kernel where the score can be traced (closed forms and
            small networks, up to 64 components, one corrector step), else goes step by step, with
            the same noise and the same result up to rounding; True raises where it cannot; False
            goes step by step.
        progress: show a progress bar.
        return_info: return (x, SampleInfo), which says per sample whether and when it left the
            finite numbers.
        path_points: K states to keep in ``SampleInfo.path``, evenly spaced in steps, the start and
            the result among them.

    Returns:
        x (B, D...); with ``return_info`` (x, SampleInfo).

    Raises:
        TypeError: an SDE that is not affine, a score that is not callable or returns another
            dtype, numbers or tensors of a wrong type.
        ValueError: unknown names, snr <= 0, steps < 1, times that do not decrease strictly, a shape
            without batch and event, an x_init that does not fit or is not finite, a score that
            returns another shape or device, a grid too coarse for the predictor's chain.
        RuntimeError: a backend asked for by name that cannot run on this device; ``fuse=True``
            where the run cannot be one kernel.
    """
    if not isinstance(sde, AffineSDE):
        raise TypeError(
            "sample needs an AffineSDE, whose prior and steps are known, got "
            f"{type(sde).__name__}: write sdekit.solve(ReverseSDE(sde, score), x_T, ...) instead"
        )
    check_score(score)
    size = check_shape(shape)
    check_choice("predictor", predictor, PREDICTORS)
    check_choice("corrector", corrector, CORRECTORS)
    check_choice("norm", norm, ("sample", "batch"))
    snr = check_positive("snr", snr)
    inner = check_int_range("corrector_steps", corrector_steps, 1, 1 << 31)
    grid = make_grid(sde, steps, t_min, times)
    n, host_t = len(grid) - 1, grid.tolist()
    path_points = check_path_points(path_points, n, return_info)
    if corrector != "none" and not corrector_first and host_t[-1] <= 0.0:
        raise ValueError(
            "the corrector asks for the score at the grid's last time, which is 0: end the grid "
            "above 0, or write corrector_first=True"
        )
    options = check_options(predictor, {"eta": eta, "variance": variance})
    spread = check_data_std(corrector, data_std)
    draws = check_draws(seed, first_sample, samples, size[0])
    if norm == "batch" and len(draws.pieces) > 1:
        raise ValueError('norm="batch" ties the samples together: draw consecutive ones of a seed')

    with torch.no_grad():
        x = first_state(sde, grid, draws, size, x_init, dtype, device, backend)
        choice = resolve_backend(backend, x.device)
        plan = make_plan(
            sde,
            grid,
            x,
            predictor=predictor,
            corrector=corrector,
            corrector_first=corrector_first,
            snr=snr,
            norm=norm,
            options=options,
            data_std=spread,
        )

        def predict(y: Tensor, i: int, want_mean: bool) -> Tensor:
            s = evaluate(score, plan.t[i], shifted(y, plan.offset))
            a, b, c = plan.predictor[i]
            how = {"stream": keys.PATH, "step": i, "want_mean": want_mean, "backend": backend}
            y_next, y_mean = draws.step(predictor_step, y, s, a, b, c, **how)
            return y_next if y_mean is None else y_mean

        def correct(y: Tensor, i: int, want_mean: bool) -> Tensor:
            for j in range(inner):
                s = evaluate(score, plan.corrector_t[i], shifted(y, plan.offset))
                at_end = want_mean and j == inner - 1
                how = {"stream": keys.CORRECTOR, "step": i * inner + j, "want_mean": at_end}
                row = plan.corrector[i]
                if "noise" in row:
                    fixed: tuple[Any, ...] = (1.0, row["step_size"], row["noise"])
                    y, y_mean = draws.step(predictor_step, y, s, *fixed, backend=backend, **how)
                else:
                    y, y_mean = draws.step(langevin_step, y, s, backend=backend, **row, **how)
            return y if y_mean is None else y_mean

        y = sde.centered(x)
        recorder = Recorder(x, host_t[0], n, path_points) if return_info else None
        run, program, obstacle = None, None, "fuse=False asks for it"
        if fuse is None or fuse:
            obstacle = obstacle_to(score, y, plan, choice.backend, inner, norm)
            if not obstacle:
                run = Run(score, plan, corrector_first, denoise)
                program, obstacle = trace_run(run, y)
        if fuse and program is None:
            raise RuntimeError(
                f"fuse=True, but this run cannot be one kernel: {obstacle}. Leave fuse away to run "
                "it step by step"
            )
        updates = [u for u, on in ((predict, plan.predictor), (correct, plan.corrector)) if on]
        if corrector_first:
            updates.reverse()
        # The updates are linear in the displacement y; the score sees the state x itself.
        if run is not None and program is not None:
            with launch_bar(n * len(draws.pieces), progress) as bar:
                y, bad, kept = go_pieces(
                    run,
                    program,
                    y,
                    draws.pieces,
                    backend=choice.backend,
                    marks=recorder.marks if recorder is not None else set(),
                    bar=bar,
                )
            if recorder is not None:
                recorder.whole(bad, [shifted(s, plan.offset) for s in kept], host_t)
            n = 0
        for i in progress_bar(range(n if size[0] else 0), progress):
            for update in updates:
                y = update(y, i, denoise and i == n - 1 and update is updates[-1])
            if recorder is not None:
                recorder.after(i, host_t[i + 1], shifted(y, plan.offset))
        x = shifted(y, plan.offset)
    if recorder is None:
        return x
    evaluations = len(plan.predictor) + inner * len(plan.corrector)
    how = "the whole run is one kernel" if program is not None else f"step by step: {obstacle}"
    return x, recorder.info(evaluations if size[0] else 0, choice, how)
