"""Updates of parameters, in place."""

from numba import prange

from .checks import check_arrays, check_match, contiguous
from .compilation import kernel
from .elementwise import block_range, block_count


@kernel
def _sgd_momentum(w, g, v, rate, momentum, decay):
    for block in prange(block_count(w.size)):
        start, stop = block_range(block, w.size)
        for i in range(start, stop):
            v[i] = momentum * v[i] + rate * (g[i] + decay * w[i])
            w[i] -= v[i]


def sgd_momentum(w, g, v, rate, momentum, decay):
    """Stochastic gradient descent with momentum and weight decay, as Caffe's SGDSolver::

        v = momentum * v + rate * (g + decay * w)
        w = w - v

    `w` and `v` are modified; all three are C-contiguous arrays of one shape and dtype.
    """
    check_arrays("sgd_momentum", w=(w, w.ndim), g=(g, w.ndim), v=(v, w.ndim))
    check_match("sgd_momentum: shape of g", g.shape, w.shape)
    check_match("sgd_momentum: shape of v", v.shape, w.shape)
    if not all(a.flags.c_contiguous and a.flags.writeable for a in (w, v)):
        raise ValueError("sgd_momentum: w and v are modified and must be C-contiguous, writable")
    number = w.dtype.type
    _sgd_momentum(
        w.reshape(-1),
        contiguous(g)[0].reshape(-1),
        v.reshape(-1),
        number(rate),
        number(momentum),
        number(decay),
    )


@kernel
def _move_towards(w, target, share):
    for block in prange(block_count(w.size)):
        start, stop = block_range(block, w.size)
        for i in range(start, stop):
            w[i] += share * (target[i] - w[i])


def move_towards(w, target, share):
    """w = w + share * (target - w), in place: a running average.

    Two arrays of one shape and dtype; w is C-contiguous.
    """
    check_arrays("move_towards", w=(w, w.ndim), target=(target, w.ndim))
    check_match("move_towards: shape of target", target.shape, w.shape)
    if not (w.flags.c_contiguous and w.flags.writeable):
        raise ValueError("move_towards: w is modified and must be C-contiguous, writable")
    _move_towards(w.reshape(-1), contiguous(target)[0].reshape(-1), w.dtype.type(share))
