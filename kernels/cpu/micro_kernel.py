"""The innermost part of every matrix product here: a small tile of C, held in SIMD registers.

A tile of `TILE_ROWS` x `panel_width` numbers of C = A B is summed over the depth in registers: each
step broadcasts one number of A per row and multiplies it with one or two vectors of B. The shapes
leave no register unused: 14 x 2 vectors + 2 of B + 1 broadcast of AVX-512's 32 registers, 6 x 2 +
2 + 1 of the 16 of AVX2 and SSE. (Goto and van de Geijn, "Anatomy of High-Performance Matrix
Multiplication", 2008, describes the scheme.)

B comes in panels packed for that, ``b[k * panel_width + j]``. A comes in one of two ways:

*woven*   by tiles of `TILE_ROWS` rows and, in a tile, by vectors: lane l of row i's vector v is
          ``a[(v * TILE_ROWS + i) * lanes + l]``, element (i, v * lanes + l) of A. Whoever has whole
          vectors of a row stores them so, and the tile is read from front to end.
*by depth*  ``a[k * stride + i]``: the transposed of A, where that is what lies there.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .compilation import inline
from .simd import (
    BITS,
    INT,
    build_at_least,
    build_fma,
    build_load,
    build_pointer,
    build_prefetch,
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


def panel_width(dtype):
    """Columns of a panel of B, and of a tile."""
    return TILE_VECTORS * lanes_of(dtype)


def _micro_kernel(vectors, woven):
    """Make the intrinsic for tiles `vectors` wide and A woven or by depth.

    ``f(a, a_start, a_stride, b, b_start, ahead, c, starts, first_row, column, add, depth, bias,
    bias_start, lowest)`` computes the tile, adds what is in its place with `add`, adds the bias,
    raises what is below `lowest` to it, and writes row i, `vectors` vectors, to
    ``c[starts[first_row + i] + column]``. The depth is at least 1. Meanwhile a quarter as much of b
    as it reads is fetched into the L2 cache, from flat index `ahead` on.
    """

    @intrinsic
    def micro_kernel(typingctx, a, a_start, a_stride, b, b_start, ahead, c, starts, first_row,
                     column, add, depth, bias, bias_start, lowest):
        dtype = b.dtype
        lane_count, vector = lanes_of(dtype), llvm_vector(dtype)

        def codegen(context, builder, signature, args):
            def number(value):
                return ir.Constant(INT, value)

            a_pointer = build_pointer(context, builder, a, args[0], args[1])
            b_pointer = build_pointer(context, builder, b, args[3], args[4])
            ahead_pointer = build_pointer(context, builder, b, args[3], args[5])
            c_pointer = build_pointer(context, builder, c, args[6], args[9])
            starts_pointer = build_pointer(context, builder, starts, args[7], args[8])
            bias_pointer = build_pointer(context, builder, bias, args[12], args[13])
            a_stride, add, depth, lowest = args[2], args[10], args[11], args[14]
            row_step = lane_count if woven else 1

            def step(sums, a_column, b_row):
                """One k: sums += a's column times b's row."""
                b_vectors = [
                    build_load(builder, builder.gep(b_row, [number(j * lane_count)]), dtype)
                    for j in range(vectors)
                ]
                added = []
                for i, row in enumerate(sums):
                    scalar = builder.load(builder.gep(a_column, [number(i * row_step)]))
                    spread = build_splat(builder, scalar, dtype)
                    added.append(
                        [build_fma(builder, spread, v, s, dtype) for v, s in zip(b_vectors, row)]
                    )
                return added

            # The loop over k. Unrolled, it would be reordered until the sums no longer fit the
            # registers.
            before = builder.block
            body = builder.append_basic_block("step")
            done = builder.append_basic_block("done")
            builder.branch(body)
            builder.position_at_end(body)
            index = builder.phi(INT)
            a_at, b_at = builder.phi(a_pointer.type), builder.phi(b_pointer.type)
            sums = [[builder.phi(vector) for _ in range(vectors)] for _ in range(TILE_ROWS)]
            index_next = builder.add(index, number(1))
            if woven:
                at = builder.mul(index, number(panel_width(dtype) // 4))
                build_prefetch(builder, builder.gep(ahead_pointer, [at]))
                # A row's numbers lie side by side for a vector's length, then begin anew.
                full = builder.icmp_signed(
                    "==", builder.and_(index_next, number(lane_count - 1)), number(0))
                a_step = builder.select(
                    full, number((TILE_ROWS - 1) * lane_count + 1), number(1))
            else:
                a_step = a_stride
            added = step(sums, a_at, b_at)
            zero = ir.Constant(vector, [0.0] * lane_count)
            carried = [
                (index, number(0), index_next),
                (a_at, a_pointer, builder.gep(a_at, [a_step])),
                (b_at, b_pointer, builder.gep(b_at, [number(panel_width(dtype))])),
            ]
            for row, added_row in zip(sums, added):
                carried += [(phi, zero, later) for phi, later in zip(row, added_row)]
            for phi, first, later in carried:
                phi.add_incoming(first, before)
                phi.add_incoming(later, body)
            builder.cbranch(builder.icmp_signed("<", index_next, depth), body, done)
            builder.position_at_end(done)
            sums = added

            targets = []
            for i in range(TILE_ROWS):
                start = builder.load(builder.gep(starts_pointer, [number(i)]))
                row = builder.gep(c_pointer, [start])
                targets.append([builder.gep(row, [number(j * lane_count)]) for j in range(vectors)])
            biases = [
                build_load(builder, builder.gep(bias_pointer, [number(j * lane_count)]), dtype)
                for j in range(vectors)
            ]
            lowest = build_splat(builder, lowest, dtype)

            def finish(add):
                for row, row_targets in zip(sums, targets):
                    for value, target, bias_vector in zip(row, row_targets, biases):
                        if add:
                            value = builder.fadd(build_load(builder, target, dtype), value)
                        value = builder.fadd(value, bias_vector)
                        build_store(builder, build_at_least(builder, value, lowest), target, dtype)

            with builder.if_else(builder.trunc(add, ir.IntType(1))) as (adding, writing):
                with adding:
                    finish(add=True)
                with writing:
                    finish(add=False)
            return context.get_dummy_value()

        signature = types.void(
            a, types.intp, types.intp, b, types.intp, types.intp, c, starts, types.intp, types.intp,
            types.boolean, types.intp, bias, types.intp, b.dtype,
        )
        return signature, codegen

    return micro_kernel


_woven_wide = _micro_kernel(2, woven=True)
_woven_narrow = _micro_kernel(1, woven=True)
_depth_wide = _micro_kernel(2, woven=False)
_depth_narrow = _micro_kernel(1, woven=False)


@inline
def multiply_woven(a, a_start, b, b_start, ahead, columns, c, starts, first_row, column, add, depth,
                   bias, bias_start, lowest):
    """A tile of A B, for woven A, to c; `columns` of B's panel are in use."""
    if columns > lanes(b):
        _woven_wide(a, a_start, 0, b, b_start, ahead, c, starts, first_row, column, add, depth,
                    bias, bias_start, lowest)
    else:
        _woven_narrow(a, a_start, 0, b, b_start, ahead, c, starts, first_row, column, add, depth,
                      bias, bias_start, lowest)


@inline
def multiply_depth(a, a_start, a_stride, b, b_start, columns, c, starts, first_row, column, add,
                   depth, no_bias, lowest):
    """A tile of A B, for A by depth; `no_bias` is a row of zeros."""
    if columns > lanes(b):
        _depth_wide(a, a_start, a_stride, b, b_start, b_start, c, starts, first_row, column, add, depth,
                    no_bias, 0, lowest)
    else:
        _depth_narrow(a, a_start, a_stride, b, b_start, b_start, c, starts, first_row, column, add, depth,
                      no_bias, 0, lowest)


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
def copy_woven(source, start, rows, row, k, count):
    """Numbers k : k + count of a woven row, whose first is ``rows[row]``, from side by side."""
    done = 0
    while done < count:
        lane = (k + done) % lanes(rows)
        at = row + (k + done - lane) * TILE_ROWS + lane
        if lane == 0 and count - done >= lanes(rows):
            store(rows, at, load(source, start + done))
            done += lanes(rows)
        else:
            rows[at] = source[start + done]
            done += 1


@inline
def clear_woven(rows, row, k, count):
    """Zeros in the place of numbers k : k + count of a woven row."""
    for j in range(k, k + count):
        lane = j % lanes(rows)
        rows[row + (j - lane) * TILE_ROWS + lane] = 0.0


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
