"""The matrix-valued OU process against its moment equations, its components, and its limits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.linalg import expm, solve_continuous_lyapunov

from sdekit.sde import OU, MatrixOU

DOUBLE = torch.float64
A = torch.tensor([[1.0, 0.8, 0.0], [-0.6, 0.7, 0.2], [0.1, 0.0, 2.0]], dtype=DOUBLE)
MU = torch.tensor([0.5, -1.0, 0.0], dtype=DOUBLE)
S = torch.tensor([[0.5, 0.0], [0.2, 0.9], [-0.3, 0.4]], dtype=DOUBLE)
DEFECTIVE = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0], [0.0, 0.0, 1.0]], dtype=DOUBLE)
UNSTABLE = torch.tensor([[-0.5, 0.3, 0.0], [0.0, 0.0, 0.0], [0.1, 0.0, 1.0]], dtype=DOUBLE)


@pytest.mark.parametrize("a", [A, DEFECTIVE, UNSTABLE], ids=["plain", "defective", "unstable"])
@pytest.mark.parametrize("sigma", [0.7, torch.tensor([0.2, 0.5, 1.0], dtype=DOUBLE), S])
def test_marginal_solves_moment_equations(a, sigma):
    sde = MatrixOU(a, MU, sigma)
    root = torch.as_tensor(sigma, dtype=DOUBLE)
    root = root.expand(3).diag() if root.ndim < 2 else root
    q = (root @ root.mT).numpy()
    f = -a.numpy()

    def rate(_, state):
        m, p = state[:3], state[3:].reshape(3, 3)
        return np.concatenate([f @ (m - MU.numpy()), (f @ p + p @ f.T + q).ravel()])

    x0 = torch.tensor([[1.0, 2.0, -3.0], [0.0, 0.1, 0.2]], dtype=DOUBLE)
    t = torch.tensor([0.01, 3.0], dtype=DOUBLE)
    law = sde.marginal(t, x0)
    for i in range(2):
        start = np.concatenate([x0[i].numpy(), np.zeros(9)])
        end = solve_ivp(rate, (0, float(t[i])), start, rtol=1e-11, atol=1e-13, method="DOP853")
        want = torch.from_numpy(end.y[:, -1])
        torch.testing.assert_close(law.mean[i], want[:3], rtol=1e-8, atol=1e-9)
        torch.testing.assert_close(law.cov[i], want[3:].view(3, 3), rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(law.std.square(), law.cov.diagonal(dim1=1, dim2=2))
    one = sde.marginal(3.0, x0[1:])
    torch.testing.assert_close(one.cov, law.cov[1:], rtol=1e-12, atol=1e-13)


def test_transitions_compose():
    sde = MatrixOU(A, MU, S)
    x = torch.tensor([[1.0, 2.0, -3.0]], dtype=DOUBLE)
    first = sde.transition(0.2, 0.9, x)
    second = sde.transition(0.9, 1.7, first.mean)
    whole = sde.transition(0.2, 1.7, x)
    phi = torch.from_numpy(expm(-0.8 * A.numpy()))
    torch.testing.assert_close(second.mean, whole.mean)
    torch.testing.assert_close(second.cov + phi @ first.cov @ phi.mT, whole.cov)


def test_stationary_covariance_solves_lyapunov_and_is_the_limit():
    sde = MatrixOU(A, MU, S)
    want = torch.from_numpy(solve_continuous_lyapunov(A.numpy(), (S @ S.mT).numpy()))
    torch.testing.assert_close(sde.stationary_cov, want, rtol=1e-12, atol=1e-13)
    # A horizon of 1e4 relaxation times, where Van Loan's block itself would overflow.
    late = sde.marginal(1e4, torch.ones(1, 3, dtype=DOUBLE))
    torch.testing.assert_close(late.cov[0], want, rtol=1e-12, atol=1e-13)
    with pytest.raises(ValueError, match="positive real part"):
        _ = MatrixOU(UNSTABLE).stationary_cov


def test_two_time_covariance():
    sde = MatrixOU(A, MU, S)
    x = torch.zeros(1, 3, dtype=DOUBLE)
    want = sde.marginal(0.5, x).cov[0] @ torch.from_numpy(expm(-0.7 * A.numpy())).mT
    s, t = torch.tensor(0.5, dtype=DOUBLE), torch.tensor(1.2, dtype=DOUBLE)
    torch.testing.assert_close(sde.covariance(s, t), want)
    torch.testing.assert_close(sde.covariance(t, s), want.mT)
    torch.testing.assert_close(sde.covariance(0.5, 1.2), want, rtol=1e-12, atol=1e-14)


def test_empty_batch():
    sde, x = MatrixOU(A, MU, S), torch.zeros(0, 3)
    for t in (0.5, torch.zeros(0)):
        law = sde.marginal(t, x)
        assert law.mean.shape == law.std.shape == (0, 3) and law.cov.shape == (0, 3, 3)


def test_diagonal_matrix_is_the_elementwise_process():
    theta, sigma = torch.tensor([0.5, 0.0, -0.4]), torch.tensor([0.2, 0.5, 1.0])
    matrix, plain = MatrixOU(theta.diag(), MU.float(), sigma), OU(theta, MU.float(), sigma)
    x, t = torch.tensor([[1.0, 2.0, -3.0]] * 2), torch.tensor([0.3, 2.0])
    for name in ("mean", "std"):
        got, want = (getattr(sde.marginal(t, x), name) for sde in (matrix, plain))
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(matrix.drift(t, x), plain.drift(t, x))
    assert (matrix.noise_type, plain.noise_type) == ("additive", "additive")
    torch.testing.assert_close(matrix.diffusion(t, x).expand_as(x), plain.diffusion(t, x))


def test_general_noise_has_its_shape():
    sde = MatrixOU(A, MU, S)
    x = torch.zeros(4, 3)
    assert sde.noise_type == "general"
    assert sde.diffusion(torch.tensor(0.0), x).shape == (4, 3, 2)
    torch.testing.assert_close(sde.drift(torch.tensor(0.0), x)[0], (A @ MU).float())


BAD = [
    (lambda: MatrixOU(torch.ones(2, 3)), ValueError, "square matrix"),
    (lambda: MatrixOU(1.0), ValueError, "square matrix"),
    (lambda: MatrixOU(A, torch.ones(2)), ValueError, r"mu must be a number or have shape \(3,\)"),
    (lambda: MatrixOU(A, sigma=torch.ones(2, 2)), ValueError, r"\(D, M\) with D = 3"),
    (lambda: MatrixOU(A, sigma=-1.0), ValueError, "sigma must be 0 or more"),
    (lambda: MatrixOU(A * torch.inf), ValueError, "A must be finite"),
    (lambda: MatrixOU(A).drift(0.0, torch.ones(2, 4)), ValueError, r"shape \(B, 3\)"),
    (lambda: MatrixOU(A).marginal(torch.ones(3), torch.ones(2, 3)), ValueError, "first axis"),
    (lambda: MatrixOU(A).transition(0.0, 1.0, [1.0]), TypeError, "torch.as_tensor"),
]


@pytest.mark.parametrize(("call", "error", "says"), BAD)
def test_bad_input_says_what_is_needed(call, error, says):
    with pytest.raises(error, match=says):
        call()
