"""Our nets once more in other engines, to compare with: the same weights, other kernels.

One file for each peer, with the same few names:

VARIANTS : {name: options}
    The ways to run it that compete, by the names to print.
load(net, x, threads, **options) -> Session
    A net converted for one input, with the peer's fastest settings for float32.

What a peer needs is imported when it is asked for. Everything else works without it.
"""

import importlib
import importlib.util

# By the names on the command line: their names, and the modules that they need.
NAMES = {
    "torch": "PyTorch",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "ncnn": "ncnn",
}
MODULES = {
    "torch": ("torch",),
    "onnxruntime": ("onnx", "onnxruntime"),
    "openvino": ("onnx", "openvino"),
    "ncnn": ("ncnn",),
}


def missing(peer):
    """The modules that a peer needs and that are not installed."""
    return [name for name in MODULES[peer] if importlib.util.find_spec(name) is None]


def module(peer):
    """The module of this package that runs nets with a peer."""
    name = "pytorch" if peer == "torch" else peer
    return importlib.import_module(f".{name}", __name__)
