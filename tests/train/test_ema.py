"""The moving average of weights is the recursion that its docstring states."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sdekit.train import EMA


def linear() -> nn.Linear:
    layer = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        layer.weight.fill_(0.0)
    return layer


def test_average_follows_its_recursion() -> None:
    layer = linear()
    ema = EMA(layer, 0.9)
    want = 0.0
    for k in range(1, 200):
        with torch.no_grad():
            layer.weight.fill_(float(k % 7))
        ema.update()
        # As in Song et al. 2021's code, which counts the update before it takes the decay.
        decay = min(0.9, (1 + k) / (10 + k))
        want = decay * want + (1 - decay) * (k % 7)
        assert ema.average[0].item() == pytest.approx(want, rel=1e-5, abs=1e-5)


def test_warm_up_forgets_the_start() -> None:
    # With d_k = (1 + k) / (3 + k) the start keeps the share prod d_k = 6 / ((n + 2) (n + 3)).
    layer = linear()
    with torch.no_grad():
        layer.weight.fill_(1.0)
    ema = EMA(layer, 0.9999, warmup=2)
    with torch.no_grad():
        layer.weight.fill_(0.0)
    for _ in range(50):
        ema.update()
    assert ema.average[0].item() == pytest.approx(6.0 / (52 * 53), rel=1e-4)


def test_swapped_gives_the_own_weights_back() -> None:
    layer = linear()
    ema = EMA(layer, 0.5, warmup=0)
    with torch.no_grad():
        layer.weight.fill_(4.0)
    ema.update()
    with pytest.raises(RuntimeError, match="on the way"), ema.swapped():
        assert layer.weight.item() == 2.0
        raise RuntimeError("on the way")
    assert layer.weight.item() == 4.0
    ema.copy_to_module()
    assert layer.weight.item() == 2.0


def test_decay_zero_is_no_average() -> None:
    layer = linear()
    ema = EMA(layer, 0.0)
    with torch.no_grad():
        layer.weight.fill_(3.0)
    ema.update()
    assert ema.average[0].item() == 3.0


@pytest.mark.parametrize("decay", [1.0, 1.5, -0.1, float("nan")])
def test_decay_out_of_range_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match="decay"):
        EMA(linear(), decay)
