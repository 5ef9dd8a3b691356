"""The products of `gathered_product` on tensor cores, for TF32 and BF16 factors.

Sixteen numbers of the depth at a time are copied to shared memory asynchronously, as they are;
while a block multiplies one part, the next is on its way. A warp computes a tile of 64 x 32 results
by 4 x 4 matrix instructions, whose operands are rounded as they are read. Sums are float32.
Rows in shared memory are a little longer than a part, so that the reads of a warp, which has four
neighbours along the depth and eight across, go to different banks.
"""

import functools

from numba import cuda
from numba.cuda.types import float32, int32, uint32

from . import algorithms, launch
from .compilation import FLOATS, INT, INTS, inline, kernel
from .elementwise import rectified
from .indexing import quotient, remainder
from .target import (
    commit_copies,
    copy4_async,
    load1,
    multiply_bf16,
    multiply_tf32,
    to_bf16_pair,
    to_tf32,
    wait_for_copies,
)
from .tiles import (
    OUTSIDE,
    block_place,
    gradient_place,
    is_inside,
    product_place,
    read_phase,
    read_tap,
    share,
    source_pixel,
)

DEPTH = 16


@inline
def multiply_part_tf32(sums, left, right, a, b, a_at, b_at, a_row, a_depth, b_column, b_depth):
    """sums += the product of a warp's rows of a and columns of b, along a part."""
    for half in range(2):
        for i in range(4):
            at = a_at + i * 16 * a_row + half * 8 * a_depth
            left[i, 0] = to_tf32(load1(a, at))
            left[i, 1] = to_tf32(load1(a, at + 8 * a_row))
            left[i, 2] = to_tf32(load1(a, at + 4 * a_depth))
            left[i, 3] = to_tf32(load1(a, at + 8 * a_row + 4 * a_depth))
        for j in range(4):
            at = b_at + j * 8 * b_column + half * 8 * b_depth
            right[j, 0] = to_tf32(load1(b, at))
            right[j, 1] = to_tf32(load1(b, at + 4 * b_depth))
        for i in range(4):
            for j in range(4):
                sums[i, j, 0], sums[i, j, 1], sums[i, j, 2], sums[i, j, 3] = multiply_tf32(
                    left[i, 0], left[i, 1], left[i, 2], left[i, 3], right[j, 0], right[j, 1],
                    sums[i, j, 0], sums[i, j, 1], sums[i, j, 2], sums[i, j, 3])


@inline
def multiply_part_bf16(sums, left, right, a, b, a_at, b_at, a_row, a_depth, b_column, b_depth):
    """The same with BF16; here a lane's numbers are two neighbours along the depth."""
    for i in range(4):
        for k in range(2):
            for below in range(2):
                at = a_at + (i * 16 + below * 8) * a_row + k * 8 * a_depth
                left[i, 2 * k + below] = to_bf16_pair(load1(a, at), load1(a, at + a_depth))
    for j in range(4):
        for k in range(2):
            at = b_at + j * 8 * b_column + k * 8 * b_depth
            right[j, k] = to_bf16_pair(load1(b, at), load1(b, at + b_depth))
    for i in range(4):
        for j in range(4):
            sums[i, j, 0], sums[i, j, 1], sums[i, j, 2], sums[i, j, 3] = multiply_bf16(
                left[i, 0], left[i, 1], left[i, 2], left[i, 3], right[j, 0], right[j, 1],
                sums[i, j, 0], sums[i, j, 1], sums[i, j, 2], sums[i, j, 3])


@inline
def put_pair(y, at, column, outputs, x0, x1):
    """Store those of two neighbours in a row that are in the matrix of results."""
    if column < outputs:
        y[at] = x0
    if column + 1 < outputs:
        y[at + 1] = x1


@inline
def put_rows(y, rows_at, i, column, outputs, sums):
    """Store two rows of a lane's results at rows_at, unless that is negative."""
    if rows_at[2 * i] >= 0:
        for j in range(4):
            put_pair(y, rows_at[2 * i] + 8 * j, column + 8 * j, outputs,
                     sums[i, j, 0], sums[i, j, 1])
    if rows_at[2 * i + 1] >= 0:
        for j in range(4):
            put_pair(y, rows_at[2 * i + 1] + 8 * j, column + 8 * j, outputs,
                     sums[i, j, 2], sums[i, j, 3])


@inline
def put_tile(y, rows_at, column, outputs, sums):
    """Store a lane's results. Written out: an index that is no constant moves sums to memory."""
    put_rows(y, rows_at, 0, column, outputs, sums)
    put_rows(y, rows_at, 1, column, outputs, sums)
    put_rows(y, rows_at, 2, column, outputs, sums)
    put_rows(y, rows_at, 3, column, outputs, sums)


# How a part is multiplied, and how many numbers of the depth a lane holds side by side.
MULTIPLY = {algorithms.TF32: (multiply_part_tf32, 1), algorithms.BF16: (multiply_part_bf16, 2)}


def make_product(down, across, blocks, transposed, algorithm):
    """The kernel of `gathered_product.product` for tiles of 64 * down x 32 * across."""
    rows, columns = 64 * down, 32 * across
    threads = 32 * down * across
    a_row, a_depth = DEPTH + 4, 1
    # Weights whose depth runs along memory stay that way.
    b_column, b_depth = (DEPTH + 4, 1) if transposed else (1, columns + 8)
    a_part = rows * a_row
    b_part = columns * b_column if transposed else DEPTH * b_depth
    a_numbers, b_numbers = 2 * a_part, 2 * b_part
    a_loads, b_loads = 8 // across, 4 // down
    quarter = threads // 4  # four threads copy a row of 16 numbers
    quads = columns // 4
    multiply_part, spread = MULTIPLY[algorithm]

    @kernel(FLOATS, FLOATS, FLOATS, FLOATS, INTS, INTS, *(INT,) * 20,
            threads=threads, blocks=blocks,
            lowest=algorithms.TENSOR_CORES)
    def product_kernel(
        x, w, bias, y, taps, phases, images, x_h, x_w, depth, y_h, y_w, outputs, groups,
        w_rows, w_columns, in_step_y, in_step_x, out_step_y, out_step_x, column_tiles, parts,
        y_size, has_bias, relu, whole_quads,
    ):
        a = cuda.shared.array(a_numbers, float32, alignment=16)
        b = cuda.shared.array(b_numbers, float32, alignment=16)
        sums = cuda.local.array((4, 4, 4), float32)
        left = cuda.local.array((4, 4), uint32)
        right = cuda.local.array((4, 2), uint32)
        rows_at = cuda.local.array(8, int32)
        pixel_y = cuda.local.array(a_loads, int32)
        pixel_x = cuda.local.array(a_loads, int32)
        pixel = cuda.local.array(a_loads, int32)

        thread = int32(cuda.threadIdx.x)
        group, part, row0, column0 = block_place(
            cuda.blockIdx.x, cuda.blockIdx.y, column_tiles, parts, rows, columns)
        first_tap, last_tap, origin_y, origin_x, grid_h, grid_w = read_phase(
            phases, cuda.blockIdx.z)
        count = int32(images * grid_h * grid_w)
        if row0 >= count:
            return

        step, stop = share((last_tap - first_tap) * depth, DEPTH, parts, part)

        k = int32((thread & 3) * 4)
        for i in range(a_loads):
            m = int32(row0 + (thread >> 2) + i * quarter)
            pixel_y[i], pixel_x[i], pixel[i] = source_pixel(
                m, grid_h, grid_w, in_step_y, in_step_x, x_h, x_w)
            if m >= count:
                pixel_y[i] = OUTSIDE
        x_stride = int32(groups * depth)
        w_stride = int32(groups * w_columns)
        x_group = int32(group * depth)
        w_group = int32(group * w_columns)

        warp, lane = int32(thread >> 5), int32(thread & 31)
        warp_row = int32((warp // across) * 64 + (lane >> 2))
        warp_column = int32((warp % across) * 32 + (lane >> 2))
        lane_depth = int32((lane & 3) * spread)
        for i in range(4):
            for j in range(4):
                for n in range(4):
                    sums[i, j, n] = float32(0)

        buffer = int32(0)
        turn = int32(step - 1)
        while turn < stop:
            # What turn `step` needs is copied in the turn before it, and so on.
            if turn >= step:
                wait_for_copies()
                cuda.syncthreads()
            if turn + 1 < stop:
                other = int32(buffer ^ 1) if turn >= step else int32(0)
                place = int32((turn + 1) * DEPTH + k)
                tap, channel = int32(first_tap + quotient(place, depth)), remainder(place, depth)
                tap_y, tap_x, tap_w = read_tap(taps, tap, last_tap)
                for i in range(a_loads):
                    in_y, in_x = int32(pixel_y[i] + tap_y), int32(pixel_x[i] + tap_x)
                    at = int32(0)
                    size = int32(0)
                    if tap < last_tap and is_inside(in_y, in_x, x_h, x_w):
                        at = int32((pixel[i] + tap_y * x_w + tap_x) * x_stride + x_group + channel)
                        size = int32(16)
                    to = int32(other * a_part + ((thread >> 2) + i * quarter) * a_row + k)
                    copy4_async(a, to, x, at, size)
                for i in range(b_loads):
                    at = int32(0)
                    size = int32(0)
                    if transposed:
                        n = int32((thread >> 2) + i * quarter)
                        to = int32(other * b_part + n * b_column + k)
                        if tap < last_tap and column0 + n < outputs:
                            row = int32(tap_w * w_rows + column0 + n)
                            at = int32(row * w_stride + w_group + channel)
                            size = int32(16)
                    else:
                        n = int32(thread % quads * 4)
                        b_k = int32(thread // quads + i * (threads // quads))
                        to = int32(other * b_part + b_k * b_depth + n)
                        b_place = int32((turn + 1) * DEPTH + b_k)
                        b_tap = int32(first_tap + quotient(b_place, depth))
                        if b_tap < last_tap and column0 + n < w_columns:
                            row = int32(
                                taps[3 * b_tap + 2] * w_rows + remainder(b_place, depth))
                            at = int32(row * w_stride + w_group + column0 + n)
                            size = int32(16)
                    copy4_async(b, to, w, at, size)
                commit_copies()
            if turn >= step:
                a_at = int32(buffer * a_part + warp_row * a_row + lane_depth * a_depth)
                b_at = int32(buffer * b_part + warp_column * b_column + lane_depth * b_depth)
                multiply_part(
                    sums, left, right, a, b, a_at, b_at, a_row, a_depth, b_column, b_depth)
                buffer = int32(buffer ^ 1)
            turn = int32(turn + 1)

        first_column = int32(column0 + (warp % across) * 32 + 2 * (lane & 3))
        grid = count, grid_h, grid_w, origin_y, origin_x, out_step_y, out_step_x
        image = (y_h, y_w, int32(groups * outputs),
                 int32(group * outputs + part * y_size + first_column))
        for i in range(8):
            rows_at[i] = product_place(int32(row0 + warp_row + i * 8), grid, image)
        for j in range(4):
            for n in range(2):
                column = int32(first_column + j * 8 + n)
                number = float32(0)
                if has_bias and column < outputs:
                    number = bias[group * outputs + column]
                for i in range(4):
                    sums[i, j, n] = rectified(sums[i, j, n] + number, relu)
                    sums[i, j, n + 2] = rectified(sums[i, j, n + 2] + number, relu)
        put_tile(y, rows_at, first_column, outputs, sums)

    return product_kernel


def make_gradient(down, across, blocks, algorithm):
    """The kernel of `gathered_product.gradient` for tiles of 64 * down x 32 * across."""
    rows, columns = 64 * down, 32 * across
    threads = 32 * down * across
    a_row, a_depth = 1, rows + 8
    b_column, b_depth = 1, columns + 8
    a_part, b_part = DEPTH * a_depth, DEPTH * b_depth
    a_numbers, b_numbers = 2 * a_part, 2 * b_part
    a_loads, b_loads = 8 // across, 4 // down
    a_quads, b_quads = rows // 4, columns // 4
    a_rows, b_rows = threads // a_quads, threads // b_quads
    multiply_part, spread = MULTIPLY[algorithm]

    @kernel(FLOATS, FLOATS, FLOATS, INTS, *(INT,) * 17,
            threads=threads, blocks=blocks,
            lowest=algorithms.TENSOR_CORES)
    def gradient_kernel(
        x, gy, gw, taps, images, x_h, x_w, depth, channels, out_h, out_w, columns_there, outputs,
        groups, step_y, step_x, tap_count, column_tiles, parts, gw_size, whole_quads,
    ):
        a = cuda.shared.array(a_numbers, float32, alignment=16)
        b = cuda.shared.array(b_numbers, float32, alignment=16)
        sums = cuda.local.array((4, 4, 4), float32)
        left = cuda.local.array((4, 4), uint32)
        right = cuda.local.array((4, 2), uint32)
        rows_at = cuda.local.array(8, int32)

        thread = int32(cuda.threadIdx.x)
        group, part, row0, column0 = block_place(
            cuda.blockIdx.x, cuda.blockIdx.y, column_tiles, parts, rows, columns)
        count = int32(images * out_h * out_w)

        step, stop = share(count, DEPTH, parts, part)

        a_first, a_column = int32(thread // a_quads), int32(thread % a_quads * 4)
        tap = quotient(row0 + a_column, depth)
        channel = remainder(row0 + a_column, depth)
        tap_y, tap_x, _ = read_tap(taps, tap, tap_count)
        b_first, b_quad = int32(thread // b_quads), int32(thread % b_quads * 4)
        x_stride = int32(groups * depth)
        gy_stride = int32(groups * columns_there)
        x_at = int32(group * depth + channel)
        gy_at = int32(group * columns_there + column0 + b_quad)
        b_inside = column0 + b_quad < columns_there

        warp, lane = int32(thread >> 5), int32(thread & 31)
        warp_row = int32((warp // across) * 64 + (lane >> 2))
        warp_column = int32((warp % across) * 32 + (lane >> 2))
        lane_depth = int32((lane & 3) * spread)
        for i in range(4):
            for j in range(4):
                for n in range(4):
                    sums[i, j, n] = float32(0)

        buffer = int32(0)
        turn = int32(step - 1)
        while turn < stop:
            if turn >= step:
                wait_for_copies()
                cuda.syncthreads()
            if turn + 1 < stop:
                other = int32(buffer ^ 1) if turn >= step else int32(0)
                for i in range(a_loads):
                    k = int32(a_first + i * a_rows)
                    q = int32((turn + 1) * DEPTH + k)
                    in_y, in_x, pixel = source_pixel(q, out_h, out_w, step_y, step_x, x_h, x_w)
                    in_y, in_x = int32(in_y + tap_y), int32(in_x + tap_x)
                    at = int32(0)
                    size = int32(0)
                    if tap < tap_count and q < count and is_inside(in_y, in_x, x_h, x_w):
                        at = int32((pixel + tap_y * x_w + tap_x) * x_stride + x_at)
                        size = int32(16)
                    copy4_async(a, int32(other * a_part + k * a_depth + a_column), x, at, size)
                for i in range(b_loads):
                    k = int32(b_first + i * b_rows)
                    q = int32((turn + 1) * DEPTH + k)
                    at = int32(0)
                    size = int32(0)
                    if b_inside and q < count:
                        at = int32(q * gy_stride + gy_at)
                        size = int32(16)
                    copy4_async(b, int32(other * b_part + k * b_depth + b_quad), gy, at, size)
                commit_copies()
            if turn >= step:
                a_at = int32(buffer * a_part + warp_row * a_row + lane_depth * a_depth)
                b_at = int32(buffer * b_part + warp_column * b_column + lane_depth * b_depth)
                multiply_part(
                    sums, left, right, a, b, a_at, b_at, a_row, a_depth, b_column, b_depth)
                buffer = int32(buffer ^ 1)
            turn = int32(turn + 1)

        first_column = int32(column0 + (warp % across) * 32 + 2 * (lane & 3))
        matrix = (tap_count, depth, channels, int32(groups * outputs),
                  int32(group * outputs + part * gw_size + first_column))
        for i in range(8):
            rows_at[i] = gradient_place(int32(row0 + warp_row + i * 8), taps, matrix)
        put_tile(gw, rows_at, first_column, outputs, sums)

    return gradient_kernel


@functools.cache
def products(algorithm):
    """{(index of the tile, transposed): kernel} for an algorithm."""
    return {
        (index, transposed): make_product(*block, transposed, algorithm)
        for index, block in enumerate(launch.TENSOR_BLOCKS) for transposed in (False, True)
    }


@functools.cache
def gradients(algorithm):
    """Kernels by the index of the tile, for an algorithm."""
    return [make_gradient(*block, algorithm) for block in launch.TENSOR_BLOCKS]
