"""Tests of solve; a package, so that they can share helpers."""
