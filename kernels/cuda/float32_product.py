"""The products of `gathered_product` in float32, by multiply-adds.

A block of threads computes a tile of results: 8 x 8 a thread, in registers. Eight numbers of the
depth at a time are brought to shared memory, twice buffered: while a block multiplies one part, the
next is on its way into registers.
"""

import functools

from numba import cuda
from numba.cuda.types import float32, int32

from . import launch
from .compilation import FLOATS, INT, INTS, inline, kernel
from .elementwise import rectified
from .indexing import quotient, remainder
from .target import add_outer_product, load4, store4
from .tiles import (
    OUTSIDE,
    block_place,
    gradient_place,
    is_inside,
    product_place,
    put_quad,
    read_phase,
    read_tap,
    share,
    source_pixel,
    wrapped,
)

DEPTH = 8  # of a part in shared memory


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
def fetch(quads, i, source, at, is_there):
    """quads[i] = four numbers of the source, or zeros."""
    if is_there:
        quads[i, 0], quads[i, 1], quads[i, 2], quads[i, 3] = load4(source, at)
    else:
        for j in range(4):
            quads[i, j] = float32(0)


@inline
def put_row(y, at, column, outputs, whole_quads, sums, i):
    """Store a thread's row i of results at y[at], unless that is negative."""
    if at >= 0:
        put_quad(y, at, column, outputs, whole_quads,
                 sums[i, 0], sums[i, 1], sums[i, 2], sums[i, 3])
        put_quad(y, at + 16, column + 16, outputs, whole_quads,
                 sums[i, 4], sums[i, 5], sums[i, 6], sums[i, 7])


@inline
def put_product_row(y, sums, bias, i, row, grid, image, column, outputs, whole_quads, relu):
    """Store a thread's row i, which is a pixel of the grid, with bias and ReLU."""
    for j in range(8):
        sums[i, j] = rectified(sums[i, j] + bias[j], relu)
    at = product_place(int32(row + (i & 3) + (i >> 2) * 32), grid, image)
    put_row(y, at, column, outputs, whole_quads, sums, i)


@inline
def put_gradient_row(gw, sums, i, row, taps, matrix, column, outputs, whole_quads):
    """Store a thread's row i, which is a channel of a tap."""
    at = gradient_place(int32(row + (i & 3) + (i >> 2) * 32), taps, matrix)
    put_row(gw, at, column, outputs, whole_quads, sums, i)


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

    @kernel(FLOATS, FLOATS, FLOATS, FLOATS, INTS, INTS, *(INT,) * 20,
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
        # Written out: by `block_place` it would take a register too many.
        group = quotient(cuda.blockIdx.y, parts)
        part = remainder(cuda.blockIdx.y, parts)
        row0 = int32(quotient(cuda.blockIdx.x, column_tiles) * rows)
        column0 = int32(remainder(cuda.blockIdx.x, column_tiles) * columns)
        first_tap, last_tap, origin_y, origin_x, grid_h, grid_w = read_phase(
            phases, cuda.blockIdx.z)
        count = int32(images * grid_h * grid_w)
        if row0 >= count:
            return

        step, stop = share((last_tap - first_tap) * depth, DEPTH, parts, part)

        # The pixels whose rows this thread loads, and where it is in the depth.
        k = int32((thread & 1) * 4)
        for i in range(a_loads):
            m = int32(row0 + (thread >> 1) + i * half)
            pixel_y[i], pixel_x[i], at = source_pixel(
                m, grid_h, grid_w, in_step_y, in_step_x, x_h, x_w)
            pixel[i] = int32(at * (groups * depth) + group * depth)
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
                tap_y, tap_x, tap_w = read_tap(taps, tap, last_tap)
                for i in range(a_loads):
                    in_y, in_x = int32(pixel_y[i] + tap_y), int32(pixel_x[i] + tap_x)
                    at = int32(pixel[i] + (tap_y * x_w + tap_x) * (groups * depth) + channel)
                    fetch(a_next, i, x, at,
                          tap < last_tap and is_inside(in_y, in_x, x_h, x_w))
                for i in range(b_loads):
                    inside = b_tap[i] < last_tap
                    at = int32(0)
                    if transposed:
                        inside = inside and tap < last_tap
                        at = int32(w_at[i] + tap_w * w_rows * (groups * w_columns) + channel)
                    elif inside:
                        at = int32((taps[3 * b_tap[i] + 2] * w_rows + b_channel[i])
                                   * (groups * w_columns) + w_at[i])
                    fetch(b_next, i, w, at, inside)
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
        grid = count, grid_h, grid_w, origin_y, origin_x, out_step_y, out_step_x
        image = y_h, y_w, int32(groups * outputs), int32(group * outputs + part * y_size + column)
        row = int32(row0 + tile_row)
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
        group, part, row0, column0 = block_place(
            cuda.blockIdx.x, cuda.blockIdx.y, column_tiles, parts, rows, columns)
        count = int32(images * out_h * out_w)

        step, stop = share(count, DEPTH, parts, part)

        # The tap and channel whose numbers this thread loads, and the pixels it is at.
        a_row, a_column = int32(thread // a_quads), int32(thread % a_quads * 4)
        tap = quotient(row0 + a_column, depth)
        channel = remainder(row0 + a_column, depth)
        tap_y, tap_x, _ = read_tap(taps, tap, tap_count)
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
                    # Written out: by `is_inside` and `fetch` it would take a register too many.
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
                    fetch(b_next, i, gy, int32(q * gy_stride + gy_at), b_inside and q < count)
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
        matrix = (tap_count, depth, channels, int32(groups * outputs),
                  int32(group * outputs + part * gw_size + column))
        row = int32(row0 + tile_row)
        put_gradient_row(gw, sums, 0, row, taps, matrix, column, outputs, whole_quads)
        put_gradient_row(gw, sums, 1, row, taps, matrix, column, outputs, whole_quads)
        put_gradient_row(gw, sums, 2, row, taps, matrix, column, outputs, whole_quads)
        put_gradient_row(gw, sums, 3, row, taps, matrix, column, outputs, whole_quads)
        put_gradient_row(gw, sums, 4, row, taps, matrix, column, outputs, whole_quads)
        put_gradient_row(gw, sums, 5, row, taps, matrix, column, outputs, whole_quads)
        put_gradient_row(gw, sums, 6, row, taps, matrix, column, outputs, whole_quads)
        put_gradient_row(gw, sums, 7, row, taps, matrix, column, outputs, whole_quads)

    return gradient_kernel


@functools.cache
def products(algorithm):
    """{(index of the tile, transposed): kernel}; there is one algorithm."""
    return {
        (index, transposed): make_product(*block, transposed)
        for index, block in enumerate(launch.BLOCKS) for transposed in (False, True)
    }


@functools.cache
def gradients(algorithm):
    """Kernels by the index of the tile."""
    return [make_gradient(*block) for block in launch.BLOCKS]
