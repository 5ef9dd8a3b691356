"""What a net multiplies, layer by layer, counted as direct convolution."""

import math
from typing import NamedTuple

from ..graph import DATA
from ..layers import Convolution, Linear, TransposedConvolution
from ..peers.steps import steps


class Work(NamedTuple):
    """The multiplications of a layer.

    Attributes
    ----------
    product : (m, k, n) or None
        The matrix product that it amounts to: pixels, depth, outputs.
    gflop : float
        Two for a multiplication and its addition.
    passes : int
        How often a step of training does that much: forward and for each gradient that it needs.
    """

    product: tuple | None
    gflop: float
    passes: int


def work_of(net, input_shape):
    """{node: (Step, Work)} of all layers of an inference."""
    return {step.name: (step, work(step.layer, step.input_shape, step.shape,
                                   step.inputs == (DATA,)))
            for step in steps(net, input_shape)}


def work(layer, input_shape, shape, is_first):
    """The `Work` of a layer with these shapes of input and output."""
    if not isinstance(layer, Convolution | Linear | TransposedConvolution):
        return Work(None, 0.0, 0)
    weights = layer.params["weights"]
    transposed = isinstance(layer, TransposedConvolution)
    pixels = math.prod((input_shape if transposed else shape)[:-1])
    passes = 3 - is_first - ("weights" in layer.fixed)
    gflop = 2e-9 * pixels * weights.size
    if transposed or getattr(layer, "geometry", {}).get("groups", 1) > 1:
        return Work(None, gflop, passes)
    outputs = weights.shape[-1]
    return Work((pixels, weights.size // outputs, outputs), gflop, passes)
