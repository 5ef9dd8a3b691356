"""The products of `gathered_product` on tensor cores, for TF32 and BF16 factors.

Sixteen numbers of the depth at a time, a part, are copied to shared memory asynchronously, as they
are; while a block multiplies one part, the next two are on their way. A warp computes a tile of
64 x 32 results by 4 x 4 matrix instructions, of which `fragments` has a lane's share. Sums are
float32.
"""

import functools

from numba import cuda
from numba.cuda.types import float32, int32, uint32

from . import algorithms, launch
from .compilation import FLOATS, INT, INTS, kernel
from .elementwise import rectified
from .fragments import (
    DEPTH,
    MULTIPLY,
    NOWHERE,
    PARTS,
    across_place,
    along_place,
    copy_quad,
    part_after,
    put_tile,
    result_row,
)
from .indexing import quotient, remainder
from .target import commit_copies, wait_for_older_copies
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


def make_product(down, across, blocks, transposed, algorithm):
    """The kernel of `gathered_product.product` for tiles of 64 * down x 32 * across."""
    rows, columns = 64 * down, 32 * across
    threads = 32 * down * across
    a_part, b_part = rows * DEPTH, columns * DEPTH
    a_numbers, b_numbers = PARTS * a_part, PARTS * b_part
    a_loads, b_loads = 8 // across, 4 // down
    quarter = threads // 4  # four threads copy a line of 16 numbers
    # And so many threads a row, in which lines run along.
    b_threads = threads // DEPTH
    # Weights whose depth runs along memory stay that way.
    read_along, read_across, multiply_rows, words = MULTIPLY[algorithm]
    read_b, b_step = (read_along, 2 * DEPTH) if transposed else (read_across, columns)

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
        left = cuda.local.array((4, words), uint32)
        right = cuda.local.array((4, words), uint32)
        rows_at = cuda.local.array(8, int32)
        pixel_y = cuda.local.array(a_loads, int32)
        pixel_x = cuda.local.array(a_loads, int32)
        pixel = cuda.local.array(a_loads, int32)
        a_at = cuda.local.array(a_loads, int32)
        b_at = cuda.local.array(b_loads, int32)

        thread = int32(cuda.threadIdx.x)
        group, part, row0, column0 = block_place(
            cuda.blockIdx.x, cuda.blockIdx.y, column_tiles, parts, rows, columns)
        first_tap, last_tap, origin_y, origin_x, grid_h, grid_w = read_phase(
            phases, cuda.blockIdx.z)
        count = int32(images * grid_h * grid_w)
        if row0 >= count:
            return

        step, stop = share((last_tap - first_tap) * depth, DEPTH, parts, part)

        # The pixels whose rows this thread copies, and where it is in the depth: one tap too early
        # and as much too far along it, so that the first turn goes on to where it begins.
        k = int32((thread & 3) * 4)
        for i in range(a_loads):
            m = int32(row0 + (thread >> 2) + i * quarter)
            pixel_y[i], pixel_x[i], pixel[i] = source_pixel(
                m, grid_h, grid_w, in_step_y, in_step_x, x_h, x_w)
            if m >= count:
                pixel_y[i] = OUTSIDE
        tap = int32(first_tap + quotient(step * DEPTH + k, depth) - 1)
        channel = int32(remainder(step * DEPTH + k, depth) + depth)
        a_to = along_place(thread >> 2, k)
        b_k, b_line = int32(thread // b_threads), int32(thread % b_threads * 4)
        b_tap = int32(first_tap + quotient(step * DEPTH + b_k, depth) - 1)
        b_channel = int32(remainder(step * DEPTH + b_k, depth) + depth)
        row_at, lines_left = int32(0), int32(0)
        w_stride = int32(groups * w_columns)
        w_group = int32(group * w_columns)

        warp, lane = int32(thread >> 5), int32(thread & 31)
        tile_row, tile_column = int32((warp // across) * 64), int32((warp % across) * 32)
        k = int32((lane & 3) * 4)
        a_from = along_place(tile_row + (lane >> 2) * 4, k)
        if transposed:
            b_from = along_place(tile_column + (lane >> 2) * 4, k)
        else:
            b_from = across_place(tile_column + (lane >> 2) * 4, k, columns)
        for i in range(4):
            for j in range(4):
                for n in range(4):
                    sums[i, j, n] = float32(0)

        # Parts to be copied still, parts that are there or on their way, and the oldest's place.
        remaining, there, oldest = int32(stop - step), int32(0), int32(0)
        while remaining > 1 - PARTS:
            newest = part_after(oldest, there)
            if there == PARTS - 1:
                wait_for_older_copies()
                cuda.syncthreads()
            if remaining > 0:
                if channel >= depth:
                    while channel >= depth:
                        tap, channel = int32(tap + 1), int32(channel - depth)
                    tap_y, tap_x, tap_w = read_tap(taps, tap, last_tap)
                    for i in range(a_loads):
                        in_y, in_x = int32(pixel_y[i] + tap_y), int32(pixel_x[i] + tap_x)
                        a_at[i] = int32(NOWHERE)
                        if tap < last_tap and is_inside(in_y, in_x, x_h, x_w):
                            a_at[i] = int32((pixel[i] + tap_y * x_w + tap_x) * (groups * depth)
                                            + group * depth + channel)
                    if transposed:
                        for i in range(b_loads):
                            n = int32(column0 + (thread >> 2) + i * quarter)
                            b_at[i] = int32(NOWHERE)
                            if tap < last_tap and n < outputs:
                                b_at[i] = int32((tap_w * w_rows + n) * w_stride + w_group + channel)
                channel = int32(channel + DEPTH)
                for i in range(a_loads):
                    to = int32(newest * a_part + a_to + i * quarter * DEPTH)
                    copy_quad(a, to, x, a_at[i])
                    if a_at[i] >= 0:
                        a_at[i] = int32(a_at[i] + DEPTH)
                if transposed:
                    for i in range(b_loads):
                        to = int32(newest * b_part + a_to + i * quarter * DEPTH)
                        copy_quad(b, to, w, b_at[i])
                        if b_at[i] >= 0:
                            b_at[i] = int32(b_at[i] + DEPTH)
                else:
                    if b_channel >= depth:
                        while b_channel >= depth:
                            b_tap, b_channel = int32(b_tap + 1), int32(b_channel - depth)
                        lines_left = int32(0)
                        if b_tap < last_tap:
                            row = int32(taps[3 * b_tap + 2] * w_rows + b_channel)
                            row_at = int32(row * w_stride + w_group + column0 + b_line)
                            lines_left = int32(w_columns - column0 - b_line)
                    for i in range(b_loads):
                        line = i * b_threads * 4
                        to = across_place(b_line + line, b_k, columns)
                        copy_quad(b, int32(newest * b_part + to), w,
                                  int32(row_at + line) if line < lines_left else int32(NOWHERE))
                    b_channel = int32(b_channel + DEPTH)
                    row_at = int32(row_at + DEPTH * w_stride)
            commit_copies()
            if there < PARTS - 1:
                there = int32(there + 1)
            else:
                read_b(right, b, int32(oldest * b_part + b_from), b_step, 4)
                at = int32(oldest * a_part + a_from)
                read_along(left, a, at, 2 * DEPTH, 2)
                multiply_rows(sums, 0, left, 0, right)
                read_along(left, a, at + 4 * DEPTH, 2 * DEPTH, 2)
                multiply_rows(sums, 1, left, 0, right)
                read_along(left, a, at + 32 * DEPTH, 2 * DEPTH, 2)
                multiply_rows(sums, 2, left, 0, right)
                read_along(left, a, at + 36 * DEPTH, 2 * DEPTH, 2)
                multiply_rows(sums, 3, left, 0, right)
                oldest = part_after(oldest, 1)
            remaining = int32(remaining - 1)

        column = int32(column0 + tile_column + 8 * (lane & 3))
        grid = count, grid_h, grid_w, origin_y, origin_x, out_step_y, out_step_x
        image = y_h, y_w, int32(groups * outputs), int32(group * outputs + part * y_size + column)
        for i in range(8):
            rows_at[i] = product_place(row0 + tile_row + result_row(lane, i), grid, image)
        for j in range(4):
            for n in range(2):
                number = float32(0)
                if has_bias and column + 4 * n + j < outputs:
                    number = bias[group * outputs + column + 4 * n + j]
                for i in range(4):
                    sums[i, j, n] = rectified(sums[i, j, n] + number, relu)
                    sums[i, j, n + 2] = rectified(sums[i, j, n + 2] + number, relu)
        put_tile(y, rows_at, column, outputs, whole_quads, sums)

    return product_kernel


def make_gradient(down, across, blocks, algorithm):
    """The kernel of `gathered_product.gradient` for tiles of 64 * down x 32 * across."""
    rows, columns = 64 * down, 32 * across
    threads = 32 * down * across
    a_part, b_part = rows * DEPTH, columns * DEPTH
    a_numbers, b_numbers = PARTS * a_part, PARTS * b_part
    a_loads, b_loads = 8 // across, 4 // down
    a_quads, b_quads = rows // 4, columns // 4
    a_rows, b_rows = threads // a_quads, threads // b_quads  # that all threads copy at once
    _, read_across, multiply_rows, words = MULTIPLY[algorithm]

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
        left = cuda.local.array((4, words), uint32)
        right = cuda.local.array((4, words), uint32)
        rows_at = cuda.local.array(8, int32)
        pixel_y = cuda.local.array(a_loads, int32)
        pixel_x = cuda.local.array(a_loads, int32)
        image = cuda.local.array(a_loads, int32)

        thread = int32(cuda.threadIdx.x)
        group, part, row0, column0 = block_place(
            cuda.blockIdx.x, cuda.blockIdx.y, column_tiles, parts, rows, columns)
        count = int32(images * out_h * out_w)

        step, stop = share(count, DEPTH, parts, part)

        # The tap and channel whose numbers this thread copies, and the pixels it is at.
        a_k, a_line = int32(thread // a_quads), int32(thread % a_quads * 4)
        tap = quotient(row0 + a_line, depth)
        channel = remainder(row0 + a_line, depth)
        tap_y, tap_x, _ = read_tap(taps, tap, tap_count)
        if tap >= tap_count:
            tap_y = int32(OUTSIDE)
        for i in range(a_loads):
            q = int32(step * DEPTH + a_k + i * a_rows)
            image[i] = quotient(q, out_h * out_w)
            pixel_y[i] = quotient(remainder(q, out_h * out_w), out_w)
            pixel_x[i] = remainder(q, out_w)
        x_at = int32(group * depth + channel)
        b_k, b_line = int32(thread // b_quads), int32(thread % b_quads * 4)
        gy_stride = int32(groups * columns_there)
        gy_at = int32(group * columns_there + column0 + b_line)
        gy_count = count if column0 + b_line < columns_there else int32(0)

        warp, lane = int32(thread >> 5), int32(thread & 31)
        tile_row, tile_column = int32((warp // across) * 64), int32((warp % across) * 32)
        k = int32((lane & 3) * 4)
        a_from = across_place(tile_row + (lane >> 2) * 4, k, rows)
        b_from = across_place(tile_column + (lane >> 2) * 4, k, columns)
        for i in range(4):
            for j in range(4):
                for n in range(4):
                    sums[i, j, n] = float32(0)

        remaining, there, oldest = int32(stop - step), int32(0), int32(0)
        while remaining > 1 - PARTS:
            newest = part_after(oldest, there)
            if there == PARTS - 1:
                wait_for_older_copies()
                cuda.syncthreads()
            if remaining > 0:
                for i in range(a_loads):
                    in_y = int32(pixel_y[i] * step_y + tap_y)
                    in_x = int32(pixel_x[i] * step_x + tap_x)
                    at = int32(NOWHERE)
                    if image[i] < images and is_inside(in_y, in_x, x_h, x_w):
                        at = int32(((image[i] * x_h + in_y) * x_w + in_x) * (groups * depth) + x_at)
                    to = across_place(a_line, a_k + i * a_rows, rows)
                    copy_quad(a, int32(newest * a_part + to), x, at)
                    pixel_x[i] = int32(pixel_x[i] + DEPTH)
                    if pixel_x[i] >= out_w:
                        down_rows = quotient(pixel_x[i], out_w)
                        pixel_x[i] = int32(pixel_x[i] - down_rows * out_w)
                        pixel_y[i] = int32(pixel_y[i] + down_rows)
                        if pixel_y[i] >= out_h:
                            next_images = quotient(pixel_y[i], out_h)
                            pixel_y[i] = int32(pixel_y[i] - next_images * out_h)
                            image[i] = int32(image[i] + next_images)
                for i in range(b_loads):
                    q = int32((stop - remaining) * DEPTH + b_k + i * b_rows)
                    to = across_place(b_line, b_k + i * b_rows, columns)
                    copy_quad(b, int32(newest * b_part + to), gy,
                              int32(q * gy_stride + gy_at) if q < gy_count else int32(NOWHERE))
            commit_copies()
            if there < PARTS - 1:
                there = int32(there + 1)
            else:
                read_across(right, b, int32(oldest * b_part + b_from), columns, 4)
                at = int32(oldest * a_part + a_from)
                read_across(left, a, at, rows, 4)
                multiply_rows(sums, 0, left, 0, right)
                multiply_rows(sums, 1, left, 2, right)
                read_across(left, a, at + 32, rows, 4)
                multiply_rows(sums, 2, left, 0, right)
                multiply_rows(sums, 3, left, 2, right)
                oldest = part_after(oldest, 1)
            remaining = int32(remaining - 1)

        column = int32(column0 + tile_column + 8 * (lane & 3))
        matrix = (tap_count, depth, channels, int32(groups * outputs),
                  int32(group * outputs + part * gw_size + column))
        for i in range(8):
            rows_at[i] = gradient_place(row0 + tile_row + result_row(lane, i), taps, matrix)
        put_tile(gw, rows_at, column, outputs, whole_quads, sums)

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
