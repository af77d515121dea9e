"""What imports what: cheap imports, arrows that point one way, and no randomness but our own."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("triton", "numba", "matplotlib", "diffusers", "torchdiffeq", "sklearn", "mlxtend", "PIL")

# sdekit_kernels <- noise <- sde <- {solvers, score} <- solve <- {sample, likelihood}
#   <- data <- quality <- train <- bridge <- {compat, viz} <- cli.
# A part imports itself and parts of lower rank.
RANKS = {
    "noise": 0,
    "grid": 0,
    "files": 0,
    "sde": 1,
    "ode": 1,
    "solvers": 2,
    "score": 2,
    "solve": 3,
    "fokker_planck": 3,
    "convergence": 4,
    "sample": 4,
    "likelihood": 4,
    "data": 5,
    "quality": 6,
    "train": 7,
    "bridge": 8,
    "compat": 9,
    "viz": 9,
    "cli": 10,
}

# Every way to torch's, numpy's, triton's or Python's own generators that a library could take.
FOREIGN_RANDOMNESS = {
    "rand",
    "randn",
    "rand_like",
    "randn_like",
    "randint",
    "randint_like",
    "randperm",
    "bernoulli",
    "multinomial",
    "poisson",
    "normal_",
    "uniform_",
    "bernoulli_",
    "exponential_",
    "random_",
    "cauchy_",
    "geometric_",
    "log_normal_",
    "standard_normal",
    "rsample",
    "default_rng",
    "RandomState",
    "manual_seed",
    "dropout",
    "alpha_dropout",
    "feature_dropout",
    "kaiming_normal_",
    "kaiming_uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "orthogonal_",
    "trunc_normal_",
}
# A seed from the generator that the user of a diffusers pipeline hands in; never noise.
ALLOWED = {("sdekit.compat.diffusers.seeds", "torch.randint")}
FOREIGN_BY_FULL_NAME = {"torch.normal", "torch.Generator", "np.random.normal"}


def sources(*folders: str) -> list[Path]:
    found = [p for folder in folders for p in sorted((ROOT / folder).rglob("*.py"))]
    assert found
    return found


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[1:] if parts[0] == "kernels" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree: ast.AST, path: Path) -> Iterator[tuple[int, str]]:
    """(line, full name) of every import, wherever in the file it stands."""
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{name}.{alias.name}"


def part_of(name: str) -> str | None:
    """The part of sdekit that a full name belongs to; None for the package itself."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else None


@pytest.mark.parametrize("package", ["sdekit", "sdekit_kernels"])
def test_import_loads_nothing_heavy(package: str) -> None:
    # What torch alone loads is not ours to answer for.
    code = (
        "import json, sys, torch; before = set(sys.modules)\n"
        f"import {package}\n"
        "print(json.dumps(sorted({m.split('.')[0] for m in set(sys.modules) - before})))"
    )
    path = os.pathsep.join([str(ROOT), str(ROOT / "kernels")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert package in loaded
    assert not set(HEAVY) & set(loaded)


def test_kernels_never_import_the_library() -> None:
    for path in sources("kernels"):
        for line, name in imported(ast.parse(path.read_text()), path):
            assert name.split(".")[0] != "sdekit", f"{path}:{line} imports {name}"


def test_arrows_point_one_way() -> None:
    for path in sources("sdekit"):
        own = part_of(module_name(path))
        if own is None:
            continue  # sdekit/__init__.py names parts of every rank, and only those
        assert own in RANKS, f"{path}: part {own!r} has no rank: give it one in {__file__}"
        for line, name in imported(ast.parse(path.read_text()), path):
            if name.split(".")[0] != "sdekit":
                continue
            other = part_of(name)
            allowed = other == own or RANKS.get(other or "", 99) < RANKS[own]
            # The command line and other faces may name what the public package names.
            allowed = allowed or (RANKS[own] >= 9 and other not in RANKS)
            assert allowed, f"{path}:{line}: {own} must not import {name}"


def dotted(node: ast.expr) -> str:
    """torch.nn.init for the expression torch.nn.init; its last name for anything deeper."""
    if isinstance(node, ast.Attribute):
        base = dotted(node.value)
        return f"{base}.{node.attr}" if base else node.attr
    return node.id if isinstance(node, ast.Name) else ""


def foreign_randomness(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            name = dotted(node)
            if node.attr in FOREIGN_RANDOMNESS or name in FOREIGN_BY_FULL_NAME:
                yield node.lineno, name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            module = node.module if isinstance(node, ast.ImportFrom) else None
            for alias in node.names:
                name = f"{module}.{alias.name}" if module else alias.name
                known = name in {"random", "numpy.random", "torch.random", *FOREIGN_BY_FULL_NAME}
                ours = name.split(".")[0] in ("sdekit", "sdekit_kernels")
                if known or (alias.name in FOREIGN_RANDOMNESS and not ours):
                    yield node.lineno, name


@pytest.mark.parametrize("path", sources("sdekit", "kernels"), ids=module_name)
def test_no_foreign_randomness(path: Path) -> None:
    found = foreign_randomness(ast.parse(path.read_text()))
    assert [hit for hit in found if (module_name(path), hit[1]) not in ALLOWED] == []


@pytest.mark.parametrize(
    "code",
    [
        "torch.randn(3)",
        "x.normal_()",
        "torch.normal(0.0, 1.0, (3,))",
        "torch.randn_like(x)",
        "from torch import rand",
        "import random",
        "np.random.default_rng(0)",
        "tl.randn(seed, offset)",
        "torch.nn.init.kaiming_uniform_(w)",
    ],
)
def test_the_test_sees_foreign_randomness(code: str) -> None:
    assert list(foreign_randomness(ast.parse(code)))


def test_the_test_lets_our_own_pass() -> None:
    code = (
        "from sdekit_kernels import normal\nz = normal((3,), seed=0)\nsdekit_kernels.normal((3,))"
    )
    assert not list(foreign_randomness(ast.parse(code)))
