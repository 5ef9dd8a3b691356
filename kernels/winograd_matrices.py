"""The matrices of Winograd's minimal filtering F(m, r), for any m and r, in exact fractions.

A correlation of n = m + r - 1 numbers d with r numbers g has m results, and needs n products::

    y = A^T [(G g) * (B d)]        with A (n, m), G (n, r), B (n, n)

instead of m * r. It is a product of polynomials: evaluate both at n - 1 points and at infinity,
multiply there, interpolate. By the transposition principle the same matrices compute correlation.
In two dimensions each matrix is applied to the rows and to the columns. (Cook 1966 and Toom 1963;
Winograd, "Arithmetic Complexity of Computations", 1980; for convolution nets Lavin and Gray 2016.)
"""

import functools
import math
from fractions import Fraction

# Points come in pairs of opposite signs, since the transforms share the work of a pair, and an odd
# count has zero. Of simple fractions these lose the fewest digits, which are lost to the largest
# powers of the points and of their distances: F(6, 3) needs seven points, F(3, 7) eight.
PAIRS_WITH_ZERO = tuple(map(Fraction, (1, 2, Fraction(1, 2), 4, Fraction(1, 4))))
PAIRS_ALONE = tuple(map(Fraction, (1, 2, Fraction(1, 4), Fraction(5, 8), Fraction(1, 2))))


def points(count):
    """Where polynomials are evaluated, beside infinity."""
    pairs = PAIRS_WITH_ZERO if count % 2 else PAIRS_ALONE
    zero = [Fraction(0)] * (count % 2)
    found = zero + [sign * size for size in pairs for sign in (1, -1)]
    if count > len(found):
        raise ValueError(f"Winograd's algorithm has no {count} points for so large tiles")
    return found[:count]


@functools.cache
def matrices(m, r):
    """A, G and B of F(m, r).

    Parameters
    ----------
    m, r : int
        Results of a tile, numbers of the filter; m + r - 2 is at most 11.

    Returns
    -------
    tuple of three tuples of rows of `Fraction`

    Raises
    ------
    ValueError
        For tiles that there are no points for.
    """
    n = m + r - 1
    finite = points(n - 1)
    infinity = [Fraction(0)] * (m - 1) + [Fraction(1)]
    a = [[point**power for power in range(m)] for point in finite] + [infinity]
    g, b = [], []
    for point in finite:
        others = [other for other in finite if other != point]
        scale = math.prod((point - other for other in others), start=Fraction(1))
        g.append([point**power / scale for power in range(r)])
        b.append([*_polynomial(others), Fraction(0)])
    g.append([Fraction(0)] * (r - 1) + [Fraction(1)])
    b.append(_polynomial(finite))
    for g_row, b_row in zip(g, b):
        _balance(g_row, b_row)
    return tuple(tuple(map(tuple, matrix)) for matrix in (a, g, b))


def _polynomial(roots):
    """The coefficients of the product of (x - root), lowest power first."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *coefficients]
        scaled = [*(-root * c for c in coefficients), Fraction(0)]
        coefficients = [a + b for a, b in zip(shifted, scaled)]
    return coefficients


def _balance(g_row, b_row):
    """Shift a power of two between two rows until their largest numbers are about the same.

    Their product stays, and neither transform makes numbers much larger than its input: less is
    lost to rounding.
    """
    ratio = max(map(abs, g_row)) / max(map(abs, b_row))
    factor = Fraction(2) ** round(math.log2(ratio) / 2)
    g_row[:] = [number / factor for number in g_row]
    b_row[:] = [number * factor for number in b_row]
