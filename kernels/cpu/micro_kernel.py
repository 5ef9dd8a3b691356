"""The innermost part of every matrix product here: a small tile of C, held in SIMD registers.

A tile of `TILE_ROWS` x `panel_width` numbers of C = A B is summed over the depth in registers: each
step broadcasts one number of A per row and multiplies it with one or two vectors of B. B comes in
panels packed for that, ``b[k * panel_width + j]``; A is read where it lies, row after row or depth
after depth. The shapes leave no register unused: 14 x 2 vectors + 2 of B + 1 broadcast of AVX-512's
32 registers, 6 x 2 + 2 + 1 of the 16 of AVX2 and SSE. (Goto and van de Geijn, "Anatomy of
High-Performance Matrix Multiplication", 2008, describes the scheme.)
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .compilation import inline
from .simd import (
    BITS,
    INT,
    build_fma,
    build_load,
    build_pointer,
    build_splat,
    build_store,
    lanes,
    lanes_of,
    llvm_vector,
    load,
    maximum,
    splat,
    store,
)

TILE_ROWS = 14 if BITS == 512 else 6
TILE_VECTORS = 2

# Where A is stored by rows, a row begins this many bytes after the one before: 12 cache lines of
# numbers and one to spare. As a constant it spares the inner loop a dozen additions, and an odd
# count of lines keeps the rows of a tile from competing for the same places in the L1 cache.
ROW_BYTES = 768
ROW_STRIDE_BYTES = ROW_BYTES + 64


def panel_width(dtype):
    """Columns of a panel of B, and of a tile."""
    return TILE_VECTORS * lanes_of(dtype)


def row_stride(dtype):
    """Numbers from one row of A to the next, where it is stored by rows."""
    return ROW_STRIDE_BYTES * lanes_of(dtype) * 8 // BITS


def _micro_kernel(vectors, row_major):
    """Make the intrinsic for tiles `vectors` wide and A stored by rows or by depth.

    ``f(a, a_start, a_stride, b, b_start, c, starts, first_row, column, add, depth)`` writes the
    tile's row i, `vectors` vectors, to ``c[starts[first_row + i] + column]``, or with `add` adds it
    to what is there. A's element (i, k) is ``a[a_start + i * row_stride(dtype) + k]``, or with
    ``row_major=False`` ``a[a_start + k * a_stride + i]``. The depth is at least 1.
    """

    @intrinsic
    def micro_kernel(
        typingctx, a, a_start, a_stride, b, b_start, c, starts, first_row, column, add, depth
    ):
        dtype = b.dtype
        lane_count, vector = lanes_of(dtype), llvm_vector(dtype)

        def codegen(context, builder, signature, args):
            zero = ir.Constant(INT, 0)
            a_pointer = build_pointer(context, builder, a, args[0], args[1])
            b_pointer = build_pointer(context, builder, b, args[3], args[4])
            c_pointer = build_pointer(context, builder, c, args[5], args[8])
            starts_pointer = build_pointer(context, builder, starts, args[6], args[7])
            a_stride, add, depth = args[2], args[9], args[10]
            row_step = row_stride(dtype) if row_major else 1

            before = builder.block
            loop = builder.append_basic_block("depth")
            done = builder.append_basic_block("done")
            builder.branch(loop)
            builder.position_at_end(loop)
            k = builder.phi(INT)
            k.add_incoming(zero, before)
            sums = [[builder.phi(vector) for _ in range(vectors)] for _ in range(TILE_ROWS)]
            for row in sums:
                for phi in row:
                    phi.add_incoming(ir.Constant(vector, [0.0] * lane_count), before)

            b_row = builder.gep(b_pointer, [builder.mul(k, ir.Constant(INT, panel_width(dtype)))])
            b_vectors = [
                build_load(builder, builder.gep(b_row, [ir.Constant(INT, j * lane_count)]), dtype)
                for j in range(vectors)
            ]
            a_column = builder.gep(a_pointer, [k if row_major else builder.mul(k, a_stride)])
            new_sums = []
            for i in range(TILE_ROWS):
                at = builder.gep(a_column, [ir.Constant(INT, i * row_step)])
                number = builder.load(at)
                spread = build_splat(builder, number, dtype)
                new_sums.append(
                    [build_fma(builder, spread, v, s, dtype) for v, s in zip(b_vectors, sums[i])]
                )
            k_next = builder.add(k, ir.Constant(INT, 1))
            k.add_incoming(k_next, loop)
            for row, new_row in zip(sums, new_sums):
                for phi, value in zip(row, new_row):
                    phi.add_incoming(value, loop)
            builder.cbranch(builder.icmp_signed("<", k_next, depth), loop, done)

            builder.position_at_end(done)
            targets = []
            for i in range(TILE_ROWS):
                start = builder.load(builder.gep(starts_pointer, [ir.Constant(INT, i)]))
                row = builder.gep(c_pointer, [start])
                targets += [
                    builder.gep(row, [ir.Constant(INT, j * lane_count)]) for j in range(vectors)
                ]
            values = [value for row in new_sums for value in row]
            with builder.if_else(builder.trunc(add, ir.IntType(1))) as (adding, writing):
                with adding:
                    for value, target in zip(values, targets):
                        before = build_load(builder, target, dtype)
                        build_store(builder, builder.fadd(before, value), target, dtype)
                with writing:
                    for value, target in zip(values, targets):
                        build_store(builder, value, target, dtype)
            return context.get_dummy_value()

        signature = types.void(
            a, types.intp, types.intp, b, types.intp,
            c, starts, types.intp, types.intp, types.boolean, types.intp,
        )
        return signature, codegen

    return micro_kernel


_rows_wide = _micro_kernel(2, row_major=True)
_rows_narrow = _micro_kernel(1, row_major=True)
_depth_wide = _micro_kernel(2, row_major=False)
_depth_narrow = _micro_kernel(1, row_major=False)


@inline
def multiply_rows(a, a_start, b, b_start, columns, c, starts, first_row, column, add, depth):
    """A tile of A B, for A stored by rows, to c; `columns` of B's panel are in use."""
    if columns > lanes(b):
        _rows_wide(a, a_start, 0, b, b_start, c, starts, first_row, column, add, depth)
    else:
        _rows_narrow(a, a_start, 0, b, b_start, c, starts, first_row, column, add, depth)


@inline
def multiply_depth(
    a, a_start, a_stride, b, b_start, columns, c, starts, first_row, column, add, depth
):
    """A tile of A B, for A stored by depth, i.e. the transposed of `a`."""
    if columns > lanes(b):
        _depth_wide(
            a, a_start, a_stride, b, b_start, c, starts, first_row, column, add, depth
        )
    else:
        _depth_narrow(
            a, a_start, a_stride, b, b_start, c, starts, first_row, column, add, depth
        )


@inline
def copy(source, start, target, at, count):
    """target[at : at + count] = source[start : start + count], by flat index."""
    done = 0
    while done + lanes(target) <= count:
        store(target, at + done, load(source, start + done))
        done += lanes(target)
    for i in range(done, count):
        target[at + i] = source[start + i]


@inline
def copy_run(source, start, target, at, count):
    """Like `copy`, but up to a vector of numbers behind target[at : at + count] may change."""
    if count >= lanes(target):
        for done in range(0, count - lanes(target), lanes(target)):
            store(target, at + done, load(source, start + done))
        done = count - lanes(target)  # the last one overlaps: no scalar remainder
        store(target, at + done, load(source, start + done))
    elif start + lanes(target) <= source.size:
        store(target, at, load(source, start))
    else:
        for i in range(count):
            target[at + i] = source[start + i]


@inline
def pack_row(source, start, columns, panels, depth, k):
    """Row k of panels `depth` rows high, from `columns` numbers side by side in `source`.

    What is left of the last panel keeps its old numbers: the tile's columns there are not used.
    """
    width = TILE_VECTORS * lanes(panels)
    for j in range(0, columns, width):
        copy(source, start + j, panels, (j * depth + k * width), min(width, columns - j))


@inline
def put_tile(tile, rows, columns, y, starts, first_row, column, add, bias, finish, relu):
    """Bring the valid part of a tile to its place in `y`, where the micro-kernel cannot.

    Row i of the tile begins at ``y[starts[first_row + i] + column]``. With `add` it is added to
    what is there (an earlier block of the depth), with `finish` the bias is added and ReLU applied.
    """
    width = TILE_VECTORS * lanes(tile)
    has_bias = finish and bias.size > 0
    rectify = finish and relu
    if not (add or has_bias or rectify):
        for i in range(rows):
            copy(tile, i * width, y, starts[first_row + i] + column, columns)
        return
    zero = splat(tile, tile.dtype.type(0))
    for i in range(rows):
        at = starts[first_row + i] + column
        j = 0
        while j + lanes(tile) <= columns:
            v = load(tile, i * width + j)
            if add:
                v = load(y, at + j) + v
            if has_bias:
                v = v + load(bias, column + j)
            if rectify:
                v = maximum(v, zero)
            store(y, at + j, v)
            j += lanes(tile)
        while j < columns:
            number = tile[i * width + j]
            if add:
                number = y[at + j] + number
            if has_bias:
                number += bias[column + j]
            if rectify and number < 0.0:
                number = tile.dtype.type(0)
            y[at + j] = number
            j += 1
