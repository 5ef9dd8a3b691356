"""A trained net made ready for inference."""

import threading

from ..arrays import to_host
from ..graph import DATA, Graph
from ..layers import (
    Convolution,
    Dropout,
    FrozenConvolution,
    FrozenLinear,
    Interpolation,
    Linear,
    TransposedConvolution,
    separable_filter,
)
from .folding import fold_batch_norm


class PreparedGraph(Graph):
    """A net for inference, which transforms its weights when a second image comes.

    For a single image that would take longer than it saves; the scores are the same but for
    rounding. The largest weights go first, while the others are small: what is held at the peak is
    hardly more than at the end.
    """

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self._preparing = threading.Lock()

    def forward(self, x, keep=False, outputs=None):
        with self._preparing:
            waiting = [layer for layer in self.layers.values()
                       if isinstance(layer, FrozenConvolution)
                       and layer.prepared is None and layer.input_shape is not None]
            for layer in sorted(waiting, key=lambda layer: -layer.params["weights"].size):
                layer.prepare()
        return super().forward(x, keep, outputs)

    def classify(self, x):
        """As `Graph.classify`; where the last layer interpolates, its scores are never written."""
        last = self.nodes[-1]
        if not isinstance(last.layer, Interpolation) or last.size_like != DATA:
            return super().classify(x)
        source = last.inputs[0]
        return last.layer.classify(self.forward(x, outputs=[source])[source], x.shape[1:3])


def prepare(net):
    """A net that gives the same scores faster, for inference alone.

    Batch norm is folded into the convolutions, dropout is left out, upsampling by bilinear filters
    becomes interpolation; from the second image on the weights are held in the form that is fastest
    for images of the first one's size, and in that form alone. It cannot be trained. Until then,
    and learned upsampling always, it shares the arrays of `net`, which must not change while it is
    used.

    Parameters
    ----------
    net : Graph

    Returns
    -------
    PreparedGraph
        Nodes have the names that they have in `net`.
    """
    folded = fold_batch_norm(net)
    prepared = PreparedGraph(folded.name, folded.arguments)
    for attribute in ("preprocessing", "class_names", "colours", "ignore_label", "device"):
        setattr(prepared, attribute, getattr(net, attribute))
    renamed = {}
    for node in folded.nodes:
        inputs = [renamed.get(name, name) for name in node.inputs]
        if isinstance(node.layer, Dropout):
            renamed[node.name] = inputs[0]
            continue
        size_like = renamed.get(node.size_like, node.size_like)
        prepared.add(node.name, _frozen(node.layer), *inputs, size_like=size_like)
    return prepared


def _frozen(layer):
    if isinstance(layer, Convolution):
        return FrozenConvolution(layer.params, layer.geometry)
    if isinstance(layer, Linear):
        return FrozenLinear(layer.params)
    if isinstance(layer, TransposedConvolution):
        filters = separable_filter(to_host(layer.params["weights"]))
        if filters is not None:
            return Interpolation(*filters, layer.geometry)
    return layer
