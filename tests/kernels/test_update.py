"""The update of weights by stochastic gradient descent with momentum."""
import re

import numpy as np
import pytest

from tinyfcn.kernels import cpu, naive


@pytest.mark.parametrize("shape", [(1,), (7,), (16,), (17,), (3, 3, 5, 21), (1, 1, 64, 33), (0,),
                                   (2, 3)])
def test_cpu_gives_what_naive_gives(shape, rng, dtype, agree):
    w, g, v = (rng.standard_normal(shape, dtype) for _ in range(3))
    expected_w, expected_v = w.copy(), v.copy()
    for _ in range(3):
        assert naive.sgd_momentum(expected_w, g, expected_v, 0.1, 0.9, 0.01) is None
        assert cpu.sgd_momentum(w, g, v, 0.1, 0.9, 0.01) is None
    agree(w, expected_w, 4)
    agree(v, expected_v, 4)


def test_by_hand(ops, dtype):
    w, g, v = np.array([[1, -2], [3, 8], [0, 4]], dtype)
    ops.sgd_momentum(w, g, v, 0.5, 0.25, 0.125)
    # v = 0.25 v + 0.5 (g + 0.125 w)
    assert v.tolist() == [1.5625, 4.875]
    assert w.tolist() == [-0.5625, -6.875]
    assert g.tolist() == [3, 8]
    ops.sgd_momentum(w, g, v, 0, 0.5, 1)
    assert v.tolist() == [0.78125, 2.4375]
    assert w.tolist() == [-1.34375, -9.3125]


def test_a_view_is_updated_or_refused(rng, dtype):
    """But never left as it was without a word."""
    w, g, v = (rng.standard_normal((6, 5), dtype) for _ in range(3))
    expected_w, expected_v = w[:, ::2].copy(), v[:, ::2].copy()
    before = w.copy()
    naive.sgd_momentum(expected_w, g[:, ::2], expected_v, 0.1, 0.9, 0)
    try:
        cpu.sgd_momentum(w[:, ::2], g[:, ::2], v[:, ::2], 0.1, 0.9, 0)
    except ValueError as error:
        assert "contiguous" in str(error)
        np.testing.assert_array_equal(w, before)
    else:
        np.testing.assert_allclose(w[:, ::2], expected_w, rtol=1e-5)
        np.testing.assert_allclose(v[:, ::2], expected_v, rtol=1e-5)
        np.testing.assert_array_equal(w[:, 1::2], before[:, 1::2])


def test_gradients_may_be_views_and_read_only(rng, dtype, agree):
    w, v = rng.standard_normal((2, 6, 5), dtype)
    g = rng.standard_normal((5, 6), dtype).T
    g.flags.writeable = False
    expected_w, expected_v = w.copy(), v.copy()
    cpu.sgd_momentum(w, g, v, 0.1, 0.9, 0.1)
    naive.sgd_momentum(expected_w, g, expected_v, 0.1, 0.9, 0.1)
    agree(w, expected_w, 4)
    agree(v, expected_v, 4)


@pytest.mark.parametrize("wrong", [0, 2])
def test_read_only_weights_are_an_error(wrong):
    arrays = [np.zeros(4) for _ in range(3)]
    arrays[wrong].flags.writeable = False
    with pytest.raises(ValueError, match="writ"):
        cpu.sgd_momentum(*arrays, 0.1, 0.9, 0)


@pytest.mark.parametrize("wrong", [0, 1, 2])
def test_shapes_that_do_not_fit(wrong):
    arrays = [np.zeros((2, 3)) for _ in range(3)]
    arrays[wrong] = np.zeros((3, 2))
    with pytest.raises(ValueError, match=re.escape("(3, 2)")):
        cpu.sgd_momentum(*arrays, 0.1, 0.9, 0)


@pytest.mark.parametrize("shape", [(1,), (7,), (17,), (3, 3, 5, 21), (0,)])
def test_nesterov_and_adam_give_what_naive_gives(shape, rng, dtype, agree):
    w, g, m, v = (rng.standard_normal(shape, dtype) for _ in range(4))
    v = v * v
    expected = [array.copy() for array in (w, m, v)]
    for step in (1, 2, 30):
        for ops, (weights, mean, square) in (naive, expected), (cpu, (w, m, v)):
            assert ops.adam(weights, g, mean, square, 0.1, 0.9, 0.99, 1e-3, 0.01, step) is None
            ops.sgd_momentum(weights, g, mean, 0.1, 0.9, 0.01, nesterov=True)
    for array, other in zip((w, m, v), expected):
        agree(array, other, 8)


def test_adam_by_hand(ops, dtype):
    w, g, m, v = np.array([[1, -2], [4, 0], [0, 8], [0, 16]], dtype)
    ops.adam(w, g, m, v, 0.25, 0.5, 0.75, 0, 0.5, 1)
    # m / (1 - 0.5) = 4, 8; v / (1 - 0.75) = 16, 48
    assert m.tolist() == [2, 4] and v.tolist() == [4, 12]
    agree = 1e-6
    assert w.tolist() == pytest.approx([1 - 0.25 * (1 + 0.5), -2 - 0.25 * (8 / 48**0.5 - 1)], agree)


def test_adam_refuses_what_it_cannot_write():
    arrays = [np.zeros((2, 3)) for _ in range(4)]
    arrays[3] = np.zeros((3, 2)).T
    with pytest.raises(ValueError, match="adam: v is modified and must be C-contiguous"):
        cpu.adam(*arrays, 0.1, 0.9, 0.99, 1e-8, 0, 1)
    arrays[3] = np.zeros((3, 2))
    with pytest.raises(ValueError, match="adam: shape of v.*" + re.escape("(3, 2)")):
        cpu.adam(*arrays, 0.1, 0.9, 0.99, 1e-8, 0, 1)


@pytest.mark.parametrize("shape", [(1,), (17,), (3, 3, 5, 21), (0,)])
def test_moving_towards_a_target(shape, ops, rng, dtype, agree):
    w, target = (rng.standard_normal(shape, dtype) for _ in range(2))
    expected = (w.astype(float) * 0.875 + target.astype(float) * 0.125).astype(dtype)
    assert ops.move_towards(w, target, 0.125) is None
    agree(w, expected, 2)


def test_moving_an_array_that_cannot_be_written_is_an_error(dtype):
    w, target = np.zeros((4, 4), dtype)[:, ::2], np.ones((4, 2), dtype)
    with pytest.raises(ValueError, match="must be C-contiguous"):
        cpu.move_towards(w, target, 0.5)
    with pytest.raises(ValueError, match="shape of target"):
        cpu.move_towards(np.zeros(3, dtype), np.ones(4, dtype), 0.5)
