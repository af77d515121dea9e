"""Whole-trajectory fusion: a step written in torch becomes one kernel that runs from t0 to t1.

``tracer`` runs the step once on symbolic tensors, ``aten`` says what each torch operation means
for their components, ``graph`` holds the scalar expressions, ``program`` turns them into a kernel's
body with its table of arguments, and ``_numba`` and ``_triton`` print and run it.
"""
