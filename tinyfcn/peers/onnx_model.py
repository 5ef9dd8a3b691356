"""A net of ours as an ONNX model for one shape of input."""

import numpy as np

from ..graph import DATA
from ..layers import Add, Convolution, Crop, Linear, MaxPooling, ReLU, Scale, TransposedConvolution
from .steps import diagonal, linear_weights, pooling_padding, steps, upsampling_padding

OPSET, IR_VERSION = 17, 8


def onnx_model(net, input_shape):
    """Serialize a net as ONNX, opset 17.

    Parameters
    ----------
    net : Graph
    input_shape : (n, h, w, c)

    Returns
    -------
    bytes
        The model; its input "data" is (n, c, h, w).
    """
    from onnx import TensorProto, helper

    plan, parts = steps(net, input_shape), _Parts()
    for step in plan:
        _WRITE[type(step.layer)](parts, step)
    n, h, w, c = input_shape
    last = plan[-1]
    output = (last.shape[0], last.shape[-1], *last.shape[1:-1])
    graph = helper.make_graph(
        parts.nodes, net.name,
        [helper.make_tensor_value_info(DATA, TensorProto.FLOAT, (n, c, h, w))],
        [helper.make_tensor_value_info(last.name, TensorProto.FLOAT, output)],
        parts.tensors,
    )
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)
    return model.SerializeToString()


class _Parts:
    """The nodes and tensors of a model that is being written."""

    def __init__(self):
        self.nodes, self.tensors = [], []

    def tensor(self, name, array):
        from onnx import numpy_helper

        self.tensors.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, kind, inputs, output, **attributes):
        from onnx import helper

        self.nodes.append(helper.make_node(kind, list(inputs), [output], output, **attributes))
        return output


# ---- one function for each layer: (parts, step); its output is called like the step


def _convolution(parts, step):
    options, params = step.layer.geometry, step.layer.params
    inputs = [step.inputs[0],
              parts.tensor(f"{step.name}/weights", params["weights"].transpose(3, 2, 0, 1))]
    if "bias" in params:
        inputs.append(parts.tensor(f"{step.name}/bias", params["bias"]))
    y = parts.node(
        "Conv", inputs, f"{step.name}/sum" if step.relu else step.name,
        kernel_shape=step.layer.kernel_size, strides=options["stride"],
        pads=options["padding"] * 2, dilations=options["dilation"], group=options["groups"])
    if step.relu:
        parts.node("Relu", [y], step.name)


def _linear(parts, step):
    flat = parts.node("Flatten", step.inputs, f"{step.name}/flat")
    weights = parts.tensor(f"{step.name}/weights", linear_weights(step))
    bias = parts.tensor(f"{step.name}/bias", step.layer.params["bias"])
    name = f"{step.name}/sum" if step.relu else step.name
    y = parts.node("Gemm", [flat, weights, bias], name, transB=1)
    if step.relu:
        parts.node("Relu", [y], step.name)


def _transposed_convolution(parts, step):
    weights, groups = step.layer.params["weights"], 1
    filters = diagonal(weights)
    if filters is not None:  # a group for each channel: OpenVINO is faster so
        weights, groups = filters[:, :, :, None], filters.shape[2]
    ((top, bottom), (left, right)), zeros = upsampling_padding(step)
    larger = any(zeros)
    weights = parts.tensor(f"{step.name}/weights", weights.transpose(2, 3, 0, 1))
    y = parts.node(
        "ConvTranspose", [step.inputs[0], weights],
        f"{step.name}/sum" if larger else step.name, kernel_shape=step.layer.kernel_size,
        strides=step.layer.geometry["stride"], pads=(top, left, bottom, right), group=groups)
    if larger:
        pads = parts.tensor(f"{step.name}/zeros", np.array([0] * 6 + list(zeros), np.int64))
        parts.node("Pad", [y, pads], step.name)


def _max_pooling(parts, step):
    (top, bottom), (left, right) = pooling_padding(step)
    options = step.layer.geometry
    parts.node("MaxPool", step.inputs, step.name, kernel_shape=options["kernel_size"],
               strides=options["stride"], pads=(top, left, bottom, right))


def _relu(parts, step):
    parts.node("Relu", step.inputs, step.name)


def _crop(parts, step):
    begin = np.array(step.layer.offset, np.int64)
    window = {"begin": begin, "end": begin + step.shape[1:3], "axes": np.array([2, 3], np.int64)}
    limits = [parts.tensor(f"{step.name}/{name}", each) for name, each in window.items()]
    parts.node("Slice", [*step.inputs, *limits], step.name)


def _scale(parts, step):
    factor = parts.tensor(f"{step.name}/factor", np.array(step.layer.factor, np.float32))
    parts.node("Mul", [*step.inputs, factor], step.name)


def _add(parts, step):
    parts.node("Add", step.inputs, step.name)


_WRITE = {
    Add: _add,
    Convolution: _convolution,
    Crop: _crop,
    Linear: _linear,
    MaxPooling: _max_pooling,
    ReLU: _relu,
    Scale: _scale,
    TransposedConvolution: _transposed_convolution,
}
