"""Updates of parameters, in place."""

import numpy as np
from numba import prange

from .checks import check_arrays, check_match, contiguous
from .compilation import kernel
from .elementwise import block_count, block_range
from .jobs import counter, take_job
from .threads import thread_count


@kernel
def _sgd_momentum(w, g, v, rate, momentum, decay, nesterov, blocks_taken, workers):
    for _ in prange(workers):
        block = take_job(blocks_taken)
        while block < block_count(w.size):
            start, stop = block_range(block, w.size)
            if nesterov:
                for i in range(start, stop):
                    descent = rate * (g[i] + decay * w[i])
                    v[i] = momentum * v[i] + descent
                    w[i] -= momentum * v[i] + descent
            else:
                for i in range(start, stop):
                    v[i] = momentum * v[i] + rate * (g[i] + decay * w[i])
                    w[i] -= v[i]
            block = take_job(blocks_taken)


def sgd_momentum(w, g, v, rate, momentum, decay, nesterov=False):
    """Stochastic gradient descent with momentum and weight decay, as Caffe's solvers::

        d = rate * (g + decay * w)
        v = momentum * v + d
        w = w - v, or with `nesterov` w - (momentum * v + d)

    `w` and `v` are modified; all three are C-contiguous arrays of one shape and dtype.
    """
    _check("sgd_momentum", w, g, v=v)
    number = w.dtype.type
    _sgd_momentum(
        w.reshape(-1),
        contiguous(g)[0].reshape(-1),
        v.reshape(-1),
        number(rate),
        number(momentum),
        number(decay),
        bool(nesterov),
        counter(),
        thread_count(),
    )


@kernel
def _adam(w, g, m, v, beta1, beta2, one, mean_scale, square_scale, eps, keep, blocks_taken,
          workers):
    for _ in prange(workers):
        block = take_job(blocks_taken)
        while block < block_count(w.size):
            start, stop = block_range(block, w.size)
            for i in range(start, stop):
                m[i] = beta1 * m[i] + (one - beta1) * g[i]
                v[i] = beta2 * v[i] + (one - beta2) * (g[i] * g[i])
                w[i] = keep * w[i] - mean_scale * m[i] / (np.sqrt(v[i] * square_scale) + eps)
            block = take_job(blocks_taken)


def adam(w, g, m, v, rate, beta1, beta2, eps, decay, step):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2)::

        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        w = w - rate * (m / (1 - beta1**step) / (sqrt(v / (1 - beta2**step)) + eps) + decay * w)

    `w`, `m` and `v` are modified; all are C-contiguous arrays of one shape and dtype. `step` counts
    the updates from 1.
    """
    _check("adam", w, g, m=m, v=v)
    number = w.dtype.type
    _adam(
        w.reshape(-1),
        contiguous(g)[0].reshape(-1),
        m.reshape(-1),
        v.reshape(-1),
        number(beta1),
        number(beta2),
        number(1),
        number(rate / (1 - beta1**step)),
        number(1 / (1 - beta2**step)),
        number(eps),
        number(1 - rate * decay),
        counter(),
        thread_count(),
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
    _check("move_towards", w, target, of="target")
    _move_towards(w.reshape(-1), contiguous(target)[0].reshape(-1), w.dtype.type(share))


def _check(name, w, g, of="g", **state):
    """All of one shape and dtype; what is modified can be."""
    arrays = {"w": w, of: g, **state}
    check_arrays(name, **{key: (array, w.ndim) for key, array in arrays.items()})
    for key, array in arrays.items():
        check_match(f"{name}: shape of {key}", array.shape, w.shape)
        if array is not g and not (array.flags.c_contiguous and array.flags.writeable):
            raise ValueError(f"{name}: {key} is modified and must be C-contiguous, writable")
