"""Philox4x32-10: published known answers, and the same words from every implementation."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sdekit_kernels.philox.normal import check_draw
from sdekit_kernels.philox.reference import derive_key, philox_int

from tests.kernels.probes import numba_words, torch_words, triton_words

# Counter, key, words: from the known-answer file of Random123 (Salmon et al. 2011).
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000",
     "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff",
     "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0",
     "d16cfe09 94fdcceb 5001e420 24126ea1"),
]  # fmt: skip


def _table(column: int) -> torch.Tensor:
    return torch.tensor([[int(word, 16) for word in row[column].split()] for row in KNOWN])


def _implementations(device):
    return {
        "torch": torch_words,
        "numba": numba_words,
        "triton": lambda counters, keys: triton_words(counters, keys, device),
    }


@pytest.mark.parametrize("name", ["torch", "numba", "triton"])
def test_known_answers(name, triton_device):
    words = _implementations(triton_device)[name]
    assert torch.equal(words(_table(0), _table(1)), _table(2))


def test_known_answers_of_the_integer_version():
    for counter, key, words in zip(*(_table(i).tolist() for i in range(3)), strict=True):
        assert list(philox_int(tuple(counter), tuple(key))) == words


def test_all_implementations_agree_on_random_counters(triton_device):
    generator = torch.Generator().manual_seed(5)
    counters = torch.randint(0, 1 << 32, (500, 4), generator=generator)
    keys = torch.randint(0, 1 << 32, (500, 2), generator=generator)
    expected = torch.tensor(
        [
            philox_int(tuple(c), tuple(k))
            for c, k in zip(counters.tolist(), keys.tolist(), strict=True)
        ]
    )
    for name, words in _implementations(triton_device).items():
        assert torch.equal(words(counters, keys), expected), name


def test_key_is_the_first_two_words_at_counter_stream():
    assert derive_key(0, 0) == (0x6627E8D5, 0xE169C58D)
    seed, stream = 0x299F31D0A4093822, 0x243F6A88
    assert derive_key(seed, stream) == philox_int((stream, 0, 0, 0), (0xA4093822, 0x299F31D0))[:2]


@given(st.integers(-(1 << 63), (1 << 64) - 1), st.integers(0, (1 << 32) - 1))
def test_a_seed_is_its_64_bits(seed, stream):
    key = derive_key(seed, stream)
    assert all(0 <= word < 1 << 32 for word in key)
    assert key == derive_key(seed % (1 << 64), stream)
    assert check_draw(seed, stream, 0, 0, 1).key == key


def test_neighbouring_seeds_and_streams_have_different_keys():
    # 64-bit keys of 2 x 10^4 pairs: by chance two agree with probability 1e-11.
    numbers = [*range(50), *(1 << i for i in range(6, 32)), *range((1 << 32) - 20, 1 << 32)]
    seeds = [*numbers, *(n << 32 for n in numbers if n)]
    keys = {derive_key(seed, stream) for seed in seeds for stream in numbers}
    assert len(keys) == len(seeds) * len(numbers)
