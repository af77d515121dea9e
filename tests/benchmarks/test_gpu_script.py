"""``benchmarks/gpu.py`` goes through all its sections without a GPU, and says so where it must."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.device.correctness import TEST_FILES

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "kernels")])}
    env.pop("TRITON_INTERPRET", None)
    return subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), *arguments],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def dry(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    folder = tmp_path_factory.mktemp("gpu")
    done = run("--dry-run", "--out", str(folder))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    data = json.loads((folder / "dry-run.json").read_text())
    return data, (folder / "dry-run.md").read_text()


def test_every_section_ends_with_rows_and_right_answers(dry: tuple[dict[str, Any], str]) -> None:
    data, _ = dry
    assert len(data["sections"]) == 11
    for name, section in data["sections"].items():
        assert section["status"] == "done", name
        assert section["rows"], name
        assert all(row.get("ok", True) for row in section["rows"]), name


def test_steps_cover_every_type_and_kind_of_coefficient(dry: tuple[dict[str, Any], str]) -> None:
    rows = dry[0]["sections"]["steps"]["rows"]
    assert {row["dtype"] for row in rows} == {"float32", "float64", "bfloat16", "float16"}
    assert {row["coefficients"] for row in rows} == {"number", "tensor", "sample", "component"}


def test_trajectories_run_in_one_kernel(dry: tuple[dict[str, Any], str]) -> None:
    sections = dry[0]["sections"]
    names = ("trajectories, the goal", "trajectories, six equations")
    rows = [row for name in names for row in sections[name]["rows"]]
    assert len(rows) == 8
    assert {row["path"] for row in rows} == {"trajectory_kernel"}
    assert all(row["rounding"] < 1e-5 for row in rows)


def test_the_table_has_a_line_for_each_row(dry: tuple[dict[str, Any], str]) -> None:
    data, text = dry
    rows = sum(len(section["rows"]) for section in data["sections"].values())
    # Each table adds a header and a rule to its rows.
    tables = sum(line.startswith("| ---") for line in text.splitlines())
    assert sum(line.startswith("|") for line in text.splitlines()) == rows + 2 * tables


HIDDEN = """
import sys
class Hidden:
    def find_spec(self, name, *rest):
        if name.partition(".")[0] in {
            "numba", "llvmlite", "hypothesis", "scipy", "typer", "safetensors", "torchdiffeq",
            "torchsde", "diffusers", "matplotlib", "tqdm", "sklearn", "xdist", "pytest_benchmark",
        }:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hidden())
"""


def test_a_gpu_machine_needs_no_more_than_torch_triton_and_pytest(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(HIDDEN)
    paths = [str(tmp_path), str(ROOT), str(ROOT / "kernels")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    env |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
    command = [sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "-m", "gpu", *TEST_FILES],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    # Those of the noise are held to Numba's, and skipped without it.
    found = {line.partition("::")[0] for line in done.stdout.splitlines() if "::" in line}
    assert found == set(TEST_FILES[1:])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device here")
def test_without_a_device_one_line_and_exit_code_2(tmp_path: Path) -> None:
    done = run("--out", str(tmp_path))
    assert done.returncode == 2
    assert "no CUDA or ROCm device" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
