"""The innermost part of every matrix product here: a small tile of C, held in SIMD registers.

A tile of some rows x `panel_width` numbers of C = A B is summed over the depth in registers: each
step broadcasts one number of A per row and multiplies it with one or two vectors of B. The largest
tiles leave no register unused: 14 x 2 vectors + 2 of B + 1 broadcast of AVX-512's 32 registers,
6 x 2 + 2 + 1 of the 16 of AVX2 and SSE. (Goto and van de Geijn, "Anatomy of High-Performance Matrix
Multiplication", 2008, describes the scheme.) Tiles of fewer rows are for products of few rows,
which they divide with less left over.

B comes in panels packed for that, ``b[k * panel_width + j]``, unless its rows are said to lie
another step apart. A comes in one of two ways:

*woven*   by tiles of rows and, in a tile, by vectors: lane l of row i's vector v is
          ``a[(v * rows + i) * lanes + l]``, element (i, v * lanes + l) of A. Whoever has whole
          vectors of a row stores them so, and the tile is read from front to end.
*by depth*  ``a[k * stride + i]``: the transposed of A, where that is what lies there.
"""

import functools
import itertools

import numpy as np
from llvmlite import ir
from numba import from_dtype, types
from numba.core import cgutils
from numba.extending import intrinsic

from .callables import call, compile_callable, pointer
from .compilation import inline
from .memory import CACHE_LINE
from .simd import (
    BITS,
    INT,
    build_at_least,
    build_fma,
    build_load,
    build_prefetch,
    build_splat,
    build_store,
    lanes,
    lanes_of,
    llvm_vector,
    load,
    load_part,
    maximum,
    prefetch,
    splat,
    store,
    store_part,
)

ROWS = range(8, 15) if BITS == 512 else range(4, 7)
TILE_ROWS = max(ROWS)
TILE_VECTORS = 2
VECTORS_A_LINE = CACHE_LINE * 8 // BITS

# So many steps of the depth are one round of the loop.
STEPS = 4

# What is done with a tile's sums before they are written.
ADD, BIAS, RELU = 1, 2, 4


def panel_width(dtype):
    """Columns of a panel of B, and of a tile."""
    return TILE_VECTORS * lanes_of(dtype)


def best_rows(count):
    """Rows of the tiles that take the least time for `count` rows; a step costs rows + 1."""
    return min(ROWS, key=lambda rows: -(-count // rows) * (rows + 1))


@intrinsic(prefer_literal=True)
def _multiply_tile(typingctx, rows, vectors, woven, b_step, a, a_stride, a_ahead, b, b_ahead, c,
                   starts, depth, mode, bias):
    """The body of `micro_kernels`' functions."""
    row_count, vector_count = rows.literal_value, vectors.literal_value
    dtype = b.dtype
    lane_count, vector = lanes_of(dtype), llvm_vector(dtype)

    def codegen(context, builder, signature, args):
        a, a_stride, a_ahead, b, b_ahead, c, starts, depth, mode, bias = args[4:]

        def number(value):
            return ir.Constant(INT, value)

        def load_vectors(start):
            return [
                build_load(builder, builder.gep(start, [number(j * lane_count)]), dtype)
                for j in range(vector_count)
            ]

        # Variables that become registers.
        zero = ir.Constant(vector, [0.0] * lane_count)
        sums = [[cgutils.alloca_once_value(builder, zero) for _ in range(vector_count)]
                for _ in range(row_count)]

        def step(k, a_at):
            """Row k of B, times the numbers of A's column k, which begins at `a_at`."""
            fetched = builder.mul(k, number(CACHE_LINE * 8 // dtype.bitwidth))
            build_prefetch(builder, builder.gep(a_ahead, [fetched]))
            build_prefetch(builder, builder.gep(b_ahead, [fetched]))
            b_at = builder.gep(b, [builder.mul(k, number(b_step.literal_value))])
            b_vectors = load_vectors(b_at)
            for i, row in enumerate(sums):
                row_step = lane_count if woven.literal_value else 1
                scalar = builder.load(builder.gep(a_at, [number(i * row_step)]))
                spread = build_splat(builder, scalar, dtype)
                for v, total in zip(b_vectors, row):
                    builder.store(build_fma(builder, spread, v, builder.load(total), dtype), total)

        def steps(k, count):
            """Steps k : k + count, of which none or all cross a vector's end."""
            first, between = builder.mul(k, a_stride), a_stride
            if woven.literal_value:  # a row's numbers lie side by side for a vector's length
                lane = builder.and_(k, number(lane_count - 1))
                first = builder.mul(builder.sub(k, lane), number(row_count))
                first, between = builder.add(first, lane), number(1)
            for i in range(count):
                offset = builder.add(first, builder.mul(between, number(i)))
                step(builder.add(k, number(i)), builder.gep(a, [offset]))
                # Or the compiler would load ahead, until the sums no longer fit the registers.
                builder.fence("seq_cst", "singlethread")

        together = min(STEPS, lane_count)
        whole = builder.and_(depth, number(-together))
        for start, stop, count in ((number(0), whole, together), (whole, depth, 1)):
            with cgutils.for_range_slice(builder, start, stop, number(count), INT) as (k, _):
                steps(k, count)

        def targets():
            """Each sum and where it belongs."""
            for i, row in enumerate(sums):
                start = builder.load(builder.gep(starts, [number(i)]))
                for j, total in enumerate(row):
                    yield total, builder.gep(c, [builder.add(start, number(j * lane_count))])

        def chosen(flag):
            return builder.icmp_signed("!=", builder.and_(mode, number(flag)), number(0))

        with builder.if_then(chosen(ADD)):
            for total, target in targets():
                before = build_load(builder, target, dtype)
                builder.store(builder.fadd(before, builder.load(total)), total)
        with builder.if_then(chosen(BIAS)):
            for row in sums:
                for total, shift in zip(row, load_vectors(bias)):
                    builder.store(builder.fadd(builder.load(total), shift), total)
        with builder.if_then(chosen(RELU)):
            for total in itertools.chain(*sums):
                builder.store(build_at_least(builder, builder.load(total), zero), total)
        for total, target in targets():
            build_store(builder, builder.load(total), target, dtype)
        return context.get_dummy_value()

    return types.void(rows, vectors, woven, b_step, a, types.intp, a_ahead, b, b_ahead, c, starts,
                      types.intp, types.intp, bias), codegen


@functools.cache
def micro_kernels(dtype, rows, woven=True, b_step=None):
    """The micro-kernels for tiles of so many rows: addresses of ``f(a, a_stride, a_ahead, b,
    b_ahead, c, starts, depth, mode, bias)`` for tiles one vector wide and `TILE_VECTORS`.

    Rows of b are `b_step` numbers apart, or `panel_width`.

    f computes a tile and writes row i to ``c[starts[i]]`` and behind. The depth is at least 1; the
    mode is a sum of `ADD`, to what is there, `BIAS`, which is added too, and `RELU`. Meanwhile a
    cache line for each step is fetched into the L2 cache, from `a_ahead` and from `b_ahead` on:
    about a tile of A, and of B half a panel with AVX-512.

    Returns
    -------
    array (TILE_VECTORS,) of int64
    """
    return np.array([
        _compile(from_dtype(dtype), rows, vectors, woven, b_step or panel_width(dtype))
        for vectors in range(1, TILE_VECTORS + 1)
    ])


def _compile(number, rows, vectors, woven, b_step):
    def multiply(a, a_stride, a_ahead, b, b_ahead, c, starts, depth, mode, bias):
        _multiply_tile(rows, vectors, woven, b_step, a, a_stride, a_ahead, b, b_ahead, c, starts,
                       depth, mode, bias)

    numbers, indices = types.CPointer(number), types.CPointer(types.int64)
    return compile_callable(multiply, (
        numbers, types.intp, numbers, numbers, numbers, numbers, indices, types.intp, types.intp,
        numbers))


@inline
def multiply(kernels, a, a_start, a_stride, a_ahead, b, b_start, b_ahead, columns, c, starts,
             first_row, column, depth, add):
    """A tile of A B, of whose panel `columns` are in use, to ``c[starts[first_row + i] + column]``,
    or added to that.

    `kernels` are from `micro_kernels`; ``a[a_start]`` and ``b[b_start]`` are the first numbers,
    ``a[a_ahead]`` and ``b[b_ahead]`` those that will be needed next.
    """
    multiply_and_finish(kernels, a, a_start, a_stride, a_ahead, b, b_start, b_ahead, columns, c,
                        starts, first_row, column, depth, ADD if add else 0, c, 0)


@inline
def multiply_and_finish(kernels, a, a_start, a_stride, a_ahead, b, b_start, b_ahead, columns, c,
                        starts, first_row, column, depth, mode, bias, bias_start):
    """The same, with what else the mode asks for; ``bias[bias_start]`` is the first of a row."""
    call(kernels[(columns - 1) // lanes(a)], pointer(a, a_start), a_stride, pointer(a, a_ahead),
         pointer(b, b_start), pointer(b, b_ahead), pointer(c, column), pointer(starts, first_row),
         depth, np.intp(mode), pointer(bias, bias_start))


@inline
def part_ahead(panel, start, depth, i):
    """What the i-th product with a panel fetches of the next, which begins at `start`: the products
    take turns, since one of them fetches but a part."""
    parts = max(1, TILE_VECTORS // VECTORS_A_LINE)
    return start + i % parts * (depth * VECTORS_A_LINE * lanes(panel))


@inline
def row_starts(rows, step):
    """Where rows begin that lie `step` numbers apart."""
    starts = np.empty(rows, np.int64)
    for i in range(rows):
        starts[i] = i * step
    return starts


@inline
def fetch_tile(y, starts, first_row, rows, column, columns):
    """Fetch the part of y that a tile will be added or written to, while the tile is computed."""
    for i in range(first_row, first_row + rows):
        for j in range(0, columns, lanes(y)):
            prefetch(y, starts[i] + column + j)


@inline
def copy_few(source, start, target, at, count):
    """target[at : at + count] = source[start : start + count], at most a vector's numbers."""
    if BITS == 512:
        store_part(target, at, count, load_part(source, start, count, 0.0))
    else:
        for i in range(count):
            target[at + i] = source[start + i]


@inline
def copy(source, start, target, at, count):
    """target[at : at + count] = source[start : start + count], by flat index."""
    done = 0
    while done + lanes(target) <= count:
        store(target, at + done, load(source, start + done))
        done += lanes(target)
    if done < count:
        copy_few(source, start + done, target, at + done, count - done)


@inline
def copy_woven(source, start, rows, row, tile_rows, k, count):
    """Numbers k : k + count of a woven row, whose first is ``rows[row]``, from side by side."""
    done = 0
    if k % lanes(rows) == 0:  # whole vectors, and nothing to compute for each
        while done + lanes(rows) <= count:
            store(rows, row + (k + done) * tile_rows, load(source, start + done))
            done += lanes(rows)
    while done < count:
        lane = (k + done) % lanes(rows)
        at = row + (k + done - lane) * tile_rows + lane
        part = min(lanes(rows) - lane, count - done)
        if part == lanes(rows):
            store(rows, at, load(source, start + done))
        else:
            copy_few(source, start + done, rows, at, part)
        done += part


@inline
def clear_woven(rows, row, tile_rows, k, count):
    """Zeros in the place of numbers k : k + count of a woven row."""
    for j in range(k, k + count):
        lane = j % lanes(rows)
        rows[row + (j - lane) * tile_rows + lane] = 0.0


@inline
def pack_row(source, start, columns, panels, depth, k):
    """Row k of panels `depth` rows high, from `columns` numbers side by side in `source`.

    What is left of the last panel keeps its old numbers: the tile's columns there are not used.
    """
    width = TILE_VECTORS * lanes(panels)
    for j in range(0, columns, width):
        copy(source, start + j, panels, (j * depth + k * width), min(width, columns - j))


@inline
def put_tile(tile, rows, columns, y, starts, first_row, column, mode, bias):
    """Bring the valid part of a tile to its place in `y`, where the micro-kernel cannot.

    Row i of the tile begins at ``y[starts[first_row + i] + column]``; the mode is as there, and the
    first bias ``bias[column]``.
    """
    width = TILE_VECTORS * lanes(tile)
    if mode == 0:
        for i in range(rows):
            copy(tile, i * width, y, starts[first_row + i] + column, columns)
        return
    zero = splat(tile, tile.dtype.type(0))
    for i in range(rows):
        at = starts[first_row + i] + column
        j = 0
        while j + lanes(tile) <= columns:
            v = load(tile, i * width + j)
            if mode & ADD:
                v = load(y, at + j) + v
            if mode & BIAS:
                v = v + load(bias, column + j)
            if mode & RELU:
                v = maximum(v, zero)
            store(y, at + j, v)
            j += lanes(tile)
        while j < columns:
            number = tile[i * width + j]
            if mode & ADD:
                number = y[at + j] + number
            if mode & BIAS:
                number += bias[column + j]
            if mode & RELU and number < 0.0:
                number = tile.dtype.type(0)
            y[at + j] = number
            j += 1
