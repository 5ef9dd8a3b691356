"""The local response normalization layer."""
import numpy as np

from tinyfcn.layers import LocalResponseNormalization


def test_forward_by_hand():
    """Channels 1, 2, 3, 4 with a window of 3: the squares' sums are 5, 14, 29, 25."""
    layer = LocalResponseNormalization(size=3, alpha=3, beta=0.5, k=2)
    y = layer.forward(np.array([1.0, 2, 3, 4]).reshape(1, 1, 1, 4))
    np.testing.assert_allclose(y.ravel(), [1 / 7**.5, 2 / 16**.5, 3 / 31**.5, 4 / 27**.5])


def test_defaults_are_caffes():
    x = np.full((1, 1, 1, 5), 100.0)
    y = LocalResponseNormalization().forward(x)
    assert np.isclose(y[0, 0, 0, 2], 100 / (1 + 1e-4 / 5 * 5 * 100**2)**0.75)
    assert np.isclose(y[0, 0, 0, 0], 100 / (1 + 1e-4 / 5 * 3 * 100**2)**0.75)


def test_gradients(rng, assert_gradients):
    for size, channels, beta in (5, 9, 0.75), (3, 2, 0.5), (1, 4, 1.3), (9, 3, 0.75):
        layer = LocalResponseNormalization(size, alpha=2.0, beta=beta, k=1.5)
        x = rng.standard_normal((2, 3, 4, channels))
        assert assert_gradients(layer, x) == ["x"]
