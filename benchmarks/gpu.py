"""Everything that is measured on a GPU, in one command of at most 8 minutes.

    make gpu OUT=folder            or  PYTHONPATH=.:kernels python3 benchmarks/gpu.py --out folder

Needs Python 3.11, torch and triton with a CUDA (or ROCm) device, and no network. With pytest it
runs the tests marked gpu; with Numba it compares bits with the CPU's kernels, else with plain
torch. Writes ``folder/DEVICE.json`` and ``folder/DEVICE.md`` after every row. Exit code 0: all
answers right; 1: some were not, or a section did not end; 2: there is no device.

``--dry-run`` goes through every section on the CPU with tiny tensors: its times mean nothing.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

TOTAL = 460.0
"""Seconds for all sections, imports and process start apart."""


class Section(NamedTuple):
    """A part of the run: its name, what its columns mean, its limit in seconds, its function."""

    name: str
    text: str
    limit: float
    run: Callable[[float], None]


class SectionTimeout(Exception):
    """The section's time is up; what it wrote stays."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise SectionTimeout in the block after ``seconds``."""

    def stop(*_: Any) -> None:
        raise SectionTimeout

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.01))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def clocks() -> str:
    """The card's clocks, power and temperature as they are now, read and never set."""
    fields = "clocks.sm,clocks.mem,power.draw,temperature.gpu,driver_version"
    try:
        done = subprocess.run(
            ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown: nvidia-smi does not answer"
    first = done.stdout.splitlines()[:1]
    return f"{first[0].strip()} ({fields})" if first else "unknown: nvidia-smi does not answer"


def versions() -> dict[str, str]:
    """Of what the numbers depend on."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for name in ("torch", "triton", "numba", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found


def summary(rows: list[dict[str, Any]]) -> str:
    """The aim of 0.85 of the copy, in one line."""
    ratios = sorted(row["ratio"] for row in rows)
    if not ratios:
        return "none measured"
    reached = sum(ratio >= 0.85 for ratio in ratios)
    return (
        f"{reached} of {len(ratios)} at 0.85 of a copy or more; "
        f"median {ratios[len(ratios) // 2]:.3g}, lowest {ratios[0]:.3g}"
    )


def run_sections(sections: list[Section], record: Any) -> None:
    """Each within its own limit and what is left of the whole."""
    end = perf_counter() + TOTAL
    for section in sections:
        limit = min(section.limit, end - perf_counter())
        record.open(section.name, section.text)
        if limit <= 1.0:
            record.close(section.name, "skipped: the time was up", 0.0)
            continue
        began = perf_counter()
        print(f"{section.name} (at most {limit:.0f} s)", flush=True)
        try:
            with time_limit(limit):
                section.run(limit)
            status = "done"
        except SectionTimeout:
            status = f"stopped after {limit:.0f} s: the rows above are complete"
        except Exception as error:
            # The other sections are still worth having: this one is reported, and the exit code
            # is 1. A SectionTimeout may arrive wrapped in an exception of a library that it hit.
            if perf_counter() - began >= limit:
                status = f"stopped after {limit:.0f} s: the rows above are complete"
            else:
                status = f"failed: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        record.about["clocks after the last section"] = clocks()
        record.close(section.name, status, perf_counter() - began)


def main() -> int:
    """Parse the arguments, run everything, and say where it is."""
    parser = argparse.ArgumentParser(description="sdekit's measurements on one GPU")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes on the CPU, interpreted")
    arguments = parser.parse_args()
    if arguments.dry_run:
        # Triton looks at this when a kernel is defined: before the first import of one.
        os.environ["TRITON_INTERPRET"] = "1"
        from tests.interpreter import hasten

        hasten()
    import torch

    if not arguments.dry_run and not torch.cuda.is_available():
        print("gpu.py: torch finds no CUDA or ROCm device here: nothing measured", file=sys.stderr)
        return 2
    from benchmarks.device import bandwidth, correctness, loops, trajectories
    from benchmarks.device.context import Context
    from benchmarks.device.record import Record, file_name

    torch.manual_seed(0)
    context = Context(torch.device("cpu" if arguments.dry_run else "cuda"), arguments.dry_run)
    name = "dry-run" if arguments.dry_run else torch.cuda.get_device_name()
    about = {"device": name, "date": date.today().isoformat(), **versions(), "clocks": clocks()}
    if arguments.dry_run:
        about["dry run"] = "on the CPU, interpreted, with tiny tensors: the times mean nothing"
    record = Record(arguments.out, file_name(name), about)

    def plain(run: Callable[[Context, Record], None]) -> Callable[[float], None]:
        return lambda limit: run(context, record)

    run_sections(
        [
            Section(correctness.BITS, correctness.BITS_TEXT, 45, plain(correctness.compare_bits)),
            Section(
                correctness.TESTS,
                correctness.TESTS_TEXT,
                130,
                lambda limit: correctness.run_tests(context, record, limit - 2.0),
            ),
            Section(trajectories.GOAL, trajectories.GOAL_TEXT, 30, plain(trajectories.goal)),
            Section(bandwidth.COPY, bandwidth.COPY_TEXT, 15, plain(bandwidth.copies)),
            Section(bandwidth.NOISE, bandwidth.NOISE_TEXT, 30, plain(bandwidth.noise)),
            Section(bandwidth.STEPS, bandwidth.STEPS_TEXT, 130, plain(bandwidth.steps)),
            Section(loops.LAUNCH, loops.LAUNCH_TEXT, 20, plain(loops.launch)),
            Section(loops.ENSEMBLE, loops.ENSEMBLE_TEXT, 30, plain(loops.ensemble)),
            Section(
                trajectories.SYSTEMS, trajectories.SYSTEMS_TEXT, 90, plain(trajectories.systems)
            ),
            Section(loops.SAMPLER, loops.SAMPLER_TEXT, 40, plain(loops.sampler)),
            Section(bandwidth.COMPILED, bandwidth.COMPILED_TEXT, 60, plain(bandwidth.compiled)),
        ],
        record,
    )
    about["steps"] = summary(record.sections[bandwidth.STEPS]["rows"])
    record.write()
    print(record.md_path.read_text(encoding="utf-8"))
    for line in record.wrong:
        print(f"gpu.py: {line}", file=sys.stderr)
    return 1 if record.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
