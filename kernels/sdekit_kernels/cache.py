"""The folder in which compiled kernels outlive a process, and generated source in it.

``$SDEKIT_CACHE_DIR`` or ``~/.cache/sdekit``, with a folder for each version of this package's
sources: a compiled kernel holds code inlined from many files, and a change in any of them must not
leave stale machine code behind. Where nothing can be written, kernels live as long as the process.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import ModuleType

__all__ = ["cache_folder", "generated", "module_from_source"]


@lru_cache(maxsize=1)
def _version() -> str:
    root = Path(__file__).resolve().parent
    digest = hashlib.sha256()
    for source in sorted(root.rglob("*.py")):
        digest.update(source.relative_to(root).as_posix().encode())
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


@lru_cache(maxsize=8)
def cache_folder(kind: str) -> Path | None:
    """The folder for this kind of file, made if it is missing; None if it cannot be written."""
    base = os.environ.get("SDEKIT_CACHE_DIR")
    if base is None:
        home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        base = os.path.join(home, "sdekit")
    folder = Path(base) / f"{kind}-{_version()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return folder if os.access(folder, os.W_OK) else None
    except OSError:
        return None


@lru_cache(maxsize=1)
def _temporary_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="sdekit-"))


def generated(name: str, write: Callable[[], str]) -> ModuleType:
    """The module of this name, from the source that ``write`` gives; written once a process."""
    full = f"sdekit_kernels.generated.{name}"
    return sys.modules.get(full) or module_from_source(name, write())


def module_from_source(name: str, source: str) -> ModuleType:
    """Import generated source from a file in the cache, where debuggers and compilers find it.

    ``name`` must name this source and no other. The file is replaced as a whole, never half
    written, and left alone if it is there already: its age is part of what compilers look at.
    """
    full = f"sdekit_kernels.generated.{name}"
    if full in sys.modules:
        return sys.modules[full]
    path = None
    for folder in (cache_folder("source"), _temporary_folder):
        try:
            path = _write((folder() if callable(folder) else folder), name, source)
        except OSError:  # a full or read-only disk
            path = None
        if path is not None:
            break
    if path is None:
        raise OSError(
            "no place to write a generated kernel: neither the cache nor the temporary folder "
            "can be written; set SDEKIT_CACHE_DIR or TMPDIR to a folder with space"
        )
    spec = importlib.util.spec_from_file_location(full, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[full] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[full]
        raise
    return module


def _write(folder: Path | None, name: str, source: str) -> Path | None:
    if folder is None:
        return None
    path, content = folder / f"{name}.py", source.encode()
    if path.exists() and path.read_bytes() == content:
        return path
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{name}-", suffix=".py")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return path
