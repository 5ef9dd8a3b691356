"""Nets in ncnn: its .param and .bin written from our graph; float32, Winograd and packing on."""

import os
import tempfile

import numpy as np

from ..graph import DATA
from ..layers import Add, Convolution, Crop, Linear, MaxPooling, ReLU, Scale, TransposedConvolution
from .session import Session, channels_first, channels_last
from .steps import linear_weights, pooling_padding, steps, upsampling_padding

VARIANTS = {"ncnn": {}}

MAGIC = 7767517
# Before weights, their type: float32, not compressed.
FLOAT32 = np.zeros(1, np.uint32)
# What would compute or store anything in fewer bits.
NARROW = ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_packed",
          "use_bf16_storage", "use_int8_packed", "use_int8_storage", "use_int8_arithmetic",
          "use_int8_inference")


def load(net, x, threads):
    """A `Session` of ncnn, which takes the images of a batch one after the other."""
    import ncnn

    loaded = ncnn.Net()
    loaded.opt.num_threads = threads
    loaded.opt.use_vulkan_compute = False
    for option in NARROW:
        if hasattr(loaded.opt, option):
            setattr(loaded.opt, option, False)
    with tempfile.TemporaryDirectory(prefix="tinyfcn-") as folder:
        param, weights = (os.path.join(folder, name) for name in ("net.param", "net.bin"))
        output = write(net, x.shape, param, weights)
        if loaded.load_param(param) or loaded.load_model(weights):
            raise RuntimeError(f"ncnn cannot load {net.name}")
    # A copy of ncnn's own: some of its layers misread channels that lie as NumPy lays them.
    mats = [ncnn.Mat(image).clone() for image in channels_first(x)]

    def run():
        found = []
        for mat in mats:
            extractor = loaded.create_extractor()
            extractor.input(DATA, mat)
            code, y = extractor.extract(output)
            if code:
                raise MemoryError if code == -100 else RuntimeError(f"ncnn failed: {code}")
            found.append(y)
        return found

    return Session(run, lambda ys: channels_last(np.stack([np.array(y) for y in ys])))


def write(net, input_shape, param, weights):
    """Write a net for images of this shape as ncnn's two files; return the output's name."""
    plan = steps(net, (1, *input_shape[1:]))
    lines, blobs = [], 0
    readers = {}
    for step in plan:
        for name in step.inputs:
            readers.setdefault(name, []).append(step.name)

    def add(kind, name, inputs, outputs, options=None):
        nonlocal blobs
        blobs += len(outputs)
        texts = [f"{key}={value}" for key, value in (options or {}).items()]
        lines.append(" ".join(map(str, (kind, name, len(inputs), len(outputs), *inputs, *outputs,
                                        *texts))))

    def offer(name):
        """ncnn wants a copy of the name for each reader, if there are several."""
        if len(readers.get(name, ())) > 1:
            copies = [f"{name}/{i}" for i in range(len(readers[name]))]
            add("Split", f"{name}/split", [name], copies)
            available[name] = iter(copies)
        else:
            available[name] = iter([name])

    available = {}
    _, h, w, c = input_shape
    add("Input", DATA, [], [DATA], {0: w, 1: h, 2: c})
    offer(DATA)
    with open(weights, "wb") as file:
        for step in plan:
            inputs = [next(available[name]) for name in step.inputs]
            (kind, options, arrays), zeros = _WRITE[type(step.layer)](step), (0, 0)
            for array in arrays:
                np.ascontiguousarray(array).tofile(file)
            if isinstance(step.layer, TransposedConvolution):
                _, zeros = upsampling_padding(step)
            if any(zeros):
                add(kind, f"{step.name}/sum", inputs, [f"{step.name}/sum"], options)
                kind, inputs, options = "Padding", [f"{step.name}/sum"], {1: zeros[0], 3: zeros[1]}
            add(kind, step.name, inputs, [step.name], options)
            offer(step.name)
    with open(param, "w", encoding="ascii") as file:
        file.write("\n".join([str(MAGIC), f"{len(lines)} {blobs}", *lines, ""]))
    return plan[-1].name


# ---- one function for each layer: step -> its ncnn type, options and arrays


def _convolution(step):
    params, options = step.layer.params, step.layer.geometry
    (kh, kw), (sy, sx), (py, px), (dy, dx) = step.layer.kernel_size, *(
        options[name] for name in ("stride", "padding", "dilation"))
    weights = params["weights"].transpose(3, 2, 0, 1)
    written = {0: weights.shape[0], 1: kw, 11: kh, 2: dx, 12: dy, 3: sx, 13: sy, 4: px, 14: py,
               5: int("bias" in params), 6: weights.size, 9: int(step.relu)}
    kind = "Convolution"
    if options["groups"] > 1:
        kind, written[7] = "ConvolutionDepthWise", options["groups"]
    return kind, written, [FLOAT32, weights, *([params["bias"]] if "bias" in params else [])]


def _linear(step):
    weights = linear_weights(step)
    options = {0: len(weights), 1: 1, 2: weights.size, 9: int(step.relu)}
    return "InnerProduct", options, [FLOAT32, weights, step.layer.params["bias"]]


def _transposed_convolution(step):
    # Never by groups of a channel, though a bilinear filter allows it: ncnn is far slower so.
    weights = step.layer.params["weights"].transpose(3, 2, 0, 1)
    ((top, bottom), (left, right)), _ = upsampling_padding(step)
    (kh, kw), (sy, sx) = step.layer.kernel_size, step.layer.geometry["stride"]
    return "Deconvolution", {0: len(weights), 1: kw, 11: kh, 3: sx, 13: sy, 4: left, 15: right,
                             14: top, 16: bottom, 5: 0, 6: weights.size}, [FLOAT32, weights]


def _max_pooling(step):
    (top, bottom), (left, right) = pooling_padding(step)
    (kh, kw), (sy, sx) = (step.layer.geometry[name] for name in ("kernel_size", "stride"))
    return "Pooling", {0: 0, 1: kw, 11: kh, 2: sx, 12: sy, 3: left, 14: right, 13: top, 15: bottom,
                       5: 1}, []


def _relu(step):
    return "ReLU", {}, []


def _crop(step):
    (y, x), (height, width) = step.layer.offset, step.shape[1:3]
    return "Crop", {0: x, 1: y, 2: 0, 3: width, 4: height, 5: step.shape[3]}, []


def _scale(step):
    return "BinaryOp", {0: 2, 1: 1, 2: f"{step.layer.factor:e}"}, []


def _add(step):
    return "BinaryOp", {0: 0}, []


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
