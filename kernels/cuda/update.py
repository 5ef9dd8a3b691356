"""Updates of parameters, in place."""

from numba import cuda
from numba.cuda.types import int32

from . import launch
from .checks import check_arrays, check_match
from .compilation import FLOAT, FLOATS, INT, kernel


@kernel(FLOATS, FLOATS, FLOATS, FLOAT, FLOAT, FLOAT, INT)
def _sgd_momentum(w, g, v, rate, momentum, decay, size):
    i = int32(cuda.grid(1))
    if i < size:
        velocity = momentum * v[i] + rate * (g[i] + decay * w[i])
        v[i] = velocity
        w[i] -= velocity


@kernel(FLOATS, FLOATS, FLOAT, INT)
def _move_towards(w, target, share, size):
    i = int32(cuda.grid(1))
    if i < size:
        w[i] += share * (target[i] - w[i])


def sgd_momentum(w, g, v, rate, momentum, decay):
    """Stochastic gradient descent with momentum and weight decay, as Caffe's SGDSolver::

        v = momentum * v + rate * (g + decay * w)
        w = w - v

    `w` and `v` are modified; all three are arrays of one shape.
    """
    check_arrays("sgd_momentum", w=(w, w.ndim), g=(g, w.ndim), v=(v, w.ndim))
    check_match("sgd_momentum: shape of g", g.shape, w.shape)
    check_match("sgd_momentum: shape of v", v.shape, w.shape)
    if w.size:
        _sgd_momentum.launch(launch.blocks_for(w.size), w, g, v, rate, momentum, decay, w.size)


def move_towards(w, target, share):
    """w = w + share * (target - w), in place: a running average."""
    check_arrays("move_towards", w=(w, w.ndim), target=(target, w.ndim))
    check_match("move_towards: shape of target", target.shape, w.shape)
    if w.size:
        _move_towards.launch(launch.blocks_for(w.size), w, target, share, w.size)
