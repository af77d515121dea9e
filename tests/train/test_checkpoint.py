"""Checkpoints: what is read is what was written, and what is none is refused by name."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sdekit.likelihood import DataTransform
from sdekit.score import MLP, UNet
from sdekit.sde import DDPM, OU, VE, VP, CosineBeta
from sdekit.train import (
    SDES,
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    make_sde,
    save_checkpoint,
)


def make(name: str = "vp", seed: int = 3) -> Checkpoint:
    sde = make_sde(name)
    net = MLP((2, 3), 8, 2, sde=sde, data_std=0.7, seed=seed)
    with torch.no_grad():
        net.outlet.weight.fill_(0.25)
    return Checkpoint(net, sde, DataTransform(17, -1.0, 2.0), {"data": "digits", "steps": 12})


@pytest.mark.parametrize("name", sorted(SDES))
def test_round_trip(tmp_path: Path, name: str) -> None:
    path = tmp_path / "model.safetensors"
    given = make(name)
    save_checkpoint(path, given)
    got = load_checkpoint(path)
    x = torch.linspace(-1, 1, 24).view(4, 2, 3)
    t = torch.tensor(0.3 * given.sde.T)
    assert torch.equal(got.net(t, x), given.net(t, x))
    assert torch.equal(got.sde.std(t), given.sde.std(t))
    assert got.sde.prior_std == given.sde.prior_std
    assert repr(got.transform) == repr(given.transform)
    assert got.info == given.info
    assert not any(p.requires_grad for p in got.net.parameters())
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def test_numbers_of_a_schedule_are_kept(tmp_path: Path) -> None:
    for sde in (VP(CosineBeta(s=0.02, beta_clip=50.0)), VE("edm", sigma_min=0.01, sigma_max=7.0)):
        net = MLP((3,), 4, 1, sde=sde)
        save_checkpoint(tmp_path / "m.safetensors", Checkpoint(net, sde, DataTransform(4)))
        got = load_checkpoint(tmp_path / "m.safetensors").sde
        assert type(got) is type(sde) and vars(got.schedule) == vars(sde.schedule)


def test_a_chain_keeps_its_levels_bit_for_bit(tmp_path: Path) -> None:
    chain = DDPM([1e-4, 0.1, 1 / 3, 0.7])
    path = tmp_path / "m.safetensors"
    save_checkpoint(path, Checkpoint(MLP((3,), 4, 1, sde=chain.sde), chain.sde))
    got = load_checkpoint(path)
    assert torch.equal(got.sde.schedule.betas, chain.betas)
    # Data that are x themselves have no transform.
    assert got.transform is None and got.info == {}


def test_a_u_net_comes_back(tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    sde = VP()
    net = UNet((1, 8, 8), sde=sde, channels=(8, 16), layers=1, data_std=0.6, seed=2)
    with torch.no_grad():
        net.unet.conv_out.weight.fill_(0.1)
    save_checkpoint(tmp_path / "model.safetensors", Checkpoint(net, sde, DataTransform(256)))
    # The folder of a training names its model.
    got = load_checkpoint(tmp_path).net
    x, t = torch.linspace(-1, 1, 128).view(2, 1, 8, 8), torch.tensor(0.3)
    assert isinstance(got, UNet) and torch.equal(got(t, x), net(t, x))


def test_a_network_without_a_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="networks MLP, UNet"):
        save_checkpoint(tmp_path / "m", Checkpoint(torch.nn.Linear(2, 2), VP()))


def test_a_network_made_for_another_equation_is_refused(tmp_path: Path) -> None:
    given = make()
    with pytest.raises(ValueError, match=r"another equation, VP\(.*instead of VE\("):
        save_checkpoint(tmp_path / "m", Checkpoint(given.net, VE(), given.transform))
    chain, other = DDPM([0.1, 0.2]), DDPM([0.1, 0.3])
    with pytest.raises(ValueError, match=r"betas=\[2 numbers\]"):
        save_checkpoint(tmp_path / "m", Checkpoint(MLP((3,), 4, 1, sde=chain.sde), other.sde, None))
    assert list(tmp_path.iterdir()) == []


def test_other_tools_can_read_the_header(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, make())
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["sdekit"])
    assert header["format"] == "sdekit.score" and header["sde"]["name"] == "VP"


def test_an_old_file_survives_a_write_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, make())
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        save_checkpoint(path, make(seed=4))
    assert caught.value.errno == 28 and caught.value.filename == str(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.safetensors", tmp_path / "cut.safetensors"
    save_checkpoint(whole, make())
    data = whole.read_bytes()
    for size in [0, 1, 7, 8, 9, 100, len(data) // 2, len(data) - 1]:
        cut.write_bytes(data[:size])
        with pytest.raises(CheckpointError, match=r"cut\.safetensors"):
            load_checkpoint(cut)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    path.write_bytes(b"PK\x03\x04 this was torch.save" * 10)
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load_checkpoint(path)
    save_file({"w": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match="not a checkpoint of sdekit"):
        load_checkpoint(path)
    for text, message in [
        ("{", "cannot read"),
        ('{"format": "sdekit.bridge", "version": 1}', "kind 'sdekit.bridge'"),
        ('{"format": "sdekit.score", "version": 9}', "version 9"),
        ('{"format": "sdekit.score", "version": 1}', "does not hold together"),
    ]:
        save_file({"w": torch.zeros(3)}, path, metadata={"sdekit": text})
        with pytest.raises(CheckpointError, match=message):
            load_checkpoint(path)
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path / "missing.safetensors")
    (tmp_path / "state.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"no model was saved in .* yet"):
        load_checkpoint(tmp_path)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    given = make()
    save_checkpoint(path, given)
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    state = {k: v.clone() for k, v in given.net.state_dict().items()}
    state["outlet.weight"][0, 0] = torch.nan
    save_file(state, path, metadata=metadata)
    with pytest.raises(CheckpointError, match="NaN or infinite"):
        load_checkpoint(path)
    state.pop("outlet.weight")
    save_file(state, path, metadata=metadata)
    with pytest.raises(CheckpointError, match="does not hold together"):
        load_checkpoint(path)


def test_an_equation_without_a_name_is_refused(tmp_path: Path) -> None:
    sde = OU()
    checkpoint = Checkpoint(MLP((2,), 4, 1, sde=sde), sde, DataTransform(17))
    with pytest.raises(TypeError, match="VP, SubVP and VE"):
        save_checkpoint(tmp_path / "m.safetensors", checkpoint)
    with pytest.raises(ValueError, match="Did you mean 'vp-cosine'"):
        make_sde("vp-cosin")
