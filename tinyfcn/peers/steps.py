"""A net as a list of steps with known shapes, as formats of exchange want it."""

import collections
from typing import NamedTuple

import numpy as np

from ..graph import DATA
from ..kernels import geometry
from ..layers import (
    Convolution,
    Crop,
    Dropout,
    Layer,
    Linear,
    MaxPooling,
    ReLU,
    TransposedConvolution,
)
from ..models import fold_batch_norm


class Step(NamedTuple):
    """One layer in inference.

    Attributes
    ----------
    inputs : tuple of str
        Names of the steps that it reads, or `DATA`.
    input_shape, shape : (n, h, w, c), or (n, c) after a Linear
        Of the first input and of the output.
    relu : bool
        A ReLU follows, and nothing else reads what is before it.
    """

    name: str
    layer: Layer
    inputs: tuple
    input_shape: tuple
    shape: tuple
    relu: bool = False


def steps(net, input_shape):
    """The steps of a net's inference on x of this shape: batch norm folded, dropout gone."""
    net = fold_batch_norm(net)
    kept = [node for node in net.nodes if not isinstance(node.layer, Dropout)]
    # Of a node that is gone, or done on the way by another: the one to read.
    source = {node.name: node.inputs[0] for node in net.nodes if node not in kept}

    def resolve(name):
        while name in source:
            name = source[name]
        return name

    def read(node):
        return tuple(map(resolve, node.inputs))

    readers = collections.Counter(name for node in kept for name in read(node))
    found, shapes = {}, {DATA: tuple(input_shape)}
    for node in kept:
        inputs = read(node)
        before = found.get(inputs[0])
        if isinstance(node.layer, ReLU) and readers[inputs[0]] == 1 and before is not None \
                and isinstance(before.layer, Convolution | Linear) and not before.relu:
            found[before.name] = before._replace(relu=True)
            source[node.name] = before.name
            continue
        size = None
        if node.size_like is not None:
            size = shapes[resolve(node.size_like)][1:3]
        x_shape = shapes[inputs[0]]
        shapes[node.name] = _output_shape(node.layer, x_shape, size)
        found[node.name] = Step(node.name, node.layer, inputs, x_shape, shapes[node.name])
    return list(found.values())


def _output_shape(layer, shape, size):
    if isinstance(layer, Linear):
        return shape[0], layer.params["weights"].shape[1]
    if isinstance(layer, Crop):
        return shape[0], *size, shape[3]
    if isinstance(layer, MaxPooling):
        windows = zip(shape[1:3], *layer.geometry.values())
        return shape[0], *(geometry.pooling_size(*each, layer.ceil) for each in windows), shape[3]
    if isinstance(layer, Convolution | TransposedConvolution):
        options = {name: each for name, each in layer.geometry.items() if name != "groups"}
        one = (geometry.convolution_size if isinstance(layer, Convolution)
               else geometry.transposed_convolution_size)
        size = size or tuple(map(one, shape[1:3], layer.kernel_size, *options.values()))
        return shape[0], *size, layer.params["weights"].shape[3]
    return shape


def pooling_padding(step):
    """((begin, end) of y, of x): the padding with which no window reaches beyond it."""
    sides = zip(step.input_shape[1:3], step.shape[1:3], *(
        step.layer.geometry[name] for name in ("kernel_size", "stride", "padding")))
    return tuple((p, max(0, (out - 1) * s + k - size - p)) for size, out, k, s, p in sides)


def upsampling_padding(step):
    """What is cut off the whole output of a transposed convolution, and the zeros that follow it.

    Returns
    -------
    cut : ((begin, end) of y, of x)
    zeros : (y, x), at the end
    """
    cut, zeros = [], []
    for size, out, k, s, p in zip(step.input_shape[1:3], step.shape[1:3], step.layer.kernel_size,
                                  step.layer.geometry["stride"], step.layer.geometry["padding"]):
        end = (size - 1) * s + k - p - out
        cut.append((p, max(0, end)))
        zeros.append(max(0, -end))
    return tuple(cut), tuple(zeros)


def linear_weights(step):
    """A Linear's weights as (out, in) for an input flattened in c, h, w order."""
    weights = step.layer.params["weights"]
    if len(step.input_shape) == 4:
        weights = weights.reshape(*step.input_shape[1:], -1).transpose(2, 0, 1, 3)
    return np.ascontiguousarray(weights.reshape(-1, step.shape[1]).T)


def diagonal(weights):
    """The filters (kh, kw, channels) of an upsampling that keeps the channels apart, or None."""
    if weights.shape[2] != weights.shape[3]:
        return None
    filters = np.einsum("hwcc->hwc", weights)
    return filters if np.count_nonzero(weights) == np.count_nonzero(filters) else None
