"""Tests of sdekit_kernels."""
