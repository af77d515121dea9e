"""Tests of the solvers; a package, so that they can share their problems."""
