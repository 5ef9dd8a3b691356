"""From the names and orders of a source of weights to this project's, by the tables of `layouts`.

Nothing is read before it is asked for, and what is read goes slice by slice into its place: fc6
alone is three quarters of VGG-16.
"""
import math
import re
from collections.abc import Mapping

import numpy as np

from tinyfcn.weights.tensors import SLICE_BYTES, forget

__all__ = ["OwnTensors", "matches", "same_numbers"]

# Longer names are no layer's, and could keep a regular expression busy.
MAX_NAME = 300

# What frameworks store beside parameters.
_COUNTERS = re.compile(r"(.*[./])?num_batches_tracked")


class OwnTensors(Mapping):
    """Tensors of a known layout under this project's names, converted when they are asked for.

    What the layout does not know keeps its name and its order.

    Parameters
    ----------
    tensors : mapping of str to array-like
        With `shape`, `dtype` and indexing.
    layout : Layout

    Attributes
    ----------
    layout : Layout
    shapes : dict of str to tuple
        By own name. A dense layer that the file stores as a convolution is (kh, kw, in, out); the
        same memory, as (kh * kw * in, out), is the dense layer's.
    sources : dict of str to str
        The stored name of each.

    Raises
    ------
    ValueError
        The tensors do not fit the layout.
    """

    def __init__(self, tensors, layout):
        found = matches(tensors, layout)
        if not found:
            raise ValueError(f"does not have the tensors of the layout {layout.name}")
        self.layout = layout
        self._tensors = tensors
        known, others, self._channels = found
        self._known = frozenset(known)
        self.sources = known | dict(zip(others, others))
        self.shapes = {name: self._shape(name) for name in self.sources}

    def __getitem__(self, name):
        out = np.empty(self.shapes[name], self._tensors[self.sources[name]].dtype.newbyteorder("="))
        self.read_into(name, out)
        return out

    def __iter__(self):
        return iter(self.sources)

    def __len__(self):
        return len(self.sources)

    def read_into(self, name, out):
        """Write a tensor into `out`, a C-contiguous array of as many numbers, slice by slice."""
        if out.size != math.prod(self.shapes[name]) or not out.flags.c_contiguous:
            raise ValueError(f"{name} is {self.shapes[name]}, not {out.shape}")
        if out.size == 0:
            return
        stored = self._tensors[self.sources[name]]
        target = self._in_stored_order(name, out)
        if stored.ndim == 0:
            target[...] = np.asarray(stored)
            return
        # Caffe's old blobs have four axes, the first of them 1.
        lead = 0
        while lead < stored.ndim - 1 and stored.shape[lead] == 1 != target.shape[0]:
            lead += 1
        if isinstance(stored, np.ndarray) and stored.shape == target.shape:
            # MATLAB's order is Fortran's: slices along the first axis lie all over the file.
            axis = int(np.argmax(stored.strides))
            stored, target = np.moveaxis(stored, axis, 0), np.moveaxis(target, axis, 0)
        step = max(1, SLICE_BYTES * target.shape[0] // (out.size * out.itemsize))
        with np.errstate(over="ignore", invalid="ignore"):
            for start in range(0, target.shape[0], step):
                place = target[start:start + step]
                part = stored[(0,) * lead + (slice(start, start + step),)]
                np.copyto(place, np.asarray(part).reshape(place.shape), casting="same_kind")
                forget(stored)

    def _shape(self, name):
        layer, kind = _split(name)
        shape = tuple(self._tensors[self.sources[name]].shape)
        if name not in self._known:
            return shape
        if kind != "weights" or len(shape) < 2:
            return (math.prod(shape),)
        shape = _dense_shape(layer, shape, self.layout)
        if len(shape) == 2:
            return shape if self.layout.dense == "IO" else shape[::-1]
        return tuple(shape[i] for i in _order(layer, self.layout))

    def _in_stored_order(self, name, out):
        """The memory of `out` as a view whose axes are in the order of the stored tensor."""
        layer, kind = _split(name)
        shape = self.shapes[name]
        if name not in self._known or kind != "weights" or len(shape) < 2:
            return out.reshape(shape or (1,))
        if len(shape) == 2:
            if self.layout.dense == "IO":
                return out.reshape(shape)
            if layer in _FIRST_DENSE and self.layout.flatten == "CHW":
                side = _side(shape[0], self._channels)
                return out.reshape(side, side, self._channels, shape[1]).transpose(3, 2, 0, 1)
            return out.reshape(shape).T
        return out.reshape(shape).transpose(np.argsort(_order(layer, self.layout)))


_DENSE, _FIRST_DENSE = ("fc", "ip"), ("fc6", "ip1")


def same_numbers(name, shape, other):
    """Whether tensors of two shapes under one name here are of the same numbers in the same order.

    A dense layer's weights are those of the convolution whose kernel covers its input.
    """
    shape, other = tuple(shape), tuple(other)
    dense = name.startswith(_DENSE) and {len(shape), len(other)} == {2, 4}
    return shape == other or dense and (
        shape[-1] == other[-1] and math.prod(shape) == math.prod(other))


def matches(tensors, layout):
    """Find what a layout's layers are called among the tensors.

    Returns
    -------
    ({own name: stored name}, other names, channels of the last convolution), or None
        None unless the names and shapes of all the convolutions are those of one of its nets.
        Others are those that begin as the net's names do, such as "model_state_dict.".
    """
    for table in layout.tables:
        for prefix, sources in _groups(tensors, layout, table):
            channels = _channels(tensors, sources, layout, table)
            if channels and _fits(tensors, sources, layout, channels):
                known = set(sources.values())
                others = [name for name in tensors if name.startswith(prefix)
                          and name not in known and not _COUNTERS.fullmatch(name)]
                return sources, others, channels
    return None


def _groups(tensors, layout, table):
    """(prefix, {own name: stored name}) of each group of tensors, the largest group first.

    A prefix is what stands before the layers' names: a checkpoint holds more than a net.
    """
    layers = "|".join(map(re.escape, table))
    kinds = "|".join(f"(?P<{kind}>{suffix})" for kind, suffix in layout.kinds.items())
    pattern = re.compile(rf"((?:.*?[./])??)({layers})(?:{kinds})", re.DOTALL)
    groups = {}
    for name in tensors:
        match = pattern.fullmatch(name) if len(name) <= MAX_NAME else None
        if match is None:
            continue
        layer, kind = table[match[2]], match.lastgroup
        if layer.startswith("bn"):
            kind = {"weights": "gamma", "bias": "beta"}.get(kind, kind)
        elif kind.startswith("running"):
            continue
        groups.setdefault(match[1], {}).setdefault(f"{layer}/{kind}", name)
    return sorted(groups.items(), key=lambda group: len(group[1]), reverse=True)


def _channels(tensors, sources, layout, table):
    """The output channels of the last convolution if all of them fit each other, else None."""
    before = None
    for layer in table.values():
        if layer.startswith(("ip", "bn")) and f"{layer}/weights" not in sources \
                and f"{layer}/gamma" not in sources:
            return None
        if not layer.startswith("conv"):
            continue
        name = sources.get(f"{layer}/weights")
        shape = () if name is None else tensors[name].shape
        if len(shape) != 4 or f"{layer}/bias" not in sources:
            return None
        kh, kw, inputs, outputs = (shape[i] for i in _order(layer, layout))
        # Two groups of AlexNet's see half of the channels each.
        grouped = layer in ("conv2", "conv4", "conv5")
        if kh != kw or before not in (None, inputs) and not (grouped and before == 2 * inputs):
            return None
        before = outputs
    return before


def _fits(tensors, sources, layout, channels):
    """Whether dense layers and the marks of the layout are as it says."""
    if layout.needs is not None and f"{layout.needs}/weights" not in sources:
        return False
    if layout.nan is not None:
        name = sources.get(layout.nan)
        numbers = np.zeros(0) if name is None else np.asarray(tensors[name])
        if numbers.size == 0 or not np.isnan(numbers).all():
            return False
    first = next((layer for layer in _FIRST_DENSE if f"{layer}/weights" in sources), None)
    if first is None:
        return True
    shape = _dense_shape(first, tuple(tensors[sources[f"{first}/weights"]].shape), layout)
    if len(shape) == len(layout.dense) == 2:
        inputs = shape[layout.dense.index("I")]
        return inputs % channels == 0 and (
            layout.flatten == "HWC" or _side(inputs, channels) is not None)
    if len(shape) != 4:
        return False
    # Of two sources with the same names one stores dense layers as convolutions.
    as_convolution = layout.dense != "IO" or layout.preprocessing is None
    return as_convolution and shape[_order(first, layout)[2]] == channels


def _dense_shape(layer, shape, layout):
    """The shape without the two axes of 1 that Caffe's old blobs of dense layers begin with."""
    dense = layer.startswith(_DENSE) and layout.dense == "OI"
    return shape[2:] if dense and len(shape) == 4 and shape[:2] == (1, 1) else shape


def _order(layer, layout):
    """Where (kh, kw, in, out) are among the stored axes."""
    axes = layout.upsampling_axes if layer.startswith("upscore") else layout.axes
    return [axes.index(axis) for axis in "HWIO"]


def _side(inputs, channels):
    """Height and width of the square map that a dense layer with so many inputs reads, or None."""
    side = math.isqrt(inputs // channels)
    return side if side * side * channels == inputs else None


def _split(name):
    layer, _, kind = name.rpartition("/")
    return layer, kind
