"""Which normal of a step comes from which stream, and from which Philox call.

A step may take normals from several streams, independent sequences that share the numbers of
samples and steps. Its normals are numbered through: those of a stream follow each other, and each
stream begins at a multiple of four, so that the four normals of one call have one quotient by four.

A stream of fewer than four normals a step is *grouped*: a call gives one channel's normals of four
consecutive steps. Otherwise a call gives four channels of one step.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

__all__ = ["Call", "calls_of", "is_grouped", "offsets_of", "stream_of"]

LANES: Final = 4


class Call(NamedTuple):
    """A Philox call: its stream, the first word of its counter, and the number of its first normal.

    first: of a grouped call the one normal that it makes for four steps.
    """

    stream: int
    place: int
    grouped: bool
    first: int


def offsets_of(counts: Sequence[int]) -> list[int]:
    """The number of each stream's first normal."""
    offsets, total = [], 0
    for count in counts:
        offsets.append(total)
        total += -(-count // LANES) * LANES
    return offsets


def is_grouped(count: int) -> bool:
    """Whether a stream of so many normals a step shares its calls between four steps."""
    return count < LANES


def stream_of(number: int, counts: Sequence[int]) -> tuple[int, int]:
    """(stream, channel) of a normal."""
    offsets = offsets_of(counts)
    stream = max(s for s, o in enumerate(offsets) if o <= number and counts[s] > 0)
    return stream, number - offsets[stream]


def calls_of(noise: Iterable[int], counts: Sequence[int]) -> list[Call]:
    """The calls that make these normals, in their order."""
    made: dict[Call, None] = {}
    for number in noise:
        stream, channel = stream_of(number, counts)
        if is_grouped(counts[stream]):
            made[Call(stream, channel, True, number)] = None
        else:
            made[Call(stream, channel // LANES, False, number - channel % LANES)] = None
    return list(made)
