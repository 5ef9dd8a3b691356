"""Upsampling each channel for itself with a separable filter: bilinear interpolation, fixed.

A transposed convolution whose weights are zero between different channels and, on the diagonal, an
outer product of two vectors::

    y[iy * sy - py + ky, ix * sx - px + kx, c] += rows[ky] * columns[kx] * x[iy, ix, c]

needs no product over channels: each row of y is a blend of the few rows of x that reach it, spread
along the row. (Bilinear filters, Long, Shelhamer, Darrell 2015, section 3.3.)
"""

from numba import prange

from ..taps import interpolation_taps
from . import memory
from .checks import check_arrays, contiguous
from .compilation import kernel
from .simd import fma, lanes, load, splat, store
from .threads import thread_count


@kernel
def _interpolate(x, x_shape, y, y_shape, row_sources, row_weights, column_sources, column_weights,
                 scratch):
    width, channels = x_shape[2], x_shape[3]
    length = width * channels
    workers = scratch.shape[0]
    total = y_shape[0] * y_shape[1]
    for worker in prange(workers):
        blend = scratch[worker]
        for row in range(total * worker // workers, total * (worker + 1) // workers):
            image, out_y = row // y_shape[1], row % y_shape[1]
            blend[:length] = 0.0
            for tap in range(row_sources.shape[1]):
                factor = row_weights[out_y, tap]
                start = (image * x_shape[1] + row_sources[out_y, tap]) * length
                if factor == 0.0:
                    continue
                done = 0
                while done + lanes(x) <= length:
                    before = load(blend, done)
                    store(blend, done, fma(load(x, start + done), splat(x, factor), before))
                    done += lanes(x)
                for i in range(done, length):
                    blend[i] += factor * x[start + i]
            for out_x in range(y_shape[2]):
                at = (row * y_shape[2] + out_x) * channels
                c = 0
                # The last vector overlaps the one before: no scalar remainder.
                while c < channels and channels >= lanes(x):
                    first = min(c, channels - lanes(x))
                    total_vector = splat(x, x.dtype.type(0))
                    for tap in range(column_sources.shape[1]):
                        source = column_sources[out_x, tap] * channels + first
                        factor = splat(x, column_weights[out_x, tap])
                        total_vector = fma(load(blend, source), factor, total_vector)
                    store(y, at + first, total_vector)
                    c += lanes(x)
                for c in range(c, channels):
                    number = x.dtype.type(0)
                    for tap in range(column_sources.shape[1]):
                        source = column_sources[out_x, tap] * channels + c
                        number += blend[source] * column_weights[out_x, tap]
                    y[at + c] = number


def interpolate(x, rows, columns, stride, padding, output_size):
    """Upsample x by `stride`, each channel with the filter outer(rows, columns).

    Parameters
    ----------
    x : array (n, h, w, c), float32 or float64
    rows, columns : arrays (kh,) and (kw,)
    stride, padding : pairs of ints, (y, x)
    output_size : pair of ints
        (out_h, out_w).

    Returns
    -------
    array (n, out_h, out_w, c)
    """
    (x,) = contiguous(x)
    check_arrays("interpolate", x=(x, 4))
    y = memory.empty((x.shape[0], *output_size, x.shape[3]), x.dtype)
    if y.size == 0:
        return y
    taps = [
        interpolation_taps(x.shape[1 + axis], output_size[axis], tuple(map(float, weights)), stride[axis],
                  padding[axis], x.dtype)
        for axis, weights in enumerate((rows, columns))
    ]
    workers = thread_count()
    _interpolate(x.reshape(-1), x.shape, y.reshape(-1), y.shape, *taps[0], *taps[1],
                 memory.scratch(workers, x.shape[2] * x.shape[3], x.dtype))
    return y
