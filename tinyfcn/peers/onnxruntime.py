"""Nets in ONNX Runtime, on its CPU provider with all optimizations of the graph."""

import numpy as np

from .onnx_model import onnx_model
from .session import Session, channels_first, channels_last

VARIANTS = {"ONNX Runtime": {}}


def load(net, x, threads):
    """A `Session` of ONNX Runtime; input and output stay where they are from run to run."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        onnx_model(net, x.shape), options, providers=["CPUExecutionProvider"])
    (entry,), (result,) = session.get_inputs(), session.get_outputs()
    data = onnxruntime.OrtValue.ortvalue_from_numpy(channels_first(x))
    y = onnxruntime.OrtValue.ortvalue_from_numpy(np.empty(result.shape, np.float32))
    binding = session.io_binding()
    binding.bind_ortvalue_input(entry.name, data)
    binding.bind_ortvalue_output(result.name, y)

    def run():
        session.run_with_iobinding(binding)
        return y

    return Session(run, lambda y: channels_last(y.numpy()))
