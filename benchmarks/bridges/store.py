"""Rows of a study, written down after each one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sdekit.files import write_atomically

Row = dict[str, Any]
Table = Callable[[dict[str, Any], list[Row]], str]


class Store:
    """``target`` as JSON, and as the table beside it; rows of an earlier run of the same study."""

    def __init__(self, target: Path, about: dict[str, Any], table: Table) -> None:
        self.target, self.about, self._table = target, about, table
        self.rows: list[Row] = []
        if target.is_file():
            kept = json.loads(target.read_text(encoding="utf-8"))
            self.rows = list(kept["rows"]) if kept["about"] == about else []

    def has(self, **key: Any) -> bool:
        """Whether a row of this key is there."""
        return any(all(row.get(k) == v for k, v in key.items()) for row in self.rows)

    def add(self, row: Row) -> None:
        """Write a row down."""
        self.rows.append(row)
        self.write()

    def write(self) -> None:
        """JSON and table, each whole or not at all."""
        self.target.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"about": self.about, "rows": self.rows}, indent=1) + "\n"
        write_atomically(self.target, text.encode())
        table = self._table(self.about, self.rows)
        write_atomically(self.target.with_suffix(".md"), table.encode())
