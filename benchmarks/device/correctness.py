"""Does the GPU give what the CPU gives? The project's own gpu tests, and bits against bits."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import torch
from sdekit_kernels import normal
from torch import Tensor

from benchmarks.device.context import Context
from benchmarks.device.record import Record
from benchmarks.updates import UPDATES, first

TESTS = "tests marked gpu"
BITS = "CPU against GPU"
TEST_FILES = (
    "tests/kernels/test_normal_gpu.py",
    "tests/kernels/test_steps_gpu.py",
    "tests/sample/test_loop.py",
)
"""Those with tests marked gpu, which import nothing that only the tests of a CPU need."""
TESTS_TEXT = "`pytest -m gpu` in a process of its own."
BITS_TEXT = (
    "The same call on the CPU and on the device. float32, bfloat16 and float16 must agree bit for "
    "bit, but for the snr corrector, whose norms are summed in another order; float64 within a few "
    "units in the last place. ulp: the largest difference, in units of the last place of the CPU's "
    "number or of 1 where that is larger."
)


def run_tests(context: Context, record: Record, limit: float) -> None:
    """Counts of the tests marked gpu; a run that outlasts ``limit`` seconds is stopped."""
    report = record.json_path.with_name("gpu-tests.xml").resolve()
    report.unlink(missing_ok=True)
    what = ["tests/kernels/test_geometry.py"] if context.dry_run else ["-m", "gpu", *TEST_FILES]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *what]
    root = Path(__file__).resolve().parents[2]
    paths = [str(root), str(root / "kernels"), os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in paths if p)}
    try:
        done = subprocess.run(
            [*command, f"--junitxml={report}"],
            cwd=root,
            env=env,
            timeout=limit,
            capture_output=True,
            text=True,
            check=False,
        )
    except subprocess.TimeoutExpired as stopped:
        out: Any = stopped.stdout or b""  # bytes, whatever text=True says
        tail = (out.decode(errors="replace") if isinstance(out, bytes) else out)[-300:]
        record.row(TESTS, ok=False, what=f"stopped after {limit:.0f} s; last output: {tail!r}")
        return
    if not report.is_file():
        tail = " ".join((done.stdout + done.stderr)[-300:].split())
        record.row(TESTS, ok=False, what=f"pytest ended with {done.returncode}: {tail}")
        return
    suite = ET.parse(report).getroot().find("testsuite")
    assert suite is not None
    count = {key: int(suite.get(key, "0")) for key in ("tests", "failures", "errors", "skipped")}
    bad = [
        f"{case.get('classname')}::{case.get('name')}"
        for case in suite.iter("testcase")
        if case.find("failure") is not None or case.find("error") is not None
    ]
    passed = count["tests"] - count["failures"] - count["errors"] - count["skipped"]
    record.row(
        TESTS,
        passed=passed,
        failed=count["failures"] + count["errors"],
        skipped=count["skipped"],
        seconds=float(suite.get("time", "0")),
        ok=not bad and passed > 0,
    )
    for name in bad[:20]:
        record.row(TESTS, failed_test=name)


def compare_bits(context: Context, record: Record) -> None:
    """Normals and steps of both sides, for dimensions on every path through the kernels."""
    n = 1 << 9 if context.dry_run else 1 << 20
    # Interpreted, a row takes half a second: a dry run has two types of four, and one of two.
    normals = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
    states = (torch.float32, torch.bfloat16)
    if context.dry_run:
        normals, states = normals[::3], states[:1]
    for dtype in normals:
        for dim in (1, 3, 4, 784, 785):
            shape = (max(2, n // (dim * 64 if context.dry_run else dim)), dim)
            draw: dict[str, Any] = {
                "seed": 2**63 + 11,
                "stream": 4,
                "step": 6,
                "first_sample": 2**32 - 3,
            }
            ours = normal(shape, dtype=dtype, backend=context.cpu_backend, **draw)
            theirs = normal(
                shape, dtype=dtype, device=context.device, backend=context.backend, **draw
            )
            _row(context, record, "normal", shape, ours, theirs)
    for op in ("em_step", "predictor_step", "langevin_step, given step", "langevin_step"):
        for dtype in states:
            for dim, kind in ((1, "number"), (784, "sample"), (785, "component")):
                if op.startswith("langevin") and kind == "component":
                    continue
                shape = (max(2, n // (dim * 64 if context.dry_run else dim)), dim)
                _step_row(context, record, op, shape, dtype, kind)


def _step_row(
    context: Context,
    record: Record,
    op: str,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    kind: str,
) -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(shape, generator=generator).to(dtype)
    s = torch.randn(shape, generator=generator).to(dtype)
    noise: dict[str, Any] = {"seed": 5, "stream": 1, "step": 9}
    ours = first(UPDATES[op](x, kind).fused(x, s, backend=context.cpu_backend, **noise))
    x, s = x.to(context.device), s.to(context.device)
    theirs = first(UPDATES[op](x, kind).fused(x, s, backend=context.backend, **noise))
    _row(context, record, f"{op}, a coefficient a {kind}", shape, ours, theirs)


def _row(
    context: Context,
    record: Record,
    what: str,
    shape: tuple[int, ...],
    ours: Tensor,
    theirs: Tensor,
) -> None:
    theirs = theirs.cpu()
    same = torch.equal(ours, theirs)
    unit = torch.finfo(ours.dtype).eps * ours.double().abs().clamp(min=1.0)
    ulp = float(((ours.double() - theirs.double()).abs() / unit).max())
    if what.startswith("langevin_step, a"):
        ok = ulp <= (64.0 if ours.dtype == torch.float32 else 1.0)
    elif ours.dtype == torch.float64 or context.dry_run:
        ok = ulp <= 8.0  # the interpreter does not fuse multiply-adds
    else:
        ok = same
    record.row(
        BITS,
        what=what,
        shape=str(tuple(shape)),
        dtype=str(ours.dtype).removeprefix("torch."),
        cpu=context.cpu_backend,
        equal=same,
        ulp=ulp,
        ok=ok,
    )
