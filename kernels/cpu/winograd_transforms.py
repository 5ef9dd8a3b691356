"""Winograd's transforms as straight-line SIMD code, made from the matrices of any F(m, r).

A transform takes a square of vectors X to M X M^T, for one of the matrices M of F(m, r) or its
transposed. `transform` compiles it and gives its address; a kernel has it done by ``call``::

    call(address, source, row_step, step, source_step, target, to_row_step, to_step, target_step,
         vectors, buffer)

X's vector (i, j) begins at ``source[i * row_step + j * step]``, that of the result at
``target[i * to_row_step + j * to_step]``. So it goes on for `vectors` such squares, `source_step`
and `target_step` apart. `buffer` holds as many vectors as X has columns, times the result's rows.
"""

import functools
from typing import NamedTuple

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..winograd_matrices import matrices
from .callables import compile_callable, number_types, pointer
from .simd import INT, build_fma, build_load, build_store, lanes, lanes_of, llvm_vector


class Term(NamedTuple):
    """What a result adds up: a factor times a sum or difference of inputs."""

    factor: object  # Fraction
    first: int
    second: int | None  # added to or subtracted from the first
    sign: int


def matrix_of(kind, m, r):
    """The matrix M of a transform.

    Kinds are "input" B, "output" A^T and "weights" G; their adjoints, which lead back from
    gradients, are "output_adjoint" and "weights_adjoint".
    """
    a, g, b = matrices(m, r)
    return {"input": b, "output": _transposed(a), "weights": g, "output_adjoint": a,
            "weights_adjoint": _transposed(g)}[kind]


def _transposed(matrix):
    return tuple(zip(*matrix))


@functools.cache
def terms_of(matrix):
    """The rows of a matrix as lists of `Term`, whose work on pairs of columns is shared.

    Columns of opposite points have the same sizes: x_j + x_k and x_j - x_k, computed once, serve
    all rows.
    """
    columns = _transposed(matrix)
    mates = {}
    for j, column in enumerate(columns):
        for k in range(j + 1, len(columns)):
            if j in mates or k in mates:
                continue
            signs = {a == b for a, b in zip(column, columns[k]) if a != 0}
            same_size = all(abs(a) == abs(b) for a, b in zip(column, columns[k]))
            if same_size and signs == {True, False}:
                mates[j] = mates[k] = (j, k)
    rows = []
    for row in matrix:
        terms = []
        for j, factor in enumerate(row):
            if factor == 0:
                continue
            if j not in mates:
                terms.append(Term(factor, j, None, 0))
            elif j == mates[j][0]:
                k = mates[j][1]
                terms.append(Term(factor, j, k, 1 if row[k] == factor else -1))
        rows.append(terms)
    return rows


def mate_rows(matrix):
    """{row: (mate, sign)}: rows of opposite points, which have the same even and odd halves.

    The halves E and O make row = E + O and its mate = sign * (E - O). None, where columns share
    work already.
    """
    found = {}
    if any(term.second is not None for terms in terms_of(matrix) for term in terms):
        return found
    for i, row in enumerate(matrix):
        if not any(row[0::2]) or not any(row[1::2]):
            continue
        for k in range(i + 1, len(matrix)):
            taken = found.keys() | {mate for mate, _ in found.values()}
            for sign in (1, -1):
                mirrored = tuple(sign * (x if j % 2 == 0 else -x) for j, x in enumerate(row))
                if mirrored == tuple(matrix[k]) and not taken & {i, k}:
                    found[i] = (k, sign)
    return found


@intrinsic(prefer_literal=True)
def _apply(typingctx, kind, m, r, streaming, source, step, target, to_step):
    """The vectors at ``source[j * step]``, multiplied with M, to ``target[i * to_step]``."""
    matrix = matrix_of(kind.literal_value, m.literal_value, r.literal_value)
    dtype = source.dtype
    vector, lane_count = llvm_vector(dtype), lanes_of(dtype)

    def codegen(context, builder, signature, args):
        source, step, target, to_step = args[4:]

        def at(pointer, step, index):
            return builder.gep(pointer, [builder.mul(step, ir.Constant(INT, index))])

        inputs = [build_load(builder, at(source, step, j), dtype) for j in range(len(matrix[0]))]
        pairs = {}

        def operand(term):
            if term.second is None:
                return inputs[term.first]
            key = term[1:]
            if key not in pairs:
                combine = builder.fadd if term.sign > 0 else builder.fsub
                pairs[key] = combine(inputs[term.first], inputs[term.second])
            return pairs[key]

        def add_up(terms):
            # A factor of one first: it begins the sum without a multiplication.
            total = None
            for term in sorted(terms, key=lambda term: abs(term.factor) != 1):
                value, factor = operand(term), float(term.factor)
                if total is None and factor == 1:
                    total = value
                elif total is not None and factor in (1, -1):
                    total = (builder.fadd if factor > 0 else builder.fsub)(total, value)
                else:
                    constant = ir.Constant(vector, [factor] * lane_count)
                    if total is None:
                        total = builder.fmul(value, constant)
                    else:
                        total = build_fma(builder, value, constant, total, dtype)
            return total if total is not None else ir.Constant(vector, [0.0] * lane_count)

        rows, mates = terms_of(matrix), mate_rows(matrix)
        results = {}
        for i, terms in enumerate(rows):
            if i in results:
                continue
            if i not in mates:
                results[i] = add_up(terms)
                continue
            even = add_up([term for term in terms if term.first % 2 == 0])
            odd = add_up([term for term in terms if term.first % 2 == 1])
            results[i] = builder.fadd(even, odd)
            mate, sign = mates[i]
            first, second = (even, odd) if sign > 0 else (odd, even)
            results[mate] = builder.fsub(first, second)
        for i in range(len(matrix)):
            place = at(target, to_step, i)
            build_store(builder, results[i], place, dtype, streaming.literal_value)
        return context.get_dummy_value()

    return types.void(kind, m, r, streaming, source, types.intp, target, types.intp), codegen


@functools.cache
def transform(kind, m, r, dtype, streaming=False):
    """The address of the transform by ``matrix_of(kind, m, r)``, for `dtype`.

    With `streaming` it writes past the caches; its targets begin on cache lines.
    """
    matrix = matrix_of(kind, m, r)
    rows, columns = len(matrix), len(matrix[0])

    def transform(source, row_step, step, source_step, target, to_row_step, to_step, target_step,
                  vectors, buffer):
        size = lanes(source)
        for vector in range(vectors):
            x, y = vector * source_step, vector * target_step
            for j in range(columns):
                _apply(kind, m, r, False, pointer(source, x + j * step), row_step,
                       pointer(buffer, j * size), columns * size)
            for i in range(rows):
                _apply(kind, m, r, streaming, pointer(buffer, i * columns * size), size,
                       pointer(target, y + i * to_row_step), to_step)

    numbers, _ = number_types(dtype)
    return compile_callable(transform, (
        numbers, types.intp, types.intp, types.intp, numbers, types.intp, types.intp, types.intp,
        types.intp, numbers))


def operations(matrix):
    """Vector operations of the transform by a matrix, loads and stores not counted."""
    rows, mates = terms_of(matrix), mate_rows(matrix)
    pairs = {term[1:] for terms in rows for term in terms if term.second is not None}
    skipped = {mate for mate, _ in mates.values()}
    return len(pairs) + sum(
        len(terms) + (i in mates) for i, terms in enumerate(rows) if i not in skipped)
