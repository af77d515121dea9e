"""What the bound of a chain is for Gaussian data and the best linear network, by another way.

Nothing here uses posteriors, KL divergences or cumulated products: the chain's covariances are made
by its recursion, one beta after the other, and the bound is E log q(x_{1:N} | x_0) minus
E log p(x_{0:N}), with the mean of p(x_{k-1} | x_k) as Algorithm 2 of Ho et al. 2020 writes it.
"""

from __future__ import annotations

import math

import torch

LOG_2PI = math.log(2.0 * math.pi)


def reverse_steps(process, mean, cov):
    """(A_k, b_k) with E[x_{k-1} | x_k] = A_k x_k + b_k under the best linear eps, k = 1..N."""
    eye = torch.eye(len(mean), dtype=torch.float64)
    kept, steps = 1.0, []
    for beta in process.betas.tolist():
        kept *= 1.0 - beta
        noise = 1.0 - kept
        # eps_hat = E[eps | x_k] = s_k Cov(x_k)^{-1} (x_k - E x_k).
        gain = math.sqrt(noise) * torch.linalg.inv(kept * cov + noise * eye)
        root, share = math.sqrt(1.0 - beta), beta / math.sqrt(noise)
        matrix = (eye - share * gain) / root
        steps.append((matrix, share / root * gain @ (math.sqrt(kept) * mean)))
    return steps


def variances(process, variance, first):
    """v_1..v_N, v_1 as given."""
    kept = torch.cumprod(1.0 - process.betas, 0)
    small = process.betas[1:] * (1.0 - kept[:-1]) / (1.0 - kept[1:])
    rest = process.betas[1:] if variance == "fixedlarge" else small
    return torch.cat([torch.tensor([first], dtype=torch.float64), rest])


def posterior_variance(process, k):
    """v~_k from the joint law of (x_{k-1}, x_k) given x_0, by conditioning."""
    spread = 0.0
    for beta in process.betas[: k - 1].tolist():
        spread = (1.0 - beta) * spread + beta
    beta = float(process.betas[k - 1])
    cross = math.sqrt(1.0 - beta) * spread
    return spread - cross**2 / ((1.0 - beta) * spread + beta)


def expected_bound(process, mean, cov, v, x0, *, decoder=True):
    """The bound given each x_0 (B, D), in nats; without the decoder's term if not ``decoder``."""
    dim = len(mean)
    steps = reverse_steps(process, mean, cov)
    centre, spread = x0, 0.0
    total = torch.zeros(len(x0), dtype=torch.float64)
    for k, beta in enumerate(process.betas.tolist(), 1):
        matrix, shift = steps[k - 1]
        root = math.sqrt(1.0 - beta)
        cross, after = root * spread, root**2 * spread + beta
        if k > 1 or decoder:
            # x_{k-1} - A x_k - b given x_0: mean and total variance.
            off = centre - root * centre @ matrix.mT - shift
            var = dim * spread - 2.0 * cross * matrix.trace() + after * matrix.square().sum()
            total += 0.5 * (off.square().sum(1) + var) / v[k - 1]
            total += 0.5 * dim * (LOG_2PI + v[k - 1].log())
        total -= 0.5 * dim * (1.0 + LOG_2PI + math.log(beta))  # E log q(x_k | x_{k-1})
        centre, spread = root * centre, after
    # x_N under the prior.
    return total + 0.5 * (centre.square().sum(1) + dim * spread) + 0.5 * dim * LOG_2PI


def best_eps(process, mean, cov):
    """The network itself, (t, x) -> eps_hat."""
    values, vectors = torch.linalg.eigh(cov)
    kept = torch.cumprod(1.0 - process.betas, 0)

    def eps_model(t, x):
        k = (t.double() * process.steps).round().long()
        part = kept[k - 1].view(-1, 1)
        flat = x.flatten(1).double() - part.sqrt() * mean
        gain = (1.0 - part).sqrt() / (part * values + 1.0 - part)
        return ((flat @ vectors * gain) @ vectors.mT).view_as(x).to(x.dtype)

    return eps_model


def sigma_points(mean, cov):
    """2 D points over which the mean of any quadratic function is its mean over N(mean, cov)."""
    root = math.sqrt(len(mean)) * torch.linalg.cholesky(cov).mT
    return torch.cat([mean + root, mean - root])
