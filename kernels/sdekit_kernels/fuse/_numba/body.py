"""One step of one path as machine operations, from the text in a generated kernel.

A step is straight-line code of up to some thousand operations. Numba's front end takes
milliseconds for each statement, so a generated kernel keeps its loops in Numba and hands their body
over as text, one operation a line,

    v3 = fma(c0, x1, v2)

which ``step_function`` turns into LLVM instructions one by one. Names: ``x`` state before the step,
``z`` normals, ``p`` numbers of the path, ``u`` numbers of the step, ``c`` constants, ``v`` results,
``y`` state after it; everything else is a literal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from sdekit_kernels.fuse._numba import math

__all__ = ["step_function"]

_LINE = re.compile(r"(\w+) = (\w+)\((.*)\)")
_COMPARE = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}
_INTRINSICS = {"floor": "floor", "ceil": "ceil", "trunc": "trunc", "round": "nearbyint",
               "sqrt": "sqrt", "abs": "fabs"}  # fmt: skip


def step_function(text: str, rows: Mapping[str, int], lanes: tuple[str, ...]) -> Any:
    """The intrinsic ``step(s, steps, k, constants, i, lane)`` that runs the text on path i.

    s: the block's scratch array (flat); rows: the place of the first number of each of its rows,
    by name (states in ``x0``, ... are read and written there). steps: (N, columns); k the row.
    lanes: names that are read ``lane`` further on.
    """

    @intrinsic
    def step(typingctx, s, steps, k, constants, i, lane):
        def codegen(context, builder, signature, args):
            kind = signature.args[0].dtype
            emit = _Emitter(typingctx, context, builder, kind)
            arrays = [
                context.make_array(t)(context, builder, value=v)
                for t, v in zip(signature.args, args, strict=True)
                if isinstance(t, types.Array)
            ]
            scratch, table, numbers = (a.data for a in arrays)
            columns = builder.extract_value(arrays[1].shape, 1)
            row = builder.mul(args[2], columns)
            names: dict[str, Any] = {}

            def place(name: str) -> Any:
                at = builder.add(args[4], ir.Constant(args[4].type, rows[name]))
                return builder.gep(scratch, [builder.add(at, args[5]) if name in lanes else at])

            def value(name: str) -> Any:
                if name in names:
                    return names[name]
                head, index = name[0], name[1:]
                if name in rows:
                    loaded = builder.load(place(name))
                elif head == "u" and index.isdigit():
                    at = builder.add(row, ir.Constant(row.type, int(index)))
                    loaded = emit.invariant(builder.gep(table, [at]))
                elif head == "c" and index.isdigit():
                    loaded = emit.invariant(
                        builder.gep(numbers, [ir.Constant(row.type, int(index))])
                    )
                else:
                    return emit.literal(name)
                names[name] = loaded
                return loaded

            for line in text.strip().splitlines():
                target, op, inside = _LINE.fullmatch(line.strip()).groups()
                operands = [value(a.strip()) for a in inside.split(",")]
                names[target] = emit(op, operands)
            for name in rows:
                if name.startswith("y"):
                    builder.store(names[name], place(name))
            return context.get_dummy_value()

        return types.void(s, steps, k, constants, i, lane), codegen

    return step


class _Emitter:
    """LLVM instructions for the operations of a body."""

    def __init__(self, typingctx: Any, context: Any, builder: Any, kind: Any) -> None:
        self.typingctx, self.context, self.builder, self.kind = typingctx, context, builder, kind
        self.type = ir.FloatType() if kind == types.float32 else ir.DoubleType()
        self.bits = 32 if kind == types.float32 else 64

    def literal(self, text: str) -> Any:
        """A number, or True or False."""
        if text in ("True", "False"):
            return ir.Constant(ir.IntType(1), int(text == "True"))
        return ir.Constant(self.type, float(text))

    def invariant(self, pointer: Any) -> Any:
        """A load of what no store of the kernel changes, so that it leaves the loop."""
        loaded = self.builder.load(pointer)
        loaded.set_metadata("invariant.load", self.builder.module.add_metadata([]))
        return loaded

    def __call__(self, op: str, a: list[Any]) -> Any:
        """The value of ``op`` on operands."""
        b = self.builder
        simple: dict[str, Callable[..., Any]] = {
            "add": b.fadd, "sub": b.fsub, "mul": b.fmul, "div": b.fdiv, "neg": b.fneg,
            "fma": b.fma, "and": b.and_, "or": b.or_, "not": b.not_, "where": b.select,
            "is": lambda v: v,
        }  # fmt: skip
        if op in _COMPARE:
            if a[0].type == ir.IntType(1):
                return b.icmp_unsigned(_COMPARE[op], *a)
            compare = b.fcmp_unordered if op == "ne" else b.fcmp_ordered
            return compare(_COMPARE[op], *a)
        if op in simple:
            return simple[op](*a)
        if op == "xor":
            return b.icmp_unsigned("!=", *a)
        if op == "isnan":
            return b.fcmp_unordered("uno", a[0], a[0])
        if op == "float":
            return b.select(a[0], ir.Constant(self.type, 1.0), ir.Constant(self.type, 0.0))
        if op == "test":  # a boolean that was stored as a number
            return b.fcmp_unordered("!=", a[0], ir.Constant(self.type, 0.0))
        if op in _INTRINSICS:
            name = f"llvm.{_INTRINSICS[op]}"
            return b.call(b.module.declare_intrinsic(name, [self.type]), a)
        return self._function(getattr(math, f"{op}{self.bits}"), a)

    def _function(self, function: Any, a: list[Any]) -> Any:
        """A call of a Numba function, inlined by LLVM."""
        kinds = (self.kind,) * len(a)
        dispatcher = types.Dispatcher(function)
        call = dispatcher.get_call_type(self.typingctx, kinds, {})
        compiled = function.get_compile_result(call)
        self.context.active_code_library.add_linking_library(compiled.library)
        status, result = self.context.call_internal_no_propagate(
            self.builder, compiled.fndesc, call, a
        )
        del status  # these functions raise nothing
        return result
