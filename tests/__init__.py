"""The tests; a package, so that they can share helpers whatever else is on the path."""
