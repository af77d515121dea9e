"""docs/solvers.md is the page of the table as it stands."""

from __future__ import annotations

import importlib.util
import itertools
import json
from pathlib import Path

from sdekit.solvers import SOLVERS
from tests.solvers.cases import strong_cases, weak_cases

ROOT = Path(__file__).parents[2]


def generator():
    spec = importlib.util.spec_from_file_location("make_solvers", ROOT / "docs/make_solvers.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MEASURED = json.loads((ROOT / "docs/solvers.json").read_text())
CASES = [*strong_cases(), *weak_cases()]


def test_the_page_is_what_the_table_gives():
    """Written by `make docs`: names, declared orders, costs; with the measurements beside it."""
    assert (ROOT / "docs/solvers.md").read_text() == generator().page(MEASURED)
    assert list(MEASURED["instructions"]) == list(SOLVERS)


def test_the_measurements_are_those_of_the_cases():
    """None is missing, none is left from before, and none was taken under another declared order:
    `make docs` measures all, `python docs/make_solvers.py --missing` those that this finds.
    """
    measured = [generator().key_of(row) for row in MEASURED["orders"]]
    assert measured == [generator().key(case) for case in CASES]


def test_every_declared_order_is_measured():
    """For each noise and interpretation that a method takes; a strong order of 0 promises none."""
    found = {(c.kind, c.solver.name, c.noise_type, c.interpretation) for c in CASES}
    for solver in SOLVERS.values():
        for noise in solver.noise_types:
            for which in solver.interpretations if noise != "additive" else ("either",):
                forms = ("ito", "stratonovich") if which == "either" else (which,)
                for kind in ("strong", "weak") if solver.strong_order.get(noise) else ("weak",):
                    keys = {(kind, solver.name, noise, form) for form in forms}
                    assert keys & found, f"no case measures {keys}"


def test_tables_end_before_what_follows_them():
    lines = (ROOT / "docs/solvers.md").read_text().splitlines()
    after = [b for a, b in itertools.pairwise(lines) if a.startswith("|") and b[:1] != "|"]
    assert after == ["", ""]


def test_every_method_says_when_to_take_it():
    for solver in SOLVERS.values():
        assert solver.choose
        assert solver.paper
