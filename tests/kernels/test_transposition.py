"""Blocks of numbers transposed in registers."""

import numpy as np
import pytest
from numba import njit

from tinyfcn.kernels.cpu.callables import call, pointer
from tinyfcn.kernels.cpu.transposition import transposition


@njit
def _transpose(address, source, start, step, rows, columns, target, at, to_step):
    call(address, pointer(source, 0), start, step, rows, columns, pointer(target, 0), at, to_step)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rows, columns", [
    (0, 3), (1, 1), (3, 40), (16, 16), (17, 15), (35, 50), (64, 33)])
def test_a_block_is_transposed_and_nothing_else_touched(rows, columns, dtype):
    rng = np.random.default_rng(rows)
    source = rng.random((rows + 2, columns + 3)).astype(dtype)
    target = np.full((columns + 4, rows + 5), -1, dtype)
    _transpose(transposition(target.dtype), source.reshape(-1), columns + 3 + 2, columns + 3, rows,
               columns, target.reshape(-1), 3 * (rows + 5) + 1, rows + 5)
    expected = np.full_like(target, -1)
    expected[3 : 3 + columns, 1 : 1 + rows] = source[1 : 1 + rows, 2 : 2 + columns].T
    np.testing.assert_array_equal(target, expected)
