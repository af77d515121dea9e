"""The command line: sdekit demo, train, sample, likelihood."""

from sdekit.cli.main import app, main

__all__ = ["app", "main"]
