"""Kernels on several cores, in torch's own threads.

A pool of Numba's own would fight with torch's: OpenMP workers spin for milliseconds after each
parallel region, so on a machine of few cores the workers of one pool keep those of the other from
running (measured on two cores: a 1 ms kernel between torch operations took 24 ms). Therefore a
kernel runs inside a parallel region of the OpenMP runtime that torch has loaded, whichever it is:
GNU, LLVM and Intel all export ``GOMP_parallel``. Where torch was built without OpenMP, kernels run
on one core.

A kernel takes (first block, end block, *arguments) and treats its blocks independently: how they
are dealt out changes no bit. ``fork`` compiles the parallel region into the kernel's launcher, so
that no worker ever waits for Python's lock.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import llvmlite.binding
import torch
from llvmlite import ir
from numba.core import cgutils, compiler, types
from numba.extending import intrinsic

__all__ = ["fork", "has_openmp", "run_blocks", "thread_number"]

THREAD_ELEMENTS = 16384
"""Elements that a thread must have to be worth waking, some 25 us of work."""

_PARALLEL, _THREAD, _THREADS = "sdekit_parallel", "sdekit_thread", "sdekit_threads"
_Body = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@ctypes.CFUNCTYPE(None, _Body, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
def _serial(body: Any, data: Any, threads: int, flags: int) -> None:
    body(data)


@ctypes.CFUNCTYPE(ctypes.c_int)
def _zero() -> int:
    return 0


@ctypes.CFUNCTYPE(ctypes.c_int)
def _one() -> int:
    return 1


@lru_cache(maxsize=1)
def has_openmp() -> bool:
    """Whether torch's OpenMP runtime was found; gives its functions the names that kernels use."""
    library = os.path.join(os.path.dirname(torch.__file__), "lib", "libtorch_cpu.so")
    handle = ctypes.CDLL(library) if os.path.exists(library) else None
    names = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")
    found = handle is not None and all(hasattr(handle, name) for name in names)
    functions = [getattr(handle, n) for n in names] if found else [_serial, _zero, _one]
    for name, function in zip((_PARALLEL, _THREAD, _THREADS), functions, strict=True):
        llvmlite.binding.add_symbol(name, ctypes.cast(function, ctypes.c_void_p).value)
    return found


has_openmp()  # before any kernel is loaded, from disk or from the compiler: it needs the names


def run_blocks(
    launch: Callable[..., bool],
    blocks: int,
    elements: int,
    *arguments: Any,
    most: int | None = None,
) -> None:
    """Run a kernel's blocks [0, blocks) on at most torch.get_num_threads() cores, or ``most``.

    launch: the kernel's launcher, ``launch(threads, blocks, *arguments)``. Raises MemoryError if a
    thread could not get its scratch arrays.
    """
    wanted = min(torch.get_num_threads(), blocks, elements // THREAD_ELEMENTS)
    wanted = wanted if most is None else min(wanted, most)
    if not launch(max(1, wanted) if has_openmp() else 1, blocks, *arguments):
        raise MemoryError("no memory for the scratch arrays of a kernel's block")


@intrinsic
def thread_number(typingctx):
    """The calling thread's number in its parallel region; 0 outside of any."""

    def codegen(context, builder, signature, values):
        asked = ir.FunctionType(ir.IntType(32), [])
        function = cgutils.get_or_insert_function(builder.module, asked, _THREAD)
        return builder.sext(builder.call(function, []), context.get_value_type(types.intp))

    return types.intp(), codegen


@intrinsic
def fork(typingctx, kernel, threads, blocks, arguments):
    """kernel(first, end, *arguments) on each thread of a parallel region; False if one failed.

    Emits two functions into the caller, as a C compiler does for an OpenMP pragma: ``share`` runs
    the kernel on some blocks, ``region`` finds which of them are the calling thread's. Both take a
    pointer to (blocks, failed, arguments) on the caller's stack. One thread needs no region.
    """
    call = types.none(types.intp, types.intp, *arguments)

    def codegen(context, builder, signature, values):
        _, threads_value, blocks_value, tuple_value = values
        i8, i32, word = ir.IntType(8), ir.IntType(32), blocks_value.type
        void, pointer = ir.VoidType(), ir.IntType(8).as_pointer()
        shared_type = ir.LiteralStructType([word, i8, tuple_value.type])
        compiled = _compile_into(context.active_code_library, context, kernel.dispatcher, call)

        def function(name: str, *inputs: Any) -> tuple[Any, Any, Any]:
            """An internal function of the frame's pointer and more: it, its builder, the frame."""
            unique = builder.module.get_unique_name(name)
            made = ir.Function(builder.module, ir.FunctionType(void, [pointer, *inputs]), unique)
            made.linkage = "internal"
            inner = ir.IRBuilder(made.append_basic_block("entry"))
            return made, inner, inner.bitcast(made.args[0], shared_type.as_pointer())

        share, inner, frame = function("sdekit_share", word, word)
        # Both calls of it would take a copy of the kernel each.
        share.attributes.add("noinline")
        given = cgutils.unpack_tuple(inner, inner.load(inner.gep(frame, [i32(0), i32(2)])))
        status, _ = context.call_internal_no_propagate(
            inner, compiled, call, [*share.args[1:], *given]
        )
        with cgutils.if_unlikely(inner, status.is_error):
            inner.store(i8(1), inner.gep(frame, [i32(0), i32(1)]))
        inner.ret_void()

        region, inner, frame = function("sdekit_region")

        def ask(symbol: str) -> Any:
            asked = ir.FunctionType(i32, [])
            found = cgutils.get_or_insert_function(builder.module, asked, symbol)
            return inner.sext(inner.call(found, []), word)

        total, mine, team = (
            inner.load(inner.gep(frame, [i32(0), i32(0)])),
            ask(_THREAD),
            ask(_THREADS),
        )
        first = inner.sdiv(inner.mul(total, mine), team)
        end = inner.sdiv(inner.mul(total, inner.add(mine, word(1))), team)
        inner.call(share, [region.args[0], first, end])
        inner.ret_void()

        frame = cgutils.alloca_once(builder, shared_type)
        for index, value in enumerate((blocks_value, i8(0), tuple_value)):
            builder.store(value, builder.gep(frame, [i32(0), i32(index)]))
        data = builder.bitcast(frame, pointer)
        several = builder.icmp_signed(">", threads_value, word(1))
        with builder.if_else(several) as (then, otherwise):
            with then:
                opened = ir.FunctionType(void, [region.type, pointer, i32, i32])
                parallel = cgutils.get_or_insert_function(builder.module, opened, _PARALLEL)
                count = builder.trunc(threads_value, i32)
                builder.call(parallel, [region, data, count, i32(0)])
            with otherwise:
                builder.call(share, [data, word(0), blocks_value])
        failed = builder.load(builder.gep(frame, [i32(0), i32(1)]))
        return builder.icmp_unsigned("==", failed, i8(0))

    return types.boolean(kernel, threads, blocks, arguments), codegen


def _compile_into(library: Any, context: Any, dispatcher: Any, call: Any) -> Any:
    """Compile a kernel as a part of the library that calls it; its description, to call it by.

    As a function of its own, which a dispatcher makes, it would be optimized and translated twice,
    alone and again within its caller, and have a wrapper for Python besides: measured, 45 % of the
    time of a whole compilation.
    """
    flags = compiler.Flags()
    dispatcher.targetdescr.options.parse_as_flags(flags, dispatcher.targetoptions)
    flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
    compiled = compiler.compile_internal(
        context.typing_context,
        context,
        library,
        dispatcher.py_func,
        call.args,
        call.return_type,
        flags,
        {},
    )
    # Nobody else calls it: what was inlined needs no copy to stand alone.
    library.get_function(compiled.fndesc.llvm_func_name).linkage = "linkonce_odr"
    return compiled.fndesc
