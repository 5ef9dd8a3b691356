"""A square of numbers transposed in registers: rows of one array become columns of another."""

import functools

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .callables import compile_callable, number_types
from .simd import INT, build_load, build_pointer, build_store, lanes, lanes_of


@intrinsic
def _transpose_square(typingctx, source, start, step, target, at, to_step):
    """target[at + i * to_step + j] = source[start + j * step + i] for i and j below `lanes`.

    Rows half the square apart are interleaved, again and again: after log2(lanes) times each
    number is in its place.
    """
    dtype = source.dtype

    def codegen(context, builder, signature, args):
        start, step, at, to_step = args[1], args[2], args[4], args[5]
        count = lanes_of(dtype)

        def row(kind, array, first, row_step, i):
            index = builder.add(first, builder.mul(row_step, ir.Constant(INT, i)))
            return build_pointer(context, builder, kind, array, index)

        rows = [build_load(builder, row(source, args[0], start, step, i), dtype)
                for i in range(count)]
        masks = ir.VectorType(ir.IntType(32), count)
        low, high = (
            ir.Constant(masks, [lane for i in range(count // 2)
                                for lane in (first + i, first + i + count)])
            for first in (0, count // 2))
        distance = count
        while distance > 1:
            half = count // 2
            rows = [builder.shuffle_vector(rows[i], rows[i + half], mask)
                    for i in range(half) for mask in (low, high)]
            distance //= 2
        for i, vector in enumerate(rows):
            build_store(builder, vector, row(target, args[3], at, to_step, i), dtype)
        return context.get_dummy_value()

    return types.void(source, types.intp, types.intp, target, types.intp, types.intp), codegen


def _transpose(source, start, step, rows, columns, target, at, to_step):
    side = lanes(source)
    whole_rows, whole_columns = rows // side * side, columns // side * side
    for i in range(0, whole_rows, side):
        for j in range(0, whole_columns, side):
            _transpose_square(source, start + i * step + j, step, target, at + j * to_step + i,
                              to_step)
    for i in range(rows):
        for j in range(whole_columns if i < whole_rows else 0, columns):
            target[at + j * to_step + i] = source[start + i * step + j]


@functools.cache
def transposition(dtype):
    """The address of ``transpose(source, start, step, rows, columns, target, at, to_step)``::

        target[at + j * to_step + i] = source[start + i * step + j]    for i < rows, j < columns
    """
    numbers, _ = number_types(dtype)
    return compile_callable(_transpose, (
        numbers, *(types.intp,) * 4, numbers, types.intp, types.intp))
