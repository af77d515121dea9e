"""docs/solvers.md is the page of the table as it stands."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

from sdekit.solvers import SOLVERS

ROOT = Path(__file__).parents[2]


def generator():
    spec = importlib.util.spec_from_file_location("make_solvers", ROOT / "docs/make_solvers.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_table_gives():
    """Written by `make docs`: names, declared orders, costs; with the measurements beside it."""
    found = json.loads((ROOT / "docs/solvers.json").read_text())
    assert (ROOT / "docs/solvers.md").read_text() == generator().page(found)
    assert list(found["instructions"]) == list(SOLVERS)
    assert {r["method"] for r in found["orders"]} | {"rk4"} == set(SOLVERS)


def test_every_method_says_when_to_take_it():
    for solver in SOLVERS.values():
        assert solver.choose
        assert solver.paper
