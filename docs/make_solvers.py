"""Write docs/solvers.md from the table of solvers and what is measured of them.

    python docs/make_solvers.py            # measures everything again, some minutes
    python docs/make_solvers.py --missing  # the machine code, and orders that docs/solvers.json
                                           # has not, or that are declared otherwise now
    python docs/make_solvers.py --page     # the page alone, from docs/solvers.json

The cases are those of the tests (tests/solvers/cases.py); the machine instructions are read from
the loop of the sm_90 kernel of one component, compiled here, without a GPU.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]

import torch  # noqa: E402
from tqdm import tqdm  # noqa: E402

import sdekit as sk  # noqa: E402
from sdekit.solvers import SOLVERS, Equation, Solver  # noqa: E402
from sdekit.solvers.stability import largest_stable_step  # noqa: E402

NOISE = ("additive", "diagonal", "scalar", "general")
KEY = ("kind", "method", "problem", "noise", "interpretation", "declared")
RESULTS = ROOT / "docs" / "solvers.json"
PAGE = ROOT / "docs" / "solvers.md"


def measure(known: dict[str, Any]) -> None:
    """Orders of every case, and instructions of every method, into ``RESULTS``.

    known: what was measured before, of which the orders are not measured again.
    """
    from tests.solvers.cases import measure_strong, measure_weak, strong_cases, weak_cases

    before = {key_of(row): row for row in known["orders"]}
    found: dict[str, Any] = {"orders": [], "instructions": instructions()}
    cases = [(c, measure_strong) for c in strong_cases()]
    cases += [(c, measure_weak) for c in weak_cases()]
    found["orders"] = [before[key(case)] for case, _ in cases if key(case) in before]
    for case, how in tqdm([c for c in cases if key(c[0]) not in before], desc="orders"):
        order = how(case)
        found["orders"].append(
            {
                **dict(zip(KEY, key(case), strict=True)),
                "order": number(order.order),
                "half_width": number(order.half_width),
                "largest_error": max(order.error),
            }
        )
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")  # what is there if it is stopped
    place = {key(case): k for k, (case, _) in enumerate(cases)}
    found["orders"].sort(key=lambda row: place[key_of(row)])
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


def key(case: Any) -> tuple[Any, ...]:
    """What tells one measurement from another; with a new declared order it is another one."""
    names = (case.kind, case.solver.name, case.problem, case.noise_type, case.interpretation)
    return (*names, number(case.declared))


def key_of(row: dict[str, Any]) -> tuple[Any, ...]:
    """Likewise of a measurement as it is kept."""
    return tuple(row[name] for name in KEY)


def number(value: float) -> float | None:
    """JSON has no infinity: None stands for it, and for no number."""
    return float(value) if math.isfinite(value) else None


def equation_for(solver: Solver) -> tuple[Any, torch.Tensor]:
    """An equation of few components that the method takes, and a state of it."""
    x, zero = torch.full((9, 1), 0.5), torch.zeros(())
    ring = sk.MatrixOU([[1.0, 0.3], [-0.2, 0.8]], 0.0, [[0.5, 0.1], [0.1, 0.4]])
    flow = sk.ProbabilityFlow(sk.VP(), lambda t, x: -x)
    candidates = [
        (sk.GBM(0.1, 0.3), x),
        (sk.to_stratonovich(sk.GBM(0.1, 0.3)), x),
        (sk.CIR(1.1, 0.4, 0.3), x),
        (sk.DoubleWell(), x),
        (
            sk.UnderdampedLangevin(force=lambda q: -4.0 * q * (q * q - 1.0)),
            x[:, None].expand(-1, 2, 1),
        ),
        (_Matrix(), x.expand(-1, 2)),
        (ring, x.expand(-1, 2)),
        (flow, x),
    ]
    for sde, state in candidates:
        equation = Equation(sde)
        if solver.takes(equation) and not solver.obstacle(equation, zero, state):
            return sde, state.contiguous()
    raise LookupError(solver.name)


class _Matrix:
    """Two components, two Brownian motions that do not commute (Stratonovich)."""

    noise_type, interpretation, name = "general", "stratonovich", "a pair of waves"

    def drift(self, t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return -x

    def diffusion(self, t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.sin(x), torch.cos(x.flip(1))], -1)


def instructions() -> dict[str, Any]:
    """Of every method: instructions a path and step in its loop on sm_90, everything included."""
    from tests.kernels import aot
    from tests.kernels.fuse.aot_trajectory import Variant, compile_variant
    from tests.kernels.machine_code import machine_code, read_code, read_loop

    names, pieces = [], []
    for solver in tqdm(SOLVERS.values(), desc="machine code"):
        name, program = step_of(solver)
        variant = Variant(lambda program=program: program)
        names.append(name)
        pieces.append(compile_variant(solver.name, variant, "sm_90"))
    gpu = aot.TARGETS["sm_90"]
    codes = machine_code([piece.binary for piece in pieces], gpu)
    found = {}
    for name, piece, code in zip(names, pieces, codes, strict=True):
        each, spills = read_loop(code) / piece.told["steps"], read_code(code, gpu)["local"]
        found[piece.name] = {"each": round(each), "on": name, "spills": spills}
    return found


def step_of(solver: Solver) -> tuple[str, Any]:
    """An equation's name, and the method's step on it as the kernel runs it."""
    from sdekit.solve.trajectory import trace_transition
    from sdekit.solve.transition import Transition

    sde, x = equation_for(solver)
    t = torch.zeros(())
    transition = Transition(Equation(sde), solver, {}, None)
    program = trace_transition(transition, transition.start(t, x), t, None)
    return getattr(sde, "name", type(sde).__name__), program


def page(found: dict[str, Any]) -> str:
    """The whole of docs/solvers.md."""
    lines = [HEAD]
    lines += ["| method | noise | form | strong order | weak order | ODE order |"]
    lines += ["| --- | --- | --- | --- | --- | --- |"]
    for solver in SOLVERS.values():
        for noise in [n for n in NOISE if n in solver.weak_order] or ["none"]:
            forms = (
                "either" if noise in ("additive", "none") else " or ".join(solver.interpretations)
            )
            strong, weak = (orders(found, kind, solver, noise) for kind in ("strong", "weak"))
            start = f"| `{solver.name}` | {noise} | {forms} "
            lines.append(f"{start}| {strong} | {weak} | {solver.ode_order:g} |")
    lines += ["", COSTS]
    lines += ["| method | drift, diffusion a step | instructions on sm_90 | longest stable step "
              "| draws | keeps | when to choose it | paper |"]  # fmt: skip
    lines += ["| --- | --- | --- | --- | --- | --- | --- | --- |"]
    for solver in SOLVERS.values():
        code = found["instructions"][solver.name]
        stable = "" if solver.needs else step_text(largest_stable_step(solver, -1.0))
        lines.append(
            f"| `{solver.name}` | {solver.drift_evaluations}, {solver.diffusion_evaluations} "
            f"| {code['each']} ({code['on']}) | {stable} | {', '.join(solver.draws)} "
            f"| {solver.preserves} | {solver.choose} | {solver.paper} |"
        )
    return "\n".join(lines) + TAIL


def orders(found: dict[str, Any], kind: str, solver: Solver, noise: str) -> str:
    """Declared, and what was measured on each problem."""
    declared = (solver.strong_order if kind == "strong" else solver.weak_order).get(noise)
    if declared is None:
        return ""
    text = "exact" if math.isinf(declared) else "law only" if declared == 0 else f"**{declared:g}**"
    rows = [
        r
        for r in found["orders"]
        if (r["kind"], r["method"], r["noise"]) == (kind, solver.name, noise)
    ]
    parts = []
    for r in rows:
        both = len({x["interpretation"] for x in rows}) > 1
        where = f"{r['problem']}, {r['interpretation']}" if both else r["problem"]
        if r["declared"] is not None and r["declared"] != declared:
            where += f" (**{r['declared']:g}**)"
        if r["declared"] is None or r["order"] is None or r["largest_error"] < 1e-12:
            parts.append(f"{where}: off by {r['largest_error']:.0e}")
        else:
            interval = f" ± {r['half_width']:.2f}" if r["half_width"] else ""
            parts.append(f"{where}: {r['order']:.2f}{interval}")
    return "; ".join([text, *parts])


def step_text(step: float) -> str:
    """The longest stable step as the page shows it."""
    return "" if math.isnan(step) else "any" if math.isinf(step) else f"{step:.2f}"


HEAD = """# The solvers

Written by `make docs` from the classes in `sdekit/solvers/` and from measurements; do not edit.
Each method is one short file with its formula and its paper, and runs as one kernel for whole
trajectories. `sk.solve(..., method="auto")` takes the one of the highest strong order, then
weak order, that the equation's noise and interpretation allow, and says which and why in
`sol.stats.reason`.

Bold: the order that the class declares. Beside it the slopes that were measured. Strong: root
mean square error at T over five step sizes on one Brownian path, with the 99 % confidence
interval of sixteen batches of paths; *random field*: eight small random networks without
structure, a share of the paths each, against a fine run of a step that is no solver of the
library; *mixed field*: such with diagonal noise in which each g_i depends on all components, which
some methods take, but as noise that does not commute; its order stands in brackets where it is
lower. Weak: the method's transition operator against Kolmogorov's backward equation or closed
moments, by quadrature, so that nothing is sampled and there is no interval; the *random field* is
one of one component and of time, that of *two components* steady; of some other fields, terms
of a higher order hide the declared one at these steps.

The tests hold the whole interval (of weak orders the slope) within 0.15 of the declared order,
below and above, on random fields and on the equations of methods that need more of one than drift
and diffusion. On the others, which have closed solutions (shrinking, sinh, spiral, heisenberg,
linear), structure may give more than is declared: there they hold that it is no less.

`sk.convergence.strong_error(sde, x0, method)` and `weak_error` measure the same on your
equation.
"""

COSTS = """## Costs, stability, choice

Evaluations of drift and diffusion a step; a derivative counts as one, and for M Brownian
motions of general noise `dri1` takes 1 + 4 M diffusions, `milstein_area` 1 + M. Instructions:
of a path and step in the loop of the kernel that is compiled for sm_90, noise and all, on the
equation in brackets (other equations cost more or less; read from the machine code). Longest
stable step: |lambda dt| on dx = lambda x dt, lambda < 0. A solve with a longer step than is
stable, where the equation's linear part is known, warns and names the longest.
"""

TAIL = """

![error against time](images/work_precision.png)

Error against wall time on two CPU cores, beside torchsde and diffrax; what is compiled was compiled
before: `benchmarks/bench_precision.py`.
"""


def main() -> None:
    """Measure, unless only the page is wanted, and write it."""
    os.environ.pop("TRITON_INTERPRET", None)  # machine code is wanted
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--page", action="store_true", help="from the last measurements")
    parser.add_argument("--missing", action="store_true", help="measure no order again")
    given = parser.parse_args()
    if not given.page:
        nothing = {"orders": [], "instructions": {}}
        measure(json.loads(RESULTS.read_text()) if given.missing else nothing)
    PAGE.write_text(page(json.loads(RESULTS.read_text())))
    print(f"wrote {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
