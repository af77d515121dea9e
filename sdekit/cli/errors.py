"""One clear line on stderr and an exit code, instead of a traceback.

0 done; 1 something outside failed (a file, the disk, numbers that diverged); 2 wrong input;
130 stopped by Ctrl-C, as shells have it.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import sys
import traceback
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

import typer

from sdekit.train import CheckpointError

P = ParamSpec("P")
R = TypeVar("R")

FAILED: Final = 1
WRONG_INPUT: Final = 2
INTERRUPTED: Final = 130

DEBUG: ContextVar[bool] = ContextVar("debug", default=False)
"""Whether errors show their traceback: the option --debug."""


class InputError(ValueError):
    """Wrong input from the command line; the message says what to write instead."""


def say(message: str) -> None:
    """``message`` as one line on stderr; a stderr that is gone is no reason to fail."""
    with contextlib.suppress(OSError):
        print(f"sdekit: {' '.join(message.split())}", file=sys.stderr, flush=True)


def guarded(command: Callable[P, R]) -> Callable[P, R]:
    """A command whose exceptions become one line and an exit code."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except typer.Exit:
            raise
        except KeyboardInterrupt as interrupt:
            # A training that keeps its state says how to go on.
            say(str(interrupt) or "stopped by Ctrl-C")
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:
            if DEBUG.get():
                traceback.print_exc()
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                _drop_stdout()
            else:
                say(describe(error))
            raise typer.Exit(exit_code(error)) from None

    return run


def exit_code(error: Exception) -> int:
    """``WRONG_INPUT`` for values that the user can change, ``FAILED`` for all else."""
    if isinstance(error, CheckpointError):
        return FAILED
    return WRONG_INPUT if isinstance(error, (ValueError, TypeError)) else FAILED


def describe(error: Exception) -> str:
    """What went wrong, for a person."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}"
    if isinstance(error, (ValueError, TypeError, ArithmeticError, ModuleNotFoundError)):
        return str(error) or type(error).__name__
    return f"{type(error).__name__}: {error} (sdekit --debug shows where)"


def output_file(path: Path, *suffixes: str) -> Path:
    """``path``, checked before the work starts: the right ending, a folder that takes files.

    Raises InputError for another ending, OSError for a folder that is missing or not writable.
    """
    if path.suffix.lower() not in suffixes:
        raise InputError(f"{path} must end in {' or '.join(suffixes)}")
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder, not a file", str(path))
    _check_writable(path.parent)
    return path


def output_folder(path: Path) -> Path:
    """``path`` as a folder that exists and takes files; raises OSError otherwise."""
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "is a file, not a folder", str(path))
    path.mkdir(parents=True, exist_ok=True)
    _check_writable(path)
    return path


def _check_writable(folder: Path) -> None:
    """Raises OSError now, not after minutes of work."""
    if not folder.is_dir():
        raise FileNotFoundError(errno.ENOENT, "no such folder", str(folder))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "no permission to write here", str(folder))


def _drop_stdout() -> None:
    """The reader of a pipe has gone: let the interpreter's last flush go nowhere."""
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115
