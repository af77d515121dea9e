"""Runs the benchmarks of this folder and writes their report: ``make bench``.

    python benchmarks/run.py [--only noise steps ...] [--out benchmarks/results]

About 13 minutes on two cores. Use a machine that does nothing else: the load before the start is
written into the report.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> int:
    """pytest's exit code, or the report's."""
    known = sorted(p.stem.removeprefix("bench_") for p in HERE.glob("bench_*.py"))
    parser = argparse.ArgumentParser(description="sdekit beside its rivals")
    parser.add_argument("--only", nargs="+", choices=known, default=known)
    parser.add_argument("--out", type=Path, default=HERE / "results")
    arguments = parser.parse_args()
    paths = [str(HERE.parent), str(HERE.parent / "kernels"), os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in paths if p)}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "benchmark.json"
        files = [str(HERE / f"bench_{name}.py") for name in arguments.only]
        tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
        tests += [f"--benchmark-json={data}", "--benchmark-columns=median,iqr,rounds"]
        code = subprocess.run(tests, cwd=HERE.parent, env=env, check=False).returncode
        if code != 0:
            print("benchmarks: a wrong answer has no time: nothing written", file=sys.stderr)
            return code
        report = [sys.executable, "-m", "benchmarks.report", str(data), str(arguments.out)]
        return subprocess.run(report, cwd=Path.cwd(), env=env, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
