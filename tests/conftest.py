"""What all tests share: the Triton interpreter, threads, hypothesis, the GPU."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import pytest
import torch

try:
    from hypothesis import settings
except ModuleNotFoundError:  # a GPU machine's own Python: ``make gpu`` runs what does without
    settings = None

from tests.interpreter import hasten

HAS_GPU = torch.cuda.is_available()
if not HAS_GPU:
    # Triton looks at this when a kernel is defined: it must be set before any kernel is imported.
    os.environ["TRITON_INTERPRET"] = "1"
    hasten()
if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)

if settings is not None:
    settings.register_profile(
        "sdekit", derandomize=True, deadline=None, database=None, max_examples=50
    )
    settings.load_profile("sdekit")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is marked gpu where there is none."""
    if HAS_GPU:
        return
    skip = pytest.mark.skip(reason="needs a CUDA or ROCm device")
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(skip)


def pytest_collection_finish() -> None:
    """Leave what imports and the collection made out of each search for garbage.

    A search among a million objects of torch, Numba and some thousand tests takes 0.3 s, and came
    so often that it was a tenth of the time of tests that compile.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(2_000, 20, 20)


@pytest.fixture(scope="session")
def triton_device() -> torch.device:
    """Where Triton kernels run: on the GPU, or interpreted on CPU tensors."""
    return torch.device("cuda" if HAS_GPU else "cpu")


@pytest.fixture
def restore_threads() -> Iterator[None]:
    """Give torch its number of threads back after a test that changes it."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
