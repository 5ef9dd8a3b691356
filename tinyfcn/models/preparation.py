"""A trained net made ready for inference."""

from ..arrays import to_host
from ..graph import Graph
from ..layers import (
    Convolution,
    Dropout,
    FrozenConvolution,
    Interpolation,
    TransposedConvolution,
    separable_filter,
)
from .folding import fold_batch_norm


def prepare(net):
    """A net that gives the same scores faster, for inference alone.

    Batch norm is folded into the convolutions, dropout is left out, upsampling by bilinear filters
    becomes interpolation, weights are transformed at the first image and kept in that form alone.
    Later changes of `net` are not seen, and it cannot be trained.

    Parameters
    ----------
    net : Graph

    Returns
    -------
    Graph
        Nodes have the names that they have in `net`.
    """
    folded = fold_batch_norm(net)
    prepared = Graph(folded.name, folded.arguments)
    for attribute in ("preprocessing", "class_names", "colours", "ignore_label", "device"):
        setattr(prepared, attribute, getattr(net, attribute))
    renamed = {}
    for node in folded.nodes:
        inputs = [renamed.get(name, name) for name in node.inputs]
        if isinstance(node.layer, Dropout):
            renamed[node.name] = inputs[0]
            continue
        size_like = renamed.get(node.size_like, node.size_like)
        prepared.add(node.name, _frozen(node.layer, size_like), *inputs, size_like=size_like)
    return prepared


def _frozen(layer, size_like):
    if isinstance(layer, Convolution):
        return FrozenConvolution(layer)
    if isinstance(layer, TransposedConvolution) and size_like is not None:
        filters = separable_filter(to_host(layer.params["weights"]))
        if filters is not None:
            return Interpolation(*filters, layer.geometry)
    return layer
