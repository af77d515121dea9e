"""Results of a command, and what a failed one must look like."""

from __future__ import annotations


class Result:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


def one_line(result: Result, code: int, *parts: str) -> None:
    """It failed with this code and one line on stderr that says these things."""
    assert result.code == code, result.err
    lines = result.err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("sdekit: "), result.err
    for part in parts:
        assert part in lines[0], lines[0]
    assert "Traceback" not in result.err
