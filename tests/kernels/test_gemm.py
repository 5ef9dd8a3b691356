"""The matrix product, against NumPy's in float64."""
import numpy as np
import pytest

from tinyfcn.kernels import cpu, naive

# Around the edges of register tiles, of cache blocks and of vectors.
SIZES = (1, 13, 14, 15, 31, 32, 33, 100, 257, 513)
TRANSPOSES = [(False, False), (False, True), (True, False), (True, True)]


def operands(rng, dtype, m, k, n, transpose_a, transpose_b):
    a = rng.standard_normal((k, m) if transpose_a else (m, k), dtype)
    b = rng.standard_normal((n, k) if transpose_b else (k, n), dtype)
    return a, b


def by_numpy(a, b, transpose_a, transpose_b):
    a = a.astype(np.float64)
    b = b.astype(np.float64)
    return (a.T if transpose_a else a) @ (b.T if transpose_b else b)


def test_product_by_hand(ops, dtype):
    a = np.array([[1, 2, 3], [4, 5, 6]], dtype)
    b = np.array([[7, 8], [9, 10], [11, 12]], dtype)
    c = ops.matrix_product(a, b)
    assert c.dtype == dtype
    assert c.tolist() == [[58, 64], [139, 154]]
    assert ops.matrix_product(a, b, True, True).tolist() == [
        [39, 49, 59], [54, 68, 82], [69, 87, 105]]


@pytest.mark.parametrize("transpose_a, transpose_b", TRANSPOSES)
def test_naive_gives_numpys_product(transpose_a, transpose_b, rng, agree):
    a, b = operands(rng, np.float64, 4, 5, 6, transpose_a, transpose_b)
    agree(naive.matrix_product(a, b, transpose_a, transpose_b),
          by_numpy(a, b, transpose_a, transpose_b), 5)


def test_naive_adds_up_in_float64():
    a = np.array([[1e8, 1, -1e8]], np.float32)      # float32 has no 100000001
    c = naive.matrix_product(a, np.ones((3, 1), np.float32))
    assert c.dtype == np.float32
    assert c.item() == 1


@pytest.mark.parametrize("transpose_a, transpose_b", TRANSPOSES)
def test_sizes_around_block_edges(transpose_a, transpose_b, dtype, rng, agree):
    sizes = {(m, SIZES[(3 * i + 7 * j) % 10], n)
             for i, m in enumerate(SIZES) for j, n in enumerate(SIZES)}
    sizes |= {(m, k, SIZES[(7 * i + 3 * j) % 10])
              for i, m in enumerate(SIZES) for j, k in enumerate(SIZES)}
    for m, k, n in sorted(sizes):
        a, b = operands(rng, dtype, m, k, n, transpose_a, transpose_b)
        expected = by_numpy(a, b, transpose_a, transpose_b).astype(dtype)
        agree(cpu.matrix_product(a, b, transpose_a, transpose_b), expected, k, f"{m} {k} {n}")


@pytest.mark.parametrize("m, k, n", [(1, 1100, 1), (1, 2000, 40), (700, 3, 2), (3, 2, 1500)])
def test_long_and_thin(m, k, n, dtype, rng, agree):
    a, b = operands(rng, dtype, m, k, n, False, False)
    agree(cpu.matrix_product(a, b), by_numpy(a, b, False, False).astype(dtype), k)


@pytest.mark.parametrize("m, k, n", [(0, 3, 4), (3, 0, 4), (3, 4, 0), (0, 0, 0)])
@pytest.mark.parametrize("transpose_a, transpose_b", TRANSPOSES)
def test_empty_operands(m, k, n, transpose_a, transpose_b, ops, dtype, rng, agree):
    a, b = operands(rng, dtype, m, k, n, transpose_a, transpose_b)
    agree(ops.matrix_product(a, b, transpose_a, transpose_b), np.zeros((m, n), dtype))


def test_a_nan_stays_in_its_row_and_column():
    a, b = np.ones((20, 30), np.float32), np.ones((30, 40), np.float32)
    a[7, 3] = np.nan
    b[29, 11] = np.nan
    c = cpu.matrix_product(a, b)
    expected = np.zeros((20, 40), bool)
    expected[7] = expected[:, 11] = True
    np.testing.assert_array_equal(np.isnan(c), expected)
    # Nor does it stay behind in memory that is used again.
    assert (cpu.matrix_product(np.ones((3, 5), np.float32), np.ones((5, 7), np.float32)) == 5).all()


@pytest.mark.parametrize("shape_a, shape_b, transpose_a, transpose_b, message", [
    ((3, 4), (5, 6), False, False, "b.* expected 4, got 5"),
    ((3, 4), (4, 6), True, False, "b.* expected 3, got 4"),
    ((3, 4), (4, 6), False, True, "b.* expected 4, got 6"),
    ((3, 4), (4, 5), True, True, "b.* expected 3, got 5"),
    ((3,), (3, 4), False, False, r"a must have 2 axes, got shape \(3,\)"),
    ((3, 4), (1, 4, 5), False, False, r"b must have 2 axes, got shape \(1, 4, 5\)"),
])
def test_shapes_that_do_not_fit(shape_a, shape_b, transpose_a, transpose_b, message):
    with pytest.raises(ValueError, match=f"^matrix_product: .*{message}"):
        cpu.matrix_product(np.zeros(shape_a), np.zeros(shape_b), transpose_a, transpose_b)
