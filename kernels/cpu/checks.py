"""What launchers ask of their arrays before a kernel, which checks nothing, may touch them."""

import numpy as np


def contiguous(*arrays):
    """The arrays in C order and writable (one Numba type), copied only where they are not."""
    return tuple(
        a if a is None or (a.flags.c_contiguous and a.flags.writeable) else np.array(a, order="C")
        for a in map(_as_array, arrays)
    )


def _as_array(a):
    return a if a is None else np.asarray(a)


def check_arrays(name, **arrays):
    """Raise ValueError unless each (array, ndim) has its ndim and all share a float dtype."""
    dtypes = set()
    for argument, (array, ndim) in arrays.items():
        if array is None:
            continue
        if array.ndim != ndim:
            raise ValueError(f"{name}: {argument} must have {ndim} axes, got shape {array.shape}")
        dtypes.add(array.dtype)
    if len(dtypes) != 1 or not dtypes <= {np.dtype(np.float32), np.dtype(np.float64)}:
        found = ", ".join(sorted(map(str, dtypes)))
        raise ValueError(f"{name}: all arrays must be float32 or all float64, got {found}")


def check_match(what, got, wanted):
    """Raise ValueError unless the two agree; None stands for an argument left out."""
    if got is not None and got != wanted:
        raise ValueError(f"{what}: expected {wanted}, got {got}")
