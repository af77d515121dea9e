"""How kernels are compiled: nothing may reorder, estimate or fuse what the noise spells out.

On a given machine a fast-math flag may well leave every bit as it was, so comparing bits would not
find it; the next machine's compiler may use it.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import numba
import torch
from llvmlite import ir
from numba.core import config, types
from numba.extending import intrinsic
from sdekit_kernels import normal
from sdekit_kernels._cpu.jit import _Compiler
from sdekit_kernels.philox._numba_normal import fill_normals

from tests.kernels.probes import _numba_pairs32, _numba_pairs64, numba_pairs

PACKAGE = Path(__file__).parents[2] / "kernels" / "sdekit_kernels"


def test_numba_arithmetic_carries_no_fast_math_flags():
    """In LLVM's text a flag stands between the operation and its type: ``fmul fast float``."""
    zero = torch.zeros(1, dtype=torch.int64)
    for probe, dtype in ((_numba_pairs32, torch.float32), (_numba_pairs64, torch.float64)):
        numba_pairs(zero, zero, dtype)
        (text,) = probe.inspect_llvm().values()
        types = re.findall(r"= f(?:mul|add|sub|div|neg) (\S+)", text)
        assert types and all(t in ("float", "double") or t.startswith("<") for t in types)
        assert "rsqrt" not in text


def test_numba_kernels_are_compiled_without_fast_math():
    """Only sums outside the noise may be reordered, and nothing else be relaxed."""
    assert fill_normals.targetoptions["fastmath"] is False
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "fastmath":
                flags = ast.literal_eval(node.value)
                noise = file.relative_to(PACKAGE).parts[0] in ("philox", "_cpu")
                assert flags is False or (flags == {"reassoc"} and not noise), file


@intrinsic
def _level(typingctx):
    """LLVM's level of optimization while this is compiled."""
    word = ir.IntType(64)
    return types.int64(), lambda context, builder, sig, args: ir.Constant(word, int(config.OPT))


def test_kernels_are_compiled_at_level_2_and_other_functions_as_before():
    before = config.OPT
    assert numba.njit(pipeline_class=_Compiler)(lambda: _level())() == min(before, 2)
    assert config.OPT is before and numba.njit(lambda: _level())() == before


def test_every_triton_launch_forbids_fusion():
    """``kernel[grid](...)``: Triton fuses products with sums unless told not to."""
    launches = 0
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Subscript)):
                continue
            options = {k.arg: k.value for k in node.keywords}
            if "BLOCK" in options:
                fusion = options.get("enable_fp_fusion")
                assert isinstance(fusion, ast.Constant) and fusion.value is False, file
                launches += 1
    assert launches > 0


def test_a_second_process_would_find_the_kernel_in_the_cache(tmp_path, monkeypatch):
    """The cache's folder is named after the sources, so that a changed helper is never stale."""
    from sdekit_kernels.cache import cache_folder

    normal((2, 3))
    folder = cache_folder("numba")
    assert folder is not None and re.fullmatch(r"numba-[0-9a-f]{16}", folder.name)
    monkeypatch.setenv("SDEKIT_CACHE_DIR", str(tmp_path))
    assert cache_folder.__wrapped__("numba") == tmp_path / folder.name
