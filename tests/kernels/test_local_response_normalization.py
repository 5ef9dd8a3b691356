"""Local response normalization, forwards and backwards."""
import numpy as np
import pytest

from tinyfcn.kernels import cpu, naive

# shape of x, size, alpha, beta, k
CASES = {
    "Caffe": ((2, 3, 4, 17), 5, 1e-4, 0.75, 1.0),
    "paper": ((1, 3, 2, 33), 5, 5e-4, 0.75, 2.0),
    "strong": ((1, 4, 5, 21), 5, 3.0, 0.75, 0.5),
    "one channel": ((2, 2, 3, 1), 5, 1.0, 0.75, 1.0),
    "window over all channels": ((1, 2, 3, 4), 9, 2.0, 0.75, 1.0),
    "window of one": ((1, 2, 3, 7), 1, 2.0, 0.75, 1.0),
    "another power": ((1, 3, 3, 6), 3, 1.5, 1.25, 1.0),
    "no power": ((1, 3, 3, 6), 3, 1.5, 0.0, 1.0),
    "many pixels": ((1, 40, 31, 3), 3, 1.5, 0.75, 1.0),
    "one pixel": ((1, 1, 1, 96), 5, 1.5, 0.75, 1.0),
    "empty batch": ((0, 3, 3, 5), 5, 1.5, 0.75, 1.0),
}


@pytest.mark.parametrize("name", CASES)
def test_cpu_gives_what_naive_gives(name, rng, dtype, agree):
    shape, *settings = CASES[name]
    x, gy = (3 * rng.standard_normal(shape, dtype) for _ in range(2))
    agree(cpu.local_response_normalization_forward(x, *settings),
          naive.local_response_normalization_forward(x, *settings), terms=4, what=name)
    agree(cpu.local_response_normalization_backward(gy, x, *settings),
          naive.local_response_normalization_backward(gy, x, *settings), terms=100, what=name)


def test_by_hand(ops, dtype):
    """x = 3, 4 with a window of 3 sees 9 + 16 twice: s = 1 + 3 / 3 * 25 = 26."""
    x = np.array([3, 4], dtype).reshape(1, 1, 1, 2)
    y = ops.local_response_normalization_forward(x, 3, 3.0, 1.0, 1.0)
    np.testing.assert_allclose(y.ravel(), [3 / 26, 4 / 26], rtol=1e-6)
    # dy0/dx0 = 1/26 - 2 * 9 / 26^2, dy0/dx1 = -2 * 12 / 26^2
    gy = np.array([1, 0], dtype).reshape(1, 1, 1, 2)
    gx = ops.local_response_normalization_backward(gy, x, 3, 3.0, 1.0, 1.0)
    np.testing.assert_allclose(gx.ravel(), [1 / 26 - 18 / 676, -24 / 676], rtol=1e-5)


def test_nan_stays_within_its_window(ops, dtype):
    x = np.ones((1, 1, 1, 7), dtype)
    x[..., 0] = np.nan
    y = ops.local_response_normalization_forward(x, 3, 1.0, 0.75, 1.0)
    assert np.isnan(y.ravel()).tolist() == [True, True] + 5 * [False]


@pytest.mark.parametrize("size, alpha, beta, k, message", [
    (4, 1.0, 0.75, 1.0, "size must be odd, got 4"),
    (0, 1.0, 0.75, 1.0, "size must be odd, got 0"),
    (5, -1.0, 0.75, 1.0, "got -1.0, 0.75 and 1.0"),
    (5, 1.0, -0.75, 1.0, "at least 0"),
    (5, 1.0, 0.75, 0.0, "k above 0"),
    (5, float("nan"), 0.75, 1.0, "got nan"),
])
def test_settings_out_of_range_are_an_error(size, alpha, beta, k, message):
    x = np.ones((1, 2, 2, 3), np.float32)
    with pytest.raises(ValueError, match=message):
        cpu.local_response_normalization_forward(x, size, alpha, beta, k)
    with pytest.raises(ValueError, match=message):
        cpu.local_response_normalization_backward(x, x, size, alpha, beta, k)


def test_shapes_that_do_not_fit_are_an_error():
    x = np.ones((1, 2, 2, 3), np.float32)
    with pytest.raises(ValueError, match="x must have 4 axes"):
        cpu.local_response_normalization_forward(x[0], 5, 1.0, 0.75, 1.0)
    with pytest.raises(ValueError, match="shape of gy"):
        cpu.local_response_normalization_backward(x[:, :1], x, 5, 1.0, 0.75, 1.0)
