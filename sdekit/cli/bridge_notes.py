"""What ``sdekit bridge`` keeps of each half-step for its pictures: one small file a half-step."""

from __future__ import annotations

from pathlib import Path
from typing import final

from safetensors import SafetensorError
from safetensors.torch import load as parse
from safetensors.torch import save as serialize
from torch import Tensor

from sdekit.files import write_atomically

Note = dict[str, Tensor]


@final
class Notes:
    """The folder ``half_steps`` in the folder of a fit: tensors by name, for half-step 1, 2, ..

    A fit that was stopped and goes on finds those of the half-steps before. One that is missing, or
    damaged, is a half-step that no picture shows.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "half_steps"

    def write(self, half_step: int, note: Note) -> None:
        """Keep the note of a half-step in the place of an older one; raises OSError."""
        self.folder.mkdir(exist_ok=True)
        tensors = {name: value.detach().cpu().contiguous() for name, value in note.items()}
        write_atomically(self._path(half_step), serialize(tensors))

    def has(self, half_step: int) -> bool:
        """Whether there is a note of this half-step."""
        return self._path(half_step).is_file()

    def read(self, half_steps: int) -> dict[int, Note]:
        """The notes that there are of half-steps 1 .. half_steps."""
        found: dict[int, Note] = {}
        for n in range(1, half_steps + 1):
            try:
                found[n] = parse(self._path(n).read_bytes())
            except (OSError, SafetensorError):
                continue
        return found

    def _path(self, half_step: int) -> Path:
        return self.folder / f"{half_step:04d}.safetensors"
