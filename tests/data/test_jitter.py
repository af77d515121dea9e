"""Jitter: a share of the images moves, by its own draw, and grey levels stay grey levels."""

from __future__ import annotations

import pytest
import torch

from sdekit.data import Jitter, load, noise_images


def test_jitter_moves_a_share_and_stays_within_the_levels() -> None:
    images = load("digits").train[:400]
    out = Jitter(17, 0.5)(images, seed=1, step=2)
    changed = (out != images).flatten(1).any(1)
    # Binomial(400, 1/2): 5 standard deviations of the share are 0.125.
    assert abs(changed.double().mean().item() - 0.5) < 0.125
    assert int(out.min()) >= 0 and int(out.max()) <= 16
    assert torch.equal(out, Jitter(17, 0.5)(images, seed=1, step=2))
    assert not torch.equal(out, Jitter(17, 0.5)(images, seed=1, step=3))
    assert torch.equal(Jitter(17, 0.0)(images, seed=1, step=2), images)
    fading = Jitter(17, 0.5, final=0.1, fade=0.4)
    assert [fading.share(way) for way in (0.0, 0.4)] == [0.5, 0.5]
    assert [fading.share(way) for way in (0.7, 1.0)] == pytest.approx([0.3, 0.1])
    assert torch.equal(Jitter(17, 0.5, final=0.0)(images, seed=1, step=2, way=1.0), images)
    with pytest.raises(ValueError, match="probability"):
        Jitter(17, 1.5)
    still = Jitter(17, 1.0, rotation=0.0, scale=0.0, shear=0.0, shift=0.0)
    assert torch.equal(still(images, seed=1, step=2), images)
    with pytest.raises(ValueError, match=r"\(B, H, W\)"):
        Jitter(17)(images.flatten(1), seed=0, step=0)


def test_channels_move_together() -> None:
    one = noise_images(20, levels=256, event_shape=(1, 9, 7))
    out = Jitter(256, 1.0)(one.repeat(1, 3, 1, 1), seed=1, step=2)
    # Between pixels a grey level is rounded up or down, for each channel by itself.
    assert int((out[:, 0] - out[:, 2]).abs().max()) <= 1
    assert not torch.equal(out[:, :1], one)
