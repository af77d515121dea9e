"""What the first likelihood of a problem costs in this process: run by ``bench_likelihood.py``.

    python -m benchmarks.likelihood.first_child PROBLEM

Prints one line of JSON: seconds of the first ``log_likelihood`` after the imports, and the path.
"""

from __future__ import annotations

import json
import sys
from time import perf_counter

import torch

from benchmarks.likelihood.contenders import with_sdekit
from benchmarks.likelihood.problems import PROBLEMS


def main() -> int:
    """One argument: a name of ``PROBLEMS``."""
    problem = PROBLEMS[sys.argv[1]]()
    torch.randn(1 << 20).exp_().sum()  # torch's own threads are there
    began = perf_counter()
    answer = with_sdekit(problem, problem.tolerances[0])
    print(json.dumps({"first": perf_counter() - began, "path": answer.path}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
