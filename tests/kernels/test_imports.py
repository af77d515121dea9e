"""``import sdekit_kernels`` is cheap, and the package stands alone."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "kernels" / "sdekit_kernels"
HEAVY = ("triton", "numba", "llvmlite", "scipy", "matplotlib", "sdekit")


def loaded_after(program: str) -> set[str]:
    """Which heavy modules a fresh Python has loaded after running ``program``."""
    ask = f"import sys; print(*(m for m in {HEAVY!r} if m in sys.modules))"
    path = os.pathsep.join([str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")])
    result = subprocess.run(
        [sys.executable, "-c", f"{program}\n{ask}"],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(result.stdout.split())


@pytest.mark.parametrize(
    "program",
    [
        "import sdekit_kernels",
        "import sdekit_kernels, torch; sdekit_kernels.normal((2, 3), backend='torch')",
    ],
)
def test_import_loads_no_compiler(program):
    assert loaded_after(program) == set()


def test_cpu_noise_loads_no_triton():
    loaded = loaded_after("import sdekit_kernels; sdekit_kernels.normal((2, 3))")
    assert "numba" in loaded and "triton" not in loaded


def test_kernels_never_import_the_library():
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{file}: write the whole name of the module"
                names = [node.module or ""]
            assert all(name.split(".")[0] != "sdekit" for name in names), file
