"""Quantised numbers: integers that stand for (integer - zero point) * scale, in float32."""
import math

import numpy as np

from tinyfcn.weights.float_types import FLOAT32, convert
from tinyfcn.weights.tensors import BLOCK_BYTES, forget, gather


def dequantize(path, name, integers, scale, zero_point, axis=None):
    """Make the float32 numbers that quantised ones stand for, as PyTorch computes them.

    Parameters
    ----------
    path, name
        For messages.
    integers : ndarray
        Of at most 32 bits.
    scale, zero_point : ndarray, (1,) or (integers.shape[axis],)
        One for all, or one for each index of an axis.
    axis : int, optional

    Returns
    -------
    ndarray of float32
    """
    zero_point = zero_point.astype(np.float64)
    if axis is not None:
        channels, inner = integers.shape[axis], math.prod(integers.shape[axis + 1:])

    def numbers(part, start):
        channel = 0 if axis is None else np.arange(start, start + len(part)) // inner % channels
        # What is not finite then is told of like any such number.
        with np.errstate(over="ignore", invalid="ignore"):
            # Integers of 32 bits have an exact difference in double precision alone.
            difference = (part - zero_point[channel]).astype(FLOAT32)
            return (difference * scale[channel]).astype(FLOAT32)

    return convert(path, name, integers, numbers)


def unpack(path, name, packed, per_byte, shape):
    """Take integers of a few bits out of bytes, of which the first has the lowest bits.

    Parameters
    ----------
    path, name
        For messages.
    packed : ndarray of uint8, (bytes,)
        As many as the integers take.
    per_byte : int
        2 or 4.
    shape : tuple of int
        Of the integers, which lie in C order, with no gap at the ends of rows.

    Returns
    -------
    ndarray of uint8
    """
    count, bits = math.prod(shape), 8 // per_byte
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    step = BLOCK_BYTES // per_byte

    def blocks():
        for start in range(0, len(packed), step):
            part = packed[start:start + step, None] >> shifts & (1 << bits) - 1
            yield part.reshape(-1)[:count - start * per_byte].data
            forget(packed)

    return gather(path, name, blocks(), np.dtype(np.uint8), shape)
