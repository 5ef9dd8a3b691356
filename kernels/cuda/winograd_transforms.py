"""Winograd's transforms for GPUs, for any F(m, r): a thread for each tile and channel.

The matrices are those of `winograd_matrices`, where the equations are; their products are
straight-line code on registers (`two_sided`). Transformed numbers lie as (tile, tap, channel) or,
of weights, (input, tap, output): neighbouring threads read and write neighbours.
"""

import functools
from typing import NamedTuple

from numba import cuda
from numba.cuda.types import float32, int32

from ..winograd_matrices import matrices
from .compilation import FLOATS, INT, Kernel, inline, kernel
from .elementwise import rectified
from .indexing import quotient, remainder
from .target import two_sided
from .tiles import OUTSIDE, is_inside

THREADS = 128


class Transforms(NamedTuple):
    """The kernels of an F(m, r)."""

    input: Kernel
    output: Kernel
    weights: Kernel
    output_gradient: Kernel
    weights_gradient: Kernel


@functools.cache
def transforms(m, r):
    """The kernels of F(m, r)."""
    a, g, b = matrices(m, r)
    return Transforms(
        make_gather(m, m + r - 1, b), make_output(m, r, _transposed(a)), make_weights(m, r, g),
        make_gather(m, m, a), make_weights_gradient(m, r, _transposed(g)))


def _transposed(matrix):
    return tuple(zip(*matrix))


@inline
def larger(a, b):
    """The larger of two; a NaN is."""
    if b > a or b != b:
        return b
    return a


def make_gather(m, side, matrix):
    """The kernel that transforms squares of an image, m apart, to v (tile, tap, channel)."""
    transform, taps = two_sided(matrix), len(matrix) ** 2
    numbers = side * side

    @kernel(FLOATS, FLOATS, *(INT,) * 10, threads=THREADS)
    def gather(x, v, size, first_tile, tiles_y, tiles_x, x_h, x_w, channels_there, channels,
               padding_y, padding_x):
        i = int32(cuda.grid(1))
        square = cuda.local.array(numbers, float32)
        values = cuda.local.array(taps, float32)
        if i < size:
            channel, slot = remainder(i, channels), quotient(i, channels)
            tile = int32(first_tile + slot)
            image, rest = quotient(tile, tiles_y * tiles_x), remainder(tile, tiles_y * tiles_x)
            top = int32(quotient(rest, tiles_x) * m - padding_y)
            left = int32(remainder(rest, tiles_x) * m - padding_x)
            at = int32(((image * x_h + top) * x_w + left) * channels_there + channel)
            if channel >= channels_there:
                top = int32(OUTSIDE)
            for j in range(side):
                for k in range(side):
                    square[j * side + k] = float32(0)
                    if is_inside(top + j, left + k, x_h, x_w):
                        square[j * side + k] = x[at + (j * x_w + k) * channels_there]
            transform(square, values)
            to = int32(slot * taps * channels + channel)
            for t in range(taps):
                v[to + t * channels] = values[t]

    return gather


def make_output(m, r, matrix):
    """The kernel that leads from products (tile, tap, channel) to y, with bias, ReLU and pool."""
    transform, taps = two_sided(matrix), (m + r - 1) ** 2
    numbers = m * m

    @kernel(FLOATS, FLOATS, FLOATS, *(INT,) * 10, threads=THREADS)
    def output(products, bias, y, size, first_tile, tiles_y, tiles_x, out_h, out_w, channels,
               has_bias, relu, pool):
        i = int32(cuda.grid(1))
        square = cuda.local.array(taps, float32)
        values = cuda.local.array(numbers, float32)
        if i < size:
            channel, slot = remainder(i, channels), quotient(i, channels)
            tile = int32(first_tile + slot)
            image, rest = quotient(tile, tiles_y * tiles_x), remainder(tile, tiles_y * tiles_x)
            top = int32(quotient(rest, tiles_x) * m)
            left = int32(remainder(rest, tiles_x) * m)
            start = int32(slot * taps * channels + channel)
            for t in range(taps):
                square[t] = products[start + t * channels]
            transform(square, values)
            shift = bias[channel] if has_bias else float32(0)
            # How many of the tile's rows and pixels there are.
            rows, pixels = int32(out_h - top), int32(out_w - left)
            if pool:
                y_h, y_w = int32((out_h + 1) >> 1), int32((out_w + 1) >> 1)
                at = int32(((image * y_h + (top >> 1)) * y_w + (left >> 1)) * channels + channel)
                for j in range(0, m, 2):
                    for k in range(0, m, 2):
                        if j < rows and k < pixels:
                            number = values[j * m + k]
                            if k + 1 < pixels:
                                number = larger(number, values[j * m + k + 1])
                            if j + 1 < rows:
                                number = larger(number, values[(j + 1) * m + k])
                                if k + 1 < pixels:
                                    number = larger(number, values[(j + 1) * m + k + 1])
                            to = at + ((j >> 1) * y_w + (k >> 1)) * channels
                            y[to] = rectified(number + shift, relu)
            else:
                at = int32(((image * out_h + top) * out_w + left) * channels + channel)
                for j in range(m):
                    for k in range(m):
                        if j < rows and k < pixels:
                            to = at + (j * out_w + k) * channels
                            y[to] = rectified(values[j * m + k] + shift, relu)

    return output


def make_weights(m, r, matrix):
    """The kernel from w (tap, input, output) to u (row, tap, column), filled up with zeros.

    With `turned`, of the input's gradient: rows are outputs, and the kernel is turned.
    """
    transform, taps = two_sided(matrix), (m + r - 1) ** 2
    numbers = r * r

    @kernel(FLOATS, FLOATS, *(INT,) * 5, threads=THREADS)
    def weights(w, u, size, columns, inputs, outputs, turned):
        i = int32(cuda.grid(1))
        square = cuda.local.array(numbers, float32)
        values = cuda.local.array(taps, float32)
        if i < size:
            row, column = quotient(i, columns), remainder(i, columns)
            channel, result = (column, row) if turned else (row, column)
            at = int32(channel * outputs + result)
            step = int32(inputs * outputs)
            if turned:
                at = int32(at + (numbers - 1) * step)
                step = int32(-step)
            is_there = channel < inputs and result < outputs
            for t in range(numbers):
                square[t] = w[at + t * step] if is_there else float32(0)
            transform(square, values)
            to = int32(row * taps * columns + column)
            for t in range(taps):
                u[to + t * columns] = values[t]

    return weights


def make_weights_gradient(m, r, matrix):
    """The kernel from gu (input, tap, output) to gw (tap, input, output)."""
    transform, taps = two_sided(matrix), (m + r - 1) ** 2
    numbers = r * r

    @kernel(FLOATS, FLOATS, *(INT,) * 2, threads=THREADS)
    def weights_gradient(gu, gw, size, outputs):
        i = int32(cuda.grid(1))
        square = cuda.local.array(taps, float32)
        values = cuda.local.array(numbers, float32)
        if i < size:
            start = int32(quotient(i, outputs) * taps * outputs + remainder(i, outputs))
            for t in range(taps):
                square[t] = gu[start + t * outputs]
            transform(square, values)
            for t in range(numbers):
                gw[t * size + i] = values[t]

    return weights_gradient
