r"""Coefficients of the embedded Runge-Kutta methods, as data.

    Y_i = y + dt \sum_{j < i} a_ij k_j,   k_i = F(t + c_i dt, Y_i),   error = dt \sum_j e_j k_j

All are "first same as last": the last Y is the solution that is carried on, and its slope is the
next step's first. ``middle`` gives y(t + dt / 2) = y + dt \sum_j m_j k_j, of order 4 (3 for
bosh3); with the two ends and their slopes it makes the dense output.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["TABLEAUS", "Tableau"]


class Tableau(NamedTuple):
    """One method.

    order: of the solution that is carried on; the error estimate is of one order less. c: from the
    second stage on. a: one row a stage, from the second on. stability: the largest dt |lambda| on
    the negative axis for which the method is stable.
    """

    name: str
    order: int
    c: tuple[float, ...]
    a: tuple[tuple[float, ...], ...]
    error: tuple[float, ...]
    middle: tuple[float, ...]
    stability: float
    paper: str

    @property
    def stages(self) -> int:
        """Slopes of a step, the first of which is the last of the step before."""
        return len(self.error)


def _difference(b: tuple[float, ...], other: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(u - v for u, v in zip(b, other, strict=True))


_TSIT5_B = (
    0.09646076681806523,
    0.01,
    0.4798896504144996,
    1.379008574103742,
    -3.290069515436081,
    2.324710524099774,
)
TSIT5: Final = Tableau(
    "tsit5",
    5,
    (0.161, 0.327, 0.9, 0.9800255409045097, 1.0, 1.0),
    (
        (0.161,),
        (-0.008480655492356989, 0.335480655492357),
        (2.8971530571054935, -6.359448489975075, 4.3622954328695815),
        (5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525),
        (
            5.86145544294642,
            -12.92096931784711,
            8.159367898576159,
            -0.071584973281401,
            -0.028269050394068383,
        ),
        _TSIT5_B,
    ),
    _difference(
        (*_TSIT5_B, 0.0),
        (
            0.09468075576583945,
            0.009183565540343254,
            0.4877705284247616,
            1.234297566930479,
            -2.7077123499835256,
            1.866628418170587,
            1.0 / 66.0,
        ),
    ),
    (
        0.10741235230096871,
        0.01135625,
        0.39560903056045305,
        -0.34475214352593553,
        1.3161853649581645,
        -1.0170608542936508,
        0.031249999999999993,
    ),
    3.5068,
    "Tsitouras 2011, Runge-Kutta pairs of order 5(4) satisfying only the first column "
    "simplifying assumption",
)

_DOPRI5_B = (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84)
DOPRI5: Final = Tableau(
    "dopri5",
    5,
    (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0),
    (
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
        _DOPRI5_B,
    ),
    _difference(
        (*_DOPRI5_B, 0.0),
        (5179 / 57600, 0.0, 7571 / 16695, 393 / 640, -92097 / 339200, 187 / 2100, 1 / 40),
    ),
    (
        6025192743 / 30085553152 / 2,
        0.0,
        51252292925 / 65400821598 / 2,
        -2691868925 / 45128329728 / 2,
        187940372067 / 1594534317056 / 2,
        -1776094331 / 19743644256 / 2,
        11237099 / 235043384 / 2,
    ),
    3.3066,
    "Dormand & Prince 1980, A family of embedded Runge-Kutta formulae; middle: Shampine 1986",
)

BOSH3: Final = Tableau(
    "bosh3",
    3,
    (1 / 2, 3 / 4, 1.0),
    ((1 / 2,), (0.0, 3 / 4), (2 / 9, 1 / 3, 4 / 9)),
    _difference((2 / 9, 1 / 3, 4 / 9, 0.0), (7 / 24, 1 / 4, 1 / 3, 1 / 8)),
    (1 / 9 + 1 / 8, 1 / 6, 2 / 9, -1 / 8),
    2.5127,
    "Bogacki & Shampine 1989, A 3(2) pair of Runge-Kutta formulas",
)

TABLEAUS: Final = {tableau.name: tableau for tableau in (TSIT5, DOPRI5, BOSH3)}
