"""A training's state on disk: a folder with a JSON file that names a tensors file and its hash.

    state.json                      step, seconds, settings, the loss's status, versions
    state-000120-1f3c5a7e.safetensors    weights, their average, the optimizer's moments, the losses
    model.safetensors               the model so far, for sampling and scoring

Written in this order: the tensors under a new name, then the JSON in one rename, then the old
tensors are removed. Whoever is killed in between, or meets a full disk, finds the last whole pair.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError
from safetensors.torch import load as parse
from safetensors.torch import save as serialize
from torch import Tensor

from sdekit.files import write_atomically
from sdekit.train.checkpoint import CheckpointError

FORMAT: Final = "sdekit.training"
VERSION: Final = 1
STATE: Final = "state.json"


def write_state(
    folder: Path, facts: Mapping[str, Any], tensors: Mapping[str, Tensor], form: str = FORMAT
) -> None:
    """Write the pair; what was there stays until the new pair is whole.

    facts: plain values, with "step" among them. form: what kind of work the folder keeps. Raises
    OSError, naming the file, if it cannot be written.
    """
    data = serialize({k: v.detach().cpu().contiguous() for k, v in tensors.items()})
    digest = hashlib.sha256(data).hexdigest()
    # The hash in the name: a file that a JSON names is never written anew with something else.
    name = f"state-{facts['step']:06d}-{digest[:8]}.safetensors"
    write_atomically(folder / name, data)
    file = {"file": name, "bytes": len(data), "sha256": digest}
    write_facts(folder, {**facts, "tensors": file}, form)
    remove_others(folder, name)


def write_facts(folder: Path, facts: Mapping[str, Any], form: str = FORMAT) -> None:
    """Write the JSON alone: new facts about the tensors that it names."""
    whole = {"format": form, "version": VERSION, **facts}
    write_atomically(folder / STATE, (json.dumps(whole, indent=1, allow_nan=False) + "\n").encode())
    _sync(folder)


def read_state(folder: Path, form: str = FORMAT) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """The facts and the tensors of the last whole pair; None if the folder has none yet.

    Raises CheckpointError that says in what way the pair is damaged or of another kind.
    """
    path = folder / STATE
    try:
        facts = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        raise CheckpointError(f"{path} is damaged: it is no JSON; {_AGAIN}") from None
    kind = (facts.get("format"), facts.get("version")) if isinstance(facts, dict) else (None, None)
    if kind != (form, VERSION):
        raise CheckpointError(
            f"{path} is of kind {kind[0]!r}, version {kind[1]!r}; this sdekit goes on with "
            f"{form!r}, version {VERSION}: give another folder, or the sdekit that wrote it"
        )
    try:
        file = folder / Path(facts["tensors"]["file"]).name
        data = file.read_bytes()
        whole = hashlib.sha256(data).hexdigest() == facts["tensors"]["sha256"]
    except FileNotFoundError:
        raise CheckpointError(f"{path} names {file.name}, which is missing; {_AGAIN}") from None
    except (KeyError, TypeError):
        raise CheckpointError(f"{path} does not say where its tensors are; {_AGAIN}") from None
    if not whole:
        raise CheckpointError(f"{file} is damaged or cut short: its hash differs; {_AGAIN}")
    try:
        return facts, parse(data)
    except (SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(f"{file} is no safetensors file ({error}); {_AGAIN}") from None


_AGAIN: Final = "remove the folder to begin again"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Within the block no other process has this folder locked; the end of a process unlocks it.

    Raises BlockingIOError where another one has. File systems that know no locks have none.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            text = "another process trains in this folder: wait for it, or give another one"
            raise BlockingIOError(error.errno, text, str(folder)) from None
        except OSError:
            pass
        yield
    finally:
        os.close(handle)


def remove_others(folder: Path, kept: str) -> None:
    """Remove tensors of earlier steps, and what a killed process left half written."""
    for path in [
        *folder.glob("state-*.safetensors"),
        *folder.glob(".state*"),
        *folder.glob(".model*"),
    ]:
        if path.name != kept:
            with contextlib.suppress(OSError):
                path.unlink()


def _sync(folder: Path) -> None:
    """Make the renames last: a power cut must not leave the JSON without its tensors."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
