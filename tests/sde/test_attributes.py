"""What equations tell beyond drift and diffusion: signs of components, and their linear parts."""

from __future__ import annotations

import pytest
import torch

from sdekit.sde import CIR, GBM, OU, Heston, MatrixOU, nonnegative_mask, to_ito, to_stratonovich

DOUBLE = torch.float64


class Plain:
    def __init__(self, **attributes):
        self.__dict__.update(attributes)


def test_masks_of_components_that_stay_above_zero():
    x = torch.ones(5, 2, 3)
    assert not nonnegative_mask(Plain(), x).any() and not nonnegative_mask(OU(), x).any()
    assert nonnegative_mask(CIR(), x).all()
    mask = nonnegative_mask(Plain(nonnegative=(0, 4)), x)
    assert mask.shape == (1, 2, 3) and mask.dtype == torch.bool
    assert mask.flatten().tolist() == [True, False, False, False, True, False]
    assert nonnegative_mask(Heston(), torch.ones(0, 2)).tolist() == [[False, True]]
    assert nonnegative_mask(CIR(), torch.ones(5)).tolist() == [True]
    with pytest.raises(ValueError, match=r"names component 6.* components 0 to 5"):
        nonnegative_mask(Plain(nonnegative=(6,)), x)


@pytest.mark.parametrize(
    ("sde", "rate", "noise"),
    [
        (OU(2.0, 1.0, 0.5), -2.0, 0.0),
        (OU([1.0, 2.0], torch.tensor(1.0)), [-1.0, -2.0], [0.0, 0.0]),
        (OU(3.0, [1.0, 2.0]), [-3.0, -3.0], [0.0, 0.0]),
        (GBM(0.1, torch.tensor([0.25, 0.5])), [0.1, 0.1], [0.25, 0.5]),
        (CIR(1.5, [0.1, 0.2]), [-1.5, -1.5], [0.0, 0.0]),
    ],
)
def test_linear_parts(sde, rate, noise):
    got = sde.linear_part()
    for value, want in zip(got, (rate, noise), strict=True):
        assert value.dtype == DOUBLE
        torch.testing.assert_close(value, torch.tensor(want, dtype=DOUBLE))


def test_linear_part_of_a_matrix_has_its_eigenvalues():
    rate, noise = MatrixOU([[0.3, 1.0], [-1.0, 0.3]], sigma=[[1.0], [0.0]]).linear_part()
    assert rate.dtype == torch.complex128 and noise.tolist() == [0.0, 0.0]
    want = torch.tensor([-0.3 - 1.0j, -0.3 + 1.0j], dtype=torch.complex128)
    torch.testing.assert_close(rate[rate.imag.argsort()], want)


def test_linear_parts_carry_gradients():
    mu = torch.tensor(0.1, requires_grad=True)
    GBM(mu, 0.2).linear_part()[0].backward()
    assert mu.grad.item() == 1.0


def test_linear_parts_of_the_other_form():
    """dx = mu x dt + s x dW is dx = (mu - s^2 / 2) x dt + s x o dW; of CIR only the level moves."""
    rate, noise = to_stratonovich(GBM(0.1, [0.2, 2.0])).linear_part()
    assert rate.tolist() == pytest.approx([0.08, -1.9])
    assert noise.tolist() == [0.2, 2.0]
    assert to_stratonovich(CIR(1.5)).linear_part()[0].item() == -1.5
    assert to_stratonovich(OU(2.0)).linear_part()[0].item() == -2.0
    told = Plain(
        drift=lambda t, x: x,
        diffusion=lambda t, x: x,
        interpretation="stratonovich",
        linear_part=lambda: (torch.tensor(-3.0), torch.tensor(2.0)),
    )
    assert to_ito(told).linear_part()[0].item() == -1.0
    assert not hasattr(to_stratonovich(Heston()), "linear_part")
