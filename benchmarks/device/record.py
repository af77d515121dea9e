"""What was measured, written after every row, so that an early end loses nothing."""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path
from typing import Any


class Record:
    """Sections of rows, in ``FOLDER/NAME.json`` and ``FOLDER/NAME.md``."""

    def __init__(self, folder: Path, name: str, about: dict[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.json_path, self.md_path = folder / f"{name}.json", folder / f"{name}.md"
        self.about = about
        self.sections: dict[str, dict[str, Any]] = {}
        self.write()

    def open(self, name: str, text: str) -> None:
        """Begin a section; ``text`` says what its columns mean."""
        self.sections[name] = {"text": text, "rows": [], "status": "unfinished"}
        self.write()

    def row(self, name: str, **values: Any) -> None:
        """Add a row: a wrong answer carries ``ok=False``."""
        self.sections[name]["rows"].append(values)
        self.write()

    def close(self, name: str, status: str, seconds: float) -> None:
        """End a section with "done" or the reason why it was not."""
        self.sections[name] |= {"status": status, "seconds": round(seconds, 1)}
        self.write()

    @property
    def wrong(self) -> list[str]:
        """Sections that did not end well, and rows whose answer was wrong."""
        bad = [f"{n}: {s['status']}" for n, s in self.sections.items() if s["status"] != "done"]
        for name, section in self.sections.items():
            bad += [f"{name}: {row}" for row in section["rows"] if row.get("ok") is False]
        return bad

    def write(self) -> None:
        """Both files, each replaced in one step."""
        whole = {"about": self.about, "sections": self.sections}
        _replace(self.json_path, json.dumps(_finite(whole), indent=1) + "\n")
        _replace(self.md_path, self._markdown())

    def _markdown(self) -> str:
        lines = [f"# {self.about.get('device', 'device')}", ""]
        lines += [f"- {key}: {value}" for key, value in self.about.items() if key != "device"]
        for name, section in self.sections.items():
            lines += ["", f"## {name}", "", section["text"], ""]
            if section["status"] != "done":
                lines += [f"**{section['status']}**", ""]
            # Rows of one kind share their columns; another kind begins another table.
            before: list[str] = []
            for row in section["rows"]:
                columns = list(row)
                if columns != before:
                    lines += [""] if before else []
                    lines += ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
                    before = columns
                lines.append("| " + " | ".join(show(row[c]) for c in columns) + " |")
        return "\n".join(lines) + "\n"


def show(value: Any) -> str:
    """A number with four digits, a yes or a no, or the text itself."""
    if isinstance(value, bool):
        return "yes" if value else "**no**"
    if isinstance(value, float):
        if value != 0.0 and math.isfinite(value) and not 1e-3 <= abs(value) < 1e5:
            return f"{value:.3g}"
        return f"{value:.4g}"
    return "" if value is None else str(value).replace("|", "/")


def file_name(device: str) -> str:
    """From "NVIDIA H200" make "h200"."""
    plain = re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")
    return re.sub(r"^(nvidia|amd)-(geforce-|radeon-)?", "", plain) or "device"


def _finite(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, list | tuple) else value


def _replace(path: Path, text: str) -> None:
    part = path.with_suffix(path.suffix + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
