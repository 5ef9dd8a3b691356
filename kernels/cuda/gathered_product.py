"""Convolution as a matrix product whose left rows are gathered from the image (implicit GEMM).

The two products are those of the CPU, which explains taps and phases (`cpu/gathered_product.py`)::

    product    y[origin + q * out_step] = sum over t, c:  x[q * in_step + tap(t), c]  w[t, c]
    gradient   gw[t, c]                 = sum over q:     x[q * in_step + tap(t), c]  gy[q]

A block of threads computes a tile of results: 8 x 8 a thread, in registers. Eight numbers of the
depth at a time are brought to shared memory, twice buffered: while a block multiplies one part, the
next is on its way into registers. No row of the image is ever written to memory side by side.

Pixels lie groups * depth numbers apart, depth divisible by 4, so that all loads are of 128 bits:
`padded` makes it so where it isn't. Where results are too few to occupy the GPU, several blocks
share the depth of a tile and `_add_up` adds their sums in a fixed order: no atomics, the same bits
from run to run on the same GPU.
"""

import functools

import numpy as np
from numba import cuda
from numba.cuda.types import float32, int32

from . import algorithms, launch, memory, tensor_product
from .compilation import FLOATS, INT, INTS, inline, kernel
from .indexing import quotient, remainder
from .padding import Padded, pad_weights, padded
from .target import add_outer_product, load4, store4

DEPTH = 8  # of a part in shared memory
OUTSIDE = -(1 << 30)  # no tap leads from there into an image


@inline
def outer_product(sums, left, right, a, b, a_at, b_at):
    """sums += the outer product of 8 numbers of a and 8 of b, each in two quads."""
    left[0], left[1], left[2], left[3] = load4(a, a_at)
    left[4], left[5], left[6], left[7] = load4(a, a_at + 32)
    right[0], right[1], right[2], right[3] = load4(b, b_at)
    right[4], right[5], right[6], right[7] = load4(b, b_at + 16)
    add_outer_product(sums, left, right)


@inline
def multiply_part(sums, left, right, a, b, a_at, b_at, a_step, b_step):
    """All outer products of a part, written out so that loads run ahead of multiplications."""
    outer_product(sums, left, right, a, b, a_at, b_at)
    outer_product(sums, left, right, a, b, a_at + a_step, b_at + b_step)
    outer_product(sums, left, right, a, b, a_at + 2 * a_step, b_at + 2 * b_step)
    outer_product(sums, left, right, a, b, a_at + 3 * a_step, b_at + 3 * b_step)
    outer_product(sums, left, right, a, b, a_at + 4 * a_step, b_at + 4 * b_step)
    outer_product(sums, left, right, a, b, a_at + 5 * a_step, b_at + 5 * b_step)
    outer_product(sums, left, right, a, b, a_at + 6 * a_step, b_at + 6 * b_step)
    outer_product(sums, left, right, a, b, a_at + 7 * a_step, b_at + 7 * b_step)


@inline
def wrapped(tap, channel, depth):
    """The same place in the depth, if that lies in the tap or the one after it."""
    if channel >= depth:
        return int32(tap + 1), int32(channel - depth)
    return int32(tap), int32(channel)


@inline
def rectified(number, relu):
    """The number or, with `relu`, zero if that is larger; a NaN stays one."""
    if relu and number <= float32(0):
        return float32(0)
    return number


@inline
def put_quad(y, at, column, outputs, whole_quads, x0, x1, x2, x3):
    """Store those of four neighbours in a row that are in the matrix of results."""
    if whole_quads:
        if column < outputs:
            store4(y, at, x0, x1, x2, x3)
    else:
        if column < outputs:
            y[at] = x0
        if column + 1 < outputs:
            y[at + 1] = x1
        if column + 2 < outputs:
            y[at + 2] = x2
        if column + 3 < outputs:
            y[at + 3] = x3


@inline
def put_product_row(y, sums, bias, i, row, grid, image, column, outputs, whole_quads, relu):
    """Store a thread's row i, which is a pixel of the grid, with bias and ReLU."""
    count, grid_h, grid_w, origin_y, origin_x, out_step_y, out_step_x = grid
    y_h, y_w, y_stride, first = image
    m = int32(row + (i & 3) + (i >> 2) * 32)
    if m < count:
        q = remainder(m, grid_h * grid_w)
        out_y = int32(origin_y + quotient(q, grid_w) * out_step_y)
        out_x = int32(origin_x + remainder(q, grid_w) * out_step_x)
        pixel = (quotient(m, grid_h * grid_w) * y_h + out_y) * y_w + out_x
        at = int32(pixel * y_stride + first + column)
        for j in range(8):
            sums[i, j] = rectified(sums[i, j] + bias[j], relu)
        put_quad(y, at, column, outputs, whole_quads,
                 sums[i, 0], sums[i, 1], sums[i, 2], sums[i, 3])
        put_quad(y, at + 16, column + 16, outputs, whole_quads,
                 sums[i, 4], sums[i, 5], sums[i, 6], sums[i, 7])


@inline
def put_gradient_row(gw, sums, i, row, taps, matrix, column, outputs, whole_quads):
    """Store a thread's row i, which is a channel of a tap."""
    tap_count, depth, channels, gw_stride, first = matrix
    m = int32(row + (i & 3) + (i >> 2) * 32)
    tap, channel = quotient(m, depth), remainder(m, depth)
    if tap < tap_count and channel < channels:
        at = int32((taps[3 * tap + 2] * channels + channel) * gw_stride + first + column)
        put_quad(gw, at, column, outputs, whole_quads,
                 sums[i, 0], sums[i, 1], sums[i, 2], sums[i, 3])
        put_quad(gw, at + 16, column + 16, outputs, whole_quads,
                 sums[i, 4], sums[i, 5], sums[i, 6], sums[i, 7])


# The sizes that `product` hands to its kernels, in this order.
PRODUCT_SIZES = (INT,) * 20


def make_product(down, across, blocks, transposed):
    """The kernel of `product` for tiles of 64 * down x 32 * across."""
    rows, columns = 64 * down, 32 * across
    threads = 32 * down * across
    # A row longer, so that a warp's stores into a part go to different banks.
    a_step, b_step = rows + 4, columns + 4
    a_part, b_part = DEPTH * a_step, DEPTH * b_step
    a_numbers, b_numbers = 2 * a_part, 2 * b_part
    a_loads, b_loads = 4 // across, 2 // down
    half = threads // 2  # two threads load a row of 8 numbers
    quads = columns // 4

    @kernel(FLOATS, FLOATS, FLOATS, FLOATS, INTS, INTS, *PRODUCT_SIZES,
            threads=threads, blocks=blocks)
    def product_kernel(
        x, w, bias, y, taps, phases, images, x_h, x_w, depth, y_h, y_w, outputs, groups,
        w_rows, w_columns, in_step_y, in_step_x, out_step_y, out_step_x, column_tiles, parts,
        y_size, has_bias, relu, whole_quads,
    ):
        a = cuda.shared.array(a_numbers, float32, alignment=16)
        b = cuda.shared.array(b_numbers, float32, alignment=16)
        sums = cuda.local.array((8, 8), float32)
        left = cuda.local.array(8, float32)
        right = cuda.local.array(8, float32)
        a_next = cuda.local.array((a_loads, 4), float32)
        b_next = cuda.local.array((b_loads, 4), float32)
        pixel_y = cuda.local.array(a_loads, int32)
        pixel_x = cuda.local.array(a_loads, int32)
        pixel = cuda.local.array(a_loads, int32)
        b_tap = cuda.local.array(b_loads, int32)
        b_channel = cuda.local.array(b_loads, int32)
        w_at = cuda.local.array(b_loads, int32)

        thread = int32(cuda.threadIdx.x)
        group = quotient(cuda.blockIdx.y, parts)
        part = remainder(cuda.blockIdx.y, parts)
        first_tap, last_tap = phases[6 * cuda.blockIdx.z], phases[6 * cuda.blockIdx.z + 1]
        origin_y, origin_x = phases[6 * cuda.blockIdx.z + 2], phases[6 * cuda.blockIdx.z + 3]
        grid_h, grid_w = phases[6 * cuda.blockIdx.z + 4], phases[6 * cuda.blockIdx.z + 5]
        count = int32(images * grid_h * grid_w)
        row0 = int32(quotient(cuda.blockIdx.x, column_tiles) * rows)
        column0 = int32(remainder(cuda.blockIdx.x, column_tiles) * columns)
        if row0 >= count:
            return

        # This block's share of the depth, in steps.
        steps = quotient((last_tap - first_tap) * depth + DEPTH - 1, DEPTH)
        each = quotient(steps + parts - 1, parts)
        step = int32(part * each)
        stop = int32(min(steps, step + each))

        # The pixels whose rows this thread loads, and where it is in the depth.
        k = int32((thread & 1) * 4)
        for i in range(a_loads):
            m = int32(row0 + (thread >> 1) + i * half)
            image, q = quotient(m, grid_h * grid_w), remainder(m, grid_h * grid_w)
            pixel_y[i] = int32(quotient(q, grid_w) * in_step_y)
            pixel_x[i] = int32(remainder(q, grid_w) * in_step_x)
            pixel[i] = int32(((image * x_h + pixel_y[i]) * x_w + pixel_x[i]) * (groups * depth)
                             + group * depth)
            if m >= count:
                pixel_y[i] = OUTSIDE
        tap = int32(first_tap + quotient(step * DEPTH + k, depth))
        channel = remainder(step * DEPTH + k, depth)
        for i in range(b_loads):
            b_k = int32(step * DEPTH + thread // quads + i * (threads // quads))
            b_tap[i] = int32(first_tap + quotient(b_k, depth))
            b_channel[i] = remainder(b_k, depth)
            if transposed:
                # Rows of w are results here; the depth runs along them.
                n = int32(column0 + (thread >> 1) + i * half)
                w_at[i] = int32(n * (groups * w_columns) + group * w_columns)
                b_tap[i] = int32(0) if n < outputs else last_tap
            else:
                n = int32(column0 + thread % quads * 4)
                w_at[i] = int32(group * w_columns + n)
                if n >= w_columns:
                    b_tap[i] = last_tap

        warp, lane = int32(thread >> 5), int32(thread & 31)
        tile_row = int32((warp // across) * 64 + (lane >> 2) * 4)
        tile_column = int32((warp % across) * 32 + (lane & 3) * 4)
        for i in range(8):
            for j in range(8):
                sums[i, j] = float32(0)

        buffer = int32(0)
        # What is loaded in a turn is multiplied in the next.
        remaining, loaded = int32(stop - step), False
        while remaining >= 0:
            if remaining > 0:
                tap_y, tap_x, tap_w = int32(0), int32(0), int32(0)
                if tap < last_tap:
                    tap_y, tap_x, tap_w = taps[3 * tap], taps[3 * tap + 1], taps[3 * tap + 2]
                for i in range(a_loads):
                    in_y, in_x = int32(pixel_y[i] + tap_y), int32(pixel_x[i] + tap_x)
                    if tap < last_tap and 0 <= in_y and in_y < x_h and 0 <= in_x and in_x < x_w:
                        at = int32(pixel[i] + (tap_y * x_w + tap_x) * (groups * depth) + channel)
                        a_next[i, 0], a_next[i, 1], a_next[i, 2], a_next[i, 3] = load4(x, at)
                    else:
                        for j in range(4):
                            a_next[i, j] = float32(0)
                for i in range(b_loads):
                    inside = b_tap[i] < last_tap
                    at = int32(0)
                    if transposed:
                        inside = inside and tap < last_tap
                        at = int32(w_at[i] + tap_w * w_rows * (groups * w_columns) + channel)
                    elif inside:
                        at = int32((taps[3 * b_tap[i] + 2] * w_rows + b_channel[i])
                                   * (groups * w_columns) + w_at[i])
                    if inside:
                        b_next[i, 0], b_next[i, 1], b_next[i, 2], b_next[i, 3] = load4(w, at)
                    else:
                        for j in range(4):
                            b_next[i, j] = float32(0)
                    if not transposed:
                        b_channel[i] = int32(b_channel[i] + DEPTH)
                        b_tap[i], b_channel[i] = wrapped(b_tap[i], b_channel[i], depth)
                        b_tap[i], b_channel[i] = wrapped(b_tap[i], b_channel[i], depth)
                channel = int32(channel + DEPTH)
                tap, channel = wrapped(tap, channel, depth)  # twice, where depth is 4
                tap, channel = wrapped(tap, channel, depth)
            if loaded:
                multiply_part(
                    sums, left, right, a, b, int32(buffer * a_part + tile_row),
                    int32(buffer * b_part + tile_column), a_step, b_step)
                buffer = int32(buffer ^ 1)
            if remaining > 0:
                for i in range(a_loads):
                    at = int32(buffer * a_part + k * a_step + (thread >> 1) + i * half)
                    for j in range(4):
                        a[at + j * a_step] = a_next[i, j]
                for i in range(b_loads):
                    if transposed:
                        at = int32(buffer * b_part + k * b_step + (thread >> 1) + i * half)
                        for j in range(4):
                            b[at + j * b_step] = b_next[i, j]
                    else:
                        at = int32(buffer * b_part + thread % quads * 4
                                   + (thread // quads + i * (threads // quads)) * b_step)
                        store4(b, at, b_next[i, 0], b_next[i, 1], b_next[i, 2], b_next[i, 3])
                cuda.syncthreads()
            remaining, loaded = int32(remaining - 1), True

        column = int32(column0 + tile_column)
        for j in range(8):
            n = int32(column + (j & 3) + (j >> 2) * 16)
            right[j] = bias[group * outputs + n] if has_bias and n < outputs else float32(0)
        row = int32(row0 + tile_row)
        grid = count, grid_h, grid_w, origin_y, origin_x, out_step_y, out_step_x
        image = y_h, y_w, int32(groups * outputs), int32(group * outputs + part * y_size)
        # Written out: an index that is no constant would move the sums from registers to memory.
        put_product_row(y, sums, right, 0, row, grid, image, column, outputs, whole_quads, relu)
        put_product_row(y, sums, right, 1, row, grid, image, column, outputs, whole_quads, relu)
        put_product_row(y, sums, right, 2, row, grid, image, column, outputs, whole_quads, relu)
        put_product_row(y, sums, right, 3, row, grid, image, column, outputs, whole_quads, relu)
        put_product_row(y, sums, right, 4, row, grid, image, column, outputs, whole_quads, relu)
        put_product_row(y, sums, right, 5, row, grid, image, column, outputs, whole_quads, relu)
        put_product_row(y, sums, right, 6, row, grid, image, column, outputs, whole_quads, relu)
        put_product_row(y, sums, right, 7, row, grid, image, column, outputs, whole_quads, relu)

    return product_kernel


def make_gradient(down, across, blocks):
    """The kernel of `gradient` for tiles of 64 * down x 32 * across.

    The rows of its results are pairs (tap, channel), and its depth are pixels. Both sides lie in
    memory as they are needed: a row of a part holds the channels of one pixel.
    """
    rows, columns = 64 * down, 32 * across
    threads = 32 * down * across
    a_step, b_step = rows, columns
    a_part, b_part = DEPTH * a_step, DEPTH * b_step
    a_numbers, b_numbers = 2 * a_part, 2 * b_part
    a_loads, b_loads = 4 // across, 2 // down
    a_quads, b_quads = rows // 4, columns // 4
    a_rows, b_rows = threads // a_quads, threads // b_quads  # that all threads load at once

    @kernel(FLOATS, FLOATS, FLOATS, INTS, *(INT,) * 17, threads=threads, blocks=blocks)
    def gradient_kernel(
        x, gy, gw, taps, images, x_h, x_w, depth, channels, out_h, out_w, columns_there, outputs,
        groups, step_y, step_x, tap_count, column_tiles, parts, gw_size, whole_quads,
    ):
        a = cuda.shared.array(a_numbers, float32, alignment=16)
        b = cuda.shared.array(b_numbers, float32, alignment=16)
        sums = cuda.local.array((8, 8), float32)
        left = cuda.local.array(8, float32)
        right = cuda.local.array(8, float32)
        a_next = cuda.local.array((a_loads, 4), float32)
        b_next = cuda.local.array((b_loads, 4), float32)
        pixel_y = cuda.local.array(a_loads, int32)
        pixel_x = cuda.local.array(a_loads, int32)
        pixel_image = cuda.local.array(a_loads, int32)

        thread = int32(cuda.threadIdx.x)
        group = quotient(cuda.blockIdx.y, parts)
        part = remainder(cuda.blockIdx.y, parts)
        row0 = int32(quotient(cuda.blockIdx.x, column_tiles) * rows)
        column0 = int32(remainder(cuda.blockIdx.x, column_tiles) * columns)
        count = int32(images * out_h * out_w)

        steps = quotient(count + DEPTH - 1, DEPTH)
        each = quotient(steps + parts - 1, parts)
        step = int32(part * each)
        stop = int32(min(steps, step + each))

        # The tap and channel whose numbers this thread loads, and the pixels it is at.
        a_row, a_column = int32(thread // a_quads), int32(thread % a_quads * 4)
        tap = quotient(row0 + a_column, depth)
        channel = remainder(row0 + a_column, depth)
        tap_y, tap_x = int32(0), int32(0)
        if tap < tap_count:
            tap_y, tap_x = taps[3 * tap], taps[3 * tap + 1]
        for i in range(a_loads):
            q = int32(step * DEPTH + a_row + i * a_rows)
            pixel_image[i] = quotient(q, out_h * out_w)
            pixel_y[i] = quotient(remainder(q, out_h * out_w), out_w)
            pixel_x[i] = remainder(q, out_w)
        b_row, b_column = int32(thread // b_quads), int32(thread % b_quads * 4)
        x_stride = int32(groups * depth)
        gy_stride = int32(groups * columns_there)
        x_at = int32(group * depth + channel)
        gy_at = int32(group * columns_there + column0 + b_column)
        b_inside = column0 + b_column < columns_there

        warp, lane = int32(thread >> 5), int32(thread & 31)
        tile_row = int32((warp // across) * 64 + (lane >> 2) * 4)
        tile_column = int32((warp % across) * 32 + (lane & 3) * 4)
        for i in range(8):
            for j in range(8):
                sums[i, j] = float32(0)

        buffer = int32(0)
        turn = int32(step - 1)
        while turn < stop:
            if turn + 1 < stop:
                for i in range(a_loads):
                    in_y = int32(pixel_y[i] * step_y + tap_y)
                    in_x = int32(pixel_x[i] * step_x + tap_x)
                    if (tap < tap_count and pixel_image[i] < images
                            and 0 <= in_y and in_y < x_h and 0 <= in_x and in_x < x_w):
                        at = int32(((pixel_image[i] * x_h + in_y) * x_w + in_x) * x_stride + x_at)
                        a_next[i, 0], a_next[i, 1], a_next[i, 2], a_next[i, 3] = load4(x, at)
                    else:
                        for j in range(4):
                            a_next[i, j] = float32(0)
                    pixel_x[i] = int32(pixel_x[i] + DEPTH)
                    if pixel_x[i] >= out_w:
                        down_rows = quotient(pixel_x[i], out_w)
                        pixel_x[i] = int32(pixel_x[i] - down_rows * out_w)
                        pixel_y[i] = int32(pixel_y[i] + down_rows)
                        if pixel_y[i] >= out_h:
                            next_images = quotient(pixel_y[i], out_h)
                            pixel_y[i] = int32(pixel_y[i] - next_images * out_h)
                            pixel_image[i] = int32(pixel_image[i] + next_images)
                for i in range(b_loads):
                    q = int32((turn + 1) * DEPTH + b_row + i * b_rows)
                    if b_inside and q < count:
                        at = int32(q * gy_stride + gy_at)
                        b_next[i, 0], b_next[i, 1], b_next[i, 2], b_next[i, 3] = load4(gy, at)
                    else:
                        for j in range(4):
                            b_next[i, j] = float32(0)
            if turn >= step:
                multiply_part(
                    sums, left, right, a, b, int32(buffer * a_part + tile_row),
                    int32(buffer * b_part + tile_column), a_step, b_step)
                buffer = int32(buffer ^ 1)
            if turn + 1 < stop:
                for i in range(a_loads):
                    at = int32(buffer * a_part + (a_row + i * a_rows) * a_step + a_column)
                    store4(a, at, a_next[i, 0], a_next[i, 1], a_next[i, 2], a_next[i, 3])
                for i in range(b_loads):
                    at = int32(buffer * b_part + (b_row + i * b_rows) * b_step + b_column)
                    store4(b, at, b_next[i, 0], b_next[i, 1], b_next[i, 2], b_next[i, 3])
                cuda.syncthreads()
            turn = int32(turn + 1)

        column = int32(column0 + tile_column)
        row = int32(row0 + tile_row)
        matrix = (tap_count, depth, channels, int32(groups * outputs),
                  int32(group * outputs + part * gw_size))
        put_gradient_row(gw, sums, 0, row, taps, matrix, column, outputs, whole_quads)
        put_gradient_row(gw, sums, 1, row, taps, matrix, column, outputs, whole_quads)
        put_gradient_row(gw, sums, 2, row, taps, matrix, column, outputs, whole_quads)
        put_gradient_row(gw, sums, 3, row, taps, matrix, column, outputs, whole_quads)
        put_gradient_row(gw, sums, 4, row, taps, matrix, column, outputs, whole_quads)
        put_gradient_row(gw, sums, 5, row, taps, matrix, column, outputs, whole_quads)
        put_gradient_row(gw, sums, 6, row, taps, matrix, column, outputs, whole_quads)
        put_gradient_row(gw, sums, 7, row, taps, matrix, column, outputs, whole_quads)

    return gradient_kernel


@kernel(FLOATS, FLOATS, FLOATS, *(INT,) * 5)
def _add_up(shares, bias, y, size, parts, channels, has_bias, relu):
    i = int32(cuda.grid(1))
    if i < size:
        total = float32(0)
        for part in range(parts):
            total += shares[part * size + i]
        if has_bias:
            total += bias[remainder(i, channels)]
        y[i] = rectified(total, relu)


_products = {
    (index, transposed): make_product(*launch.BLOCKS[index], transposed)
    for index in range(len(launch.BLOCKS)) for transposed in (False, True)
}
_gradients = [make_gradient(*block) for block in launch.BLOCKS]


# ---- launchers


def product(x, w, y, bias, phases, taps, in_step, out_step, groups=1, transposed=False, relu=False,
            algorithm=algorithms.IM2COL):
    """Run the product of this module's heading into `y`.

    Parameters
    ----------
    x : DeviceArray (n, h, w, c)
        The source.
    w : DeviceArray (kh, kw, in / groups, out)
        Weights; with `transposed` the sum runs over out and the results are in.
    y : DeviceArray (n, out_h, out_w, c)
        Modified: every pixel that belongs to a phase.
    bias : DeviceArray (out,) or None
    phases : sequence of (first_tap, last_tap, origin_y, origin_x, grid_h, grid_w)
    taps : NumPy array (t, 3)
        Rows (offset_y, offset_x, index into kh * kw).
    in_step, out_step : pairs of ints, (y, x)
    algorithm : str
        One of `algorithms.NAMES`.
    """
    if not isinstance(w, Padded):
        w = pad_weights(w, groups, transposed)
    if y.size == 0:
        return
    outputs = y.shape[3] // groups
    x, depth = padded(x, groups)
    tap_table, phase_table, most_taps = _tables(
        tuple(phases), taps.tobytes(), tuple(in_step), x.shape[1:3])
    rows = max(x.shape[0] * grid_h * grid_w for *_, grid_h, grid_w in phases)
    kernels, tiles, deep = _products, launch.TILES, DEPTH
    if algorithm != algorithms.IM2COL:
        kernels, tiles, deep = tensor_product.products(algorithm), tensor_product.TILES, \
            tensor_product.DEPTH
    tile = launch.choose_tile(tiles, rows, outputs)
    row_tiles, column_tiles = -(-rows // tiles[tile][0]), -(-outputs // tiles[tile][1])
    steps = most_taps * depth // deep
    parts = launch.shares(row_tiles * column_tiles * groups * len(phases), steps, y.nbytes)
    target = y if parts == 1 else memory.empty((parts, *y.shape))
    kernels[tile, transposed].launch(
        (row_tiles * column_tiles, groups * parts, len(phases)),
        x, w.numbers, bias, target, tap_table, phase_table, x.shape[0], *x.shape[1:3], depth, *y.shape[1:3], outputs, groups, w.rows, w.columns,
        *in_step, *out_step, column_tiles, parts, y.size,
        bias is not None and parts == 1, relu and parts == 1, outputs % 4 == 0)
    if parts > 1:
        _add_up.launch(launch.blocks_for(y.size), target, bias, y, y.size, parts, y.shape[3],
                       bias is not None, relu)


def gradient(x, gy, gw, taps, in_step, groups=1, algorithm=algorithms.IM2COL):
    """Run the gradient of this module's heading into `gw` (kh, kw, in / groups, out), all of it."""
    if gw.size == 0:
        return
    channels, outputs = gw.shape[2], gw.shape[3] // groups
    x, depth = padded(x, groups)
    gy, columns = padded(gy, groups)
    rows = len(taps) * depth
    kernels, tiles, deep = _gradients, launch.TILES, DEPTH
    if algorithm != algorithms.IM2COL:
        kernels, tiles, deep = tensor_product.gradients(algorithm), tensor_product.TILES, \
            tensor_product.DEPTH
    tile = launch.choose_tile(tiles, rows, outputs)
    row_tiles, column_tiles = -(-rows // tiles[tile][0]), -(-outputs // tiles[tile][1])
    steps = gy.shape[0] * gy.shape[1] * gy.shape[2] // deep
    parts = launch.shares(row_tiles * column_tiles * groups, steps, gw.nbytes)
    target = gw if parts == 1 else memory.empty((parts, *gw.shape))
    kernels[tile].launch(
        (row_tiles * column_tiles, groups * parts),
        x, gy, target, _tap_table(taps.tobytes()), x.shape[0], *x.shape[1:3], depth, channels, *gy.shape[1:3], columns, outputs, groups, *in_step, len(taps),
        column_tiles, parts, gw.size, outputs % 4 == 0)
    if parts > 1:
        _add_up.launch(launch.blocks_for(gw.size), target, None, gw, gw.size, parts, 1, 0, 0)


@functools.lru_cache(maxsize=1024)
def _tap_table(taps):
    """Taps, as their bytes, on the GPU."""
    return memory.upload(np.frombuffer(taps, np.int64).astype(np.int32))


@functools.lru_cache(maxsize=1024)
def _tables(phases, taps, in_step, size):
    """Taps and phases on the GPU, without taps that no pixel of an image of `size` is under.

    Few are left of a large kernel on a small image. Also returns the most that a phase has.
    """
    taps = np.frombuffer(taps, np.int64).reshape(-1, 3)
    kept, table, count = [], [], 0
    for first, last, origin_y, origin_x, *grid in phases:
        here = taps[first:last]
        for axis in (0, 1):
            offsets = here[:, axis]
            here = here[(offsets < size[axis]) & (offsets > -(grid[axis] - 1) * in_step[axis] - 1)]
        kept.append(here)
        table.append((count, count + len(here), origin_y, origin_x, *grid))
        count += len(here)
    most = max(map(len, kept))
    return (_tap_table(np.concatenate(kept).astype(np.int64).tobytes()),
            memory.upload(np.array(table, np.int32)), most)
