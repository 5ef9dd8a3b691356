"""Batch normalization folded into the convolutions before it, for inference."""

import copy

import numpy as np

from ..arrays import device_of, to_device, to_host
from ..graph import Graph
from ..layers import BatchNorm, Convolution


def fold_batch_norm(net):
    """A net for inference that gives the same scores without its batch norm layers.

    In inference batch norm is y = factor * x + shift, which a convolution before it can do with
    other weights. Layers that don't change are shared with `net`; a net without batch norm is
    returned as it is.

    Raises
    ------
    ValueError
        If batch norm reads anything but a convolution that nothing else reads.
    """
    folds = {
        node.inputs[0]: node for node in net.nodes if isinstance(node.layer, BatchNorm)
    }
    if not folds:
        return net
    layers = net.layers
    read = [name for node in net.nodes for name in node.inputs]
    for source, norm in folds.items():
        if not isinstance(layers.get(source), Convolution) or read.count(source) > 1:
            raise ValueError(
                f"cannot fold {norm.name}: {source} is not a convolution that it alone reads"
            )
    folded = Graph(net.name, {**net.arguments, "batch_norm": False})
    for attribute in ("preprocessing", "class_names", "colours", "ignore_label", "device"):
        setattr(folded, attribute, getattr(net, attribute))
    renamed = {}
    for node in net.nodes:
        inputs = [renamed.get(name, name) for name in node.inputs]
        if isinstance(node.layer, BatchNorm):
            renamed[node.name] = inputs[0]
            continue
        layer = node.layer
        if node.name in folds:
            layer = _folded(layer, folds[node.name].layer)
        folded.add(node.name, layer, *inputs, size_like=renamed.get(node.size_like, node.size_like))
    return folded


def _folded(convolution, norm):
    params = {name: to_host(array).astype(np.float64) for name, array in norm.params.items()}
    factor = params["gamma"] / np.sqrt(params["running_var"] + norm.eps)
    weights = to_host(convolution.params["weights"])
    bias = to_host(convolution.params["bias"]) if "bias" in convolution.params else 0
    folded = copy.copy(convolution)
    folded.kept, folded.grads = None, {}
    folded.params = {
        "weights": weights * factor,
        "bias": (bias - params["running_mean"]) * factor + params["beta"],
    }
    device = device_of(convolution.params["weights"])
    folded.params = {
        name: to_device(array.astype(weights.dtype), device)
        for name, array in folded.params.items()
    }
    return folded
