"""Division of places and counts in 32 bits, of numbers that are not negative.

Numba divides ints of any size as 64-bit ones, rounding down, which takes a GPU five times as long.
"""

from numba.cuda.types import int32, uint32

from .compilation import inline


@inline
def quotient(a, b):
    return int32(uint32(a) // uint32(b))


@inline
def remainder(a, b):
    return int32(uint32(a) % uint32(b))
