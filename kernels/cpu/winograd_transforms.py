"""Winograd's transforms as straight-line SIMD code, made from the matrices of any F(m, r).

A kernel writes ``input_transform(m, r, source, at, step, target, to, to_step)``: the n vectors at
flat indices ``at + step * j`` of `source`, multiplied with B, become the n vectors at
``to + to_step * i`` of `target`. m and r are tuples whose lengths are the numbers: so they are part
of the types, and each F(m, r) is compiled for itself.
"""

import functools
from typing import NamedTuple

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..winograd_matrices import matrices
from .simd import INT, build_fma, build_load, build_pointer, build_store, lanes_of, llvm_vector


class Term(NamedTuple):
    """What a result adds up: a factor times a sum or difference of inputs."""

    factor: object  # Fraction
    first: int
    second: int | None  # added to or subtracted from the first
    sign: int


def input_matrix(m, r):
    return matrices(m, r)[2]


def output_matrix(m, r):
    return _transposed(matrices(m, r)[0])


def weight_matrix(m, r):
    return matrices(m, r)[1]


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


def _transform(matrix_of):
    """Make the intrinsic that applies ``matrix_of(m, r)``."""

    @intrinsic
    def transform(typingctx, m, r, source, at, step, target, to, to_step):
        matrix = matrix_of(len(m), len(r))
        dtype = source.dtype
        vector, lane_count = llvm_vector(dtype), lanes_of(dtype)

        def codegen(context, builder, signature, args):
            pointer = build_pointer(context, builder, source, args[2], args[3])
            inputs = []
            for j in range(len(matrix[0])):
                here = builder.gep(pointer, [builder.mul(args[4], ir.Constant(INT, j))])
                inputs.append(build_load(builder, here, dtype))
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
            pointer = build_pointer(context, builder, target, args[5], args[6])
            for i in range(len(matrix)):
                here = builder.gep(pointer, [builder.mul(args[7], ir.Constant(INT, i))])
                build_store(builder, results[i], here, dtype)
            return context.get_dummy_value()

        index = types.intp
        return types.void(m, r, source, index, index, target, index, index), codegen

    return transform


# Forward: B d, A^T y and G g; their adjoints lead back from gradients.
input_transform = _transform(input_matrix)
output_transform = _transform(output_matrix)
weight_transform = _transform(weight_matrix)
output_adjoint = _transform(lambda m, r: _transposed(output_matrix(m, r)))
weight_adjoint = _transform(lambda m, r: _transposed(weight_matrix(m, r)))


def operations(matrix):
    """Vector operations of the transform by a matrix, loads and stores not counted."""
    rows, mates = terms_of(matrix), mate_rows(matrix)
    pairs = {term[1:] for terms in rows for term in terms if term.second is not None}
    skipped = {mate for mate, _ in mates.values()}
    return len(pairs) + sum(
        len(terms) + (i in mates) for i, terms in enumerate(rows) if i not in skipped)
