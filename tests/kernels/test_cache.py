"""Generated source on disk: whatever stands there, the module is that of the source given."""

from __future__ import annotations

import sys

import pytest
from sdekit_kernels import cache

NAME = "test_cache_module"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty cache."""
    monkeypatch.setenv("SDEKIT_CACHE_DIR", str(tmp_path))
    cache.cache_folder.cache_clear()
    yield cache.cache_folder("source")
    cache.cache_folder.cache_clear()
    sys.modules.pop(f"sdekit_kernels.generated.{NAME}", None)


@pytest.mark.parametrize("found", [None, b"", b"x = ", b"\xff\xfe\x00 no text"])
def test_a_damaged_file_is_replaced(folder, found):
    file = folder / f"{NAME}.py"
    if found is not None:
        file.write_bytes(found)
    assert cache.module_from_source(NAME, "x = 3\n").x == 3
    assert file.read_bytes() == b"x = 3\n"
    assert [p.name for p in folder.iterdir() if p.is_file()] == [file.name]


def test_a_file_that_is_there_keeps_its_age(folder):
    cache.module_from_source(NAME, "x = 3\n")
    file = folder / f"{NAME}.py"
    before = file.stat().st_mtime_ns, file.stat().st_ino
    del sys.modules[f"sdekit_kernels.generated.{NAME}"]
    cache.module_from_source(NAME, "x = 3\n")
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == before


KERNEL = "from sdekit_kernels._cpu.jit import kernel\n\n@kernel\ndef f(x):\n    return x + 1\n"


@pytest.mark.parametrize("ending", ["nbi", "nbc"])
def test_damaged_machine_code_is_compiled_again(folder, ending):
    def misses():
        sys.modules.pop(f"sdekit_kernels.generated.{NAME}", None)
        f = cache.module_from_source(NAME, KERNEL).f
        assert f(2) == 3
        return len(f.stats.cache_misses)

    assert misses() == 1 and misses() == 0
    damaged = list(folder.parent.rglob(f"*.{ending}"))
    assert len(damaged) == 1
    damaged[0].write_bytes(damaged[0].read_bytes()[:20])
    assert misses() == 1 and misses() == 0


def test_a_full_disk_costs_a_compilation_and_no_more(folder, monkeypatch):
    from numba.core import caching

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(caching.IndexDataCacheFile, "save", full)
    assert cache.module_from_source(NAME, KERNEL).f(2) == 3


def test_a_change_in_any_source_is_another_folder(tmp_path, monkeypatch):
    """Numba keeps its own version, types and processor with each compiled function."""
    monkeypatch.setattr(cache, "__file__", str(tmp_path / "cache.py"))
    inlined = tmp_path / "philox" / "_numba.py"
    inlined.parent.mkdir()
    version, found = cache._version.__wrapped__, []
    for text in ("x = 1\n", "x = 2\n", "x = 1\n"):
        inlined.write_text(text)
        found.append(version())
    assert found[0] == found[2] != found[1]
    inlined.rename(tmp_path / "_numba.py")
    assert version() not in found
