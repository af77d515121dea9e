"""Scripts beside the tests that run in a process of their own, and children of those."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WRITES: list[tuple[Any, str]] = [
    (tempfile, "mkstemp"),
    (os, "fdopen"),
    (os, "fsync"),
    (os, "chmod"),
    (os, "replace"),
    (os, "unlink"),
    (Path, "unlink"),
]
"""What a save calls to change the disk."""


def run_script(file: Path, *arguments: object) -> Any:
    """What a script prints in its last line, as JSON; it runs with one thread."""
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "kernels")]),
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, str(file), *map(str, arguments)],
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def fork(work: Callable[[], Any]) -> int:
    """The process id of a child that does ``work`` and ends with 0."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return child


def kill_at_random(work: Callable[[], Any], longest: float, note: Callable[[], Any]) -> int:
    """Kill children that do ``work`` by SIGKILL until one comes to its end; how that one ended.

    Each has a random time of at most ``longest`` seconds, the first one less: it is killed before
    there is a checkpoint, perhaps. note: called after each kill.
    """
    chance, span = Random(7), 0.02
    while True:
        child = fork(work)
        time.sleep(chance.uniform(0.0, span))
        span = longest
        done, status = os.waitpid(child, os.WNOHANG)
        if done == 0:
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            return os.WEXITSTATUS(status)
        note()


def killed_at_write(n: int, work: Callable[[], Any]) -> bool:
    """Do ``work`` in a child that dies just before its n-th call that changes the disk.

    Whether it came that far.
    """

    def dying() -> None:
        count = 0

        def counting(call: Callable[..., Any]) -> Callable[..., Any]:
            def counted(*args: Any, **kwargs: Any) -> Any:
                nonlocal count
                count += 1
                if count == n:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*args, **kwargs)

            return counted

        for module, name in WRITES:
            setattr(module, name, counting(getattr(module, name)))
        work()

    return os.WIFSIGNALED(os.waitpid(fork(dying), 0)[1])


def as_ranks(world: int, work: Callable[[int], Any]) -> None:
    """Do ``work(rank)`` in so many children, with torchrun's environment in each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def ranked(rank: int) -> None:
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        os.environ.update(place, RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world))
        work(rank)

    children = [fork(lambda rank=rank: ranked(rank)) for rank in range(world)]
    codes = [os.WEXITSTATUS(os.waitpid(child, 0)[1]) for child in children]
    assert codes == [0] * world, codes
