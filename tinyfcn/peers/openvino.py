"""Nets in OpenVINO, on its CPU device, in float32 and for the shortest time of one inference."""

from .onnx_model import onnx_model
from .session import Session, channels_first, channels_last

VARIANTS = {"OpenVINO": {}}


def load(net, x, threads):
    """A `Session` of OpenVINO; input and output stay where they are from run to run."""
    import openvino

    core = openvino.Core()
    model = core.compile_model(core.read_model(onnx_model(net, x.shape)), "CPU", {
        "INFERENCE_PRECISION_HINT": "f32",  # else bfloat16 where the processor has it
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
    })
    request = model.create_infer_request()
    data = channels_first(x)
    request.set_input_tensor(openvino.Tensor(data, shared_memory=True))

    def run(data=data):  # what the request reads must live as long
        request.infer()
        return request.get_output_tensor()

    return Session(run, lambda y: channels_last(y.data))
