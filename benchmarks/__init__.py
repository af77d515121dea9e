"""Benchmarks: one script a question, rivals in the same run, the answer checked before the clock.

``make bench`` runs the ``bench_*.py`` on this machine's CPU and writes ``results/``;
``make gpu OUT=folder`` runs ``gpu.py`` on a machine with a CUDA device.
"""
