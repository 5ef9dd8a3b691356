"""Updates of parameters, in place."""

import math

from numba import cuda
from numba.cuda.types import float32, int32

from . import launch
from .checks import check_arrays, check_match
from .compilation import FLOAT, FLOATS, INT, kernel


@kernel(FLOATS, FLOATS, FLOATS, FLOAT, FLOAT, FLOAT, INT, INT)
def _sgd_momentum(w, g, v, rate, momentum, decay, nesterov, size):
    i = int32(cuda.grid(1))
    if i < size:
        descent = rate * (g[i] + decay * w[i])
        velocity = momentum * v[i] + descent
        v[i] = velocity
        if nesterov:
            velocity = momentum * velocity + descent
        w[i] -= velocity


@kernel(FLOATS, FLOATS, FLOATS, FLOATS, FLOAT, FLOAT, FLOAT, FLOAT, FLOAT, FLOAT, INT)
def _adam(w, g, m, v, beta1, beta2, mean_scale, square_scale, eps, keep, size):
    i = int32(cuda.grid(1))
    if i < size:
        mean = beta1 * m[i] + (float32(1.0) - beta1) * g[i]
        square = beta2 * v[i] + (float32(1.0) - beta2) * (g[i] * g[i])
        m[i] = mean
        v[i] = square
        w[i] = keep * w[i] - mean_scale * mean / (math.sqrt(square * square_scale) + eps)


@kernel(FLOATS, FLOATS, FLOAT, INT)
def _move_towards(w, target, share, size):
    i = int32(cuda.grid(1))
    if i < size:
        w[i] += share * (target[i] - w[i])


def sgd_momentum(w, g, v, rate, momentum, decay, nesterov=False):
    """Stochastic gradient descent with momentum and weight decay, as Caffe's solvers::

        d = rate * (g + decay * w)
        v = momentum * v + d
        w = w - v, or with `nesterov` w - (momentum * v + d)

    `w` and `v` are modified; all three are arrays of one shape.
    """
    _check("sgd_momentum", w, g=g, v=v)
    if w.size:
        _sgd_momentum.launch(
            launch.blocks_for(w.size), w, g, v, rate, momentum, decay, int(nesterov), w.size
        )


def adam(w, g, m, v, rate, beta1, beta2, eps, decay, step):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2)::

        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        w = w - rate * (m / (1 - beta1**step) / (sqrt(v / (1 - beta2**step)) + eps) + decay * w)

    `w`, `m` and `v` are modified; all are arrays of one shape. `step` counts the updates from 1.
    """
    _check("adam", w, g=g, m=m, v=v)
    if w.size:
        mean_scale, square_scale = rate / (1 - beta1**step), 1 / (1 - beta2**step)
        _adam.launch(
            launch.blocks_for(w.size), w, g, m, v, beta1, beta2, mean_scale, square_scale, eps,
            1 - rate * decay, w.size,
        )


def move_towards(w, target, share):
    """w = w + share * (target - w), in place: a running average."""
    _check("move_towards", w, target=target)
    if w.size:
        _move_towards.launch(launch.blocks_for(w.size), w, target, share, w.size)


def _check(name, w, **others):
    check_arrays(name, w=(w, w.ndim), **{key: (array, w.ndim) for key, array in others.items()})
    for key, array in others.items():
        check_match(f"{name}: shape of {key}", array.shape, w.shape)
