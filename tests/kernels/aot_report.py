"""What a script read in ahead-of-time compiled kernels, from a process without the interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def read_report(module: str) -> dict[tuple[str, str], dict[str, Any]]:
    """(variant, target) -> what ``module``, run as a script, printed of it."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "kernels")])
    result = subprocess.run(
        [sys.executable, "-m", module, "--jobs", "2"],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    found = {}
    for name, read in json.loads(result.stdout).items():
        variant, _, target = name.rpartition(" ")
        found[variant, target] = read
    return found
