"""What the tests of nets share."""
import numpy as np
import pytest


@pytest.fixture
def randomize():
    """A function that gives a net random parameters everywhere, and returns it.

    Weights are drawn as He initialization does, so that scores stay of one size through the net.
    No bias and no score layer is zero: zeros would hide mistakes, and stop all gradients.
    """
    def randomize(net, seed=0):
        rng = np.random.default_rng(seed)
        for name, w in net.params.items():
            kind = name.rpartition("/")[2]
            if kind in ("gamma", "running_var"):
                w[...] = rng.uniform(0.5, 2, w.shape)
            elif kind != "weights":
                w[...] = 0.2 * rng.standard_normal(w.shape)
            elif "upscore" in name:
                # Around the bilinear filter, so that all classes mix.
                w += (0.1 * rng.standard_normal(w.shape) / w.shape[2]).astype(w.dtype)
            else:
                fan_in = w.size // w.shape[-1]
                rng.standard_normal(out=w, dtype=w.dtype)
                w *= w.dtype.type(np.sqrt(2 / fan_in))
        return net
    return randomize
