"""The types of floating-point numbers that NumPy does not know: float32 is made of them, exactly.

bfloat16 is the upper half of a float32. Of the types of 8 bits there are so few numbers that each
has a table of them.
"""
import numpy as np

from tinyfcn.weights.tensors import BLOCK_BYTES, forget, gather

FLOAT32 = np.dtype(np.float32)
STEP = BLOCK_BYTES // FLOAT32.itemsize


def convert(path, name, stored, to_numbers):
    """Make float32 numbers of those that are stored, so that neither are in memory whole.

    Parameters
    ----------
    path, name
        For messages.
    stored : ndarray, any shape and strides
    to_numbers : function
        Called with a part of the stored numbers, in C order, and the index of its first one.

    Returns
    -------
    ndarray of float32
        As `tensors.room` makes it.
    """
    line = stored.reshape(-1) if stored.flags.c_contiguous else stored.flat

    def blocks():
        for start in range(0, stored.size, STEP):
            numbers = to_numbers(line[start:start + STEP], start)
            yield np.asarray(numbers, FLOAT32).data.cast("B")
            forget(stored)

    return gather(path, name, blocks(), FLOAT32, stored.shape)


def widen(path, name, halves):
    """Turn bfloat16 numbers, an ndarray of uint16, into float32."""
    return convert(path, name, halves,
                   lambda part, _: (part.astype(np.uint32) << 16).view(FLOAT32))


def widen8(path, name, codes, kind):
    """Turn numbers of 8 bits, an ndarray of uint8, into float32; `kind` is one of `FLOAT8`."""
    return convert(path, name, codes, lambda part, _: FLOAT8[kind][part])


def _table(mantissa_bits, bias, not_a_number):
    """The numbers of all codes: a sign, an exponent, a mantissa, and no infinity."""
    codes = np.arange(256)
    exponent, fraction = codes >> mantissa_bits, codes % 2 ** mantissa_bits / 2 ** mantissa_bits
    exponent %= 128 >> mantissa_bits
    size = np.where(exponent, np.ldexp(1 + fraction, exponent - bias),
                    np.ldexp(fraction, 1 - bias))
    numbers = np.where(codes < 128, size, -size).astype(FLOAT32)
    numbers[not_a_number] = np.nan
    return numbers


# e4m3: 4 bits of exponent, 3 of mantissa; fn: finite; uz: without a negative zero.
FLOAT8 = {
    "float8_e4m3fn": _table(3, 7, [0x7f, 0xff]),
    "float8_e4m3fnuz": _table(3, 8, [0x80]),
    "float8_e5m2fnuz": _table(2, 16, [0x80]),
    # The upper half of a float16.
    "float8_e5m2": (np.arange(256, dtype=np.uint16) << 8).view(np.float16).astype(FLOAT32),
    # Powers of two alone.
    "float8_e8m0fnu": np.append(np.ldexp(1.0, np.arange(-127, 128)), np.nan).astype(FLOAT32),
}
