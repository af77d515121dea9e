"""The parts of ``gpu.py``: the clock, the record, and one module a question."""
