"""bfloat16, which NumPy does not know: the upper half of a float32."""
import numpy as np

from tinyfcn.weights.tensors import BLOCK_BYTES, forget, gather

FLOAT32 = np.dtype(np.float32)


def widen(path, name, halves):
    """Turn bfloat16 numbers into the float32 numbers that they stand for, exactly.

    Parameters
    ----------
    path, name
        For messages.
    halves : ndarray of uint16, any shape
        The stored bits.

    Returns
    -------
    ndarray of float32
    """
    if halves.flags.c_contiguous:
        line = halves.reshape(-1)
        step = BLOCK_BYTES // 4
        parts = (line[i:i + step] for i in range(0, line.size, step))
    else:
        # Rare: a transposed view of a storage.
        parts = [np.ascontiguousarray(halves).reshape(-1)]

    def blocks():
        for part in parts:
            yield (part.astype(np.uint32) << 16).data.cast("B")
            forget(halves)

    return gather(path, name, blocks(), FLOAT32, halves.shape)
