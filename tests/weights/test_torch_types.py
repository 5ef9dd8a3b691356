"""PyTorch's types of numbers: every one that NumPy has comes back; the others as float32."""
import numpy as np
import pytest

from tinyfcn import weights
from tinyfcn.weights.float_types import STEP

torch = pytest.importorskip("torch")
# Quantised tensors are on their way out of PyTorch, and some of the types still on their way in.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]

FLOAT8 = ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu")


def test_every_type_of_number(save):
    kinds = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32,
             torch.int16, torch.int8, torch.uint8, torch.bool, torch.uint16, torch.uint32,
             torch.uint64)
    values = [0, 1, 1, 0, 1]
    path = save({str(kind): torch.tensor(values).to(kind) for kind in kinds})
    for (name, array), kind in zip(weights.read(path).items(), kinds):
        assert array.tolist() == values, name
        assert array.dtype == (np.float32 if kind == torch.bfloat16
                               else torch.tensor([], dtype=kind).numpy().dtype)


def test_bfloat16_is_widened_exactly(save):
    tensor = torch.randn(100, 7).to(torch.bfloat16)
    path = save({"a": tensor, "turned": tensor.T})
    np.testing.assert_array_equal(weights.read(path)["a"], tensor.float().numpy())
    np.testing.assert_array_equal(weights.read(path)["turned"], tensor.float().numpy().T)


@pytest.mark.parametrize("kind", FLOAT8)
def test_all_numbers_of_8_bits_are_widened_exactly(save, kind):
    tensor = torch.arange(256, dtype=torch.uint8).view(getattr(torch, kind)).reshape(8, 32)
    read = weights.read(save({"a": tensor, "turned": tensor.T}))
    expected = tensor.float().numpy()
    assert read["a"].dtype == np.float32
    np.testing.assert_array_equal(read["a"], expected)
    # A zero has its sign; what is no number has none.
    np.testing.assert_array_equal(*(np.signbit(np.nan_to_num(a)) for a in (read["a"], expected)))
    np.testing.assert_array_equal(read["turned"], expected.T)


@pytest.mark.parametrize("kind", ["qint8", "quint8", "qint32"])
def test_one_scale_for_a_whole_tensor(save, kind):
    limits = torch.iinfo(getattr(torch, kind))
    stored = torch.randint(limits.min, limits.max + 1, (4, 6, 3, 3)).to(
        {"qint8": torch.int8, "quint8": torch.uint8, "qint32": torch.int32}[kind])
    tensor = torch._make_per_tensor_quantized_tensor(stored, 1 / 3, 7)
    views = {"whole": tensor, "part": tensor[1:3, 2:], "turned": tensor.transpose(0, 1),
             "none": tensor[:0], "scalar": tensor[1, 2, 0, 0],
             "channels last": tensor.contiguous(memory_format=torch.channels_last),
             "parameter": torch.nn.Parameter(tensor, requires_grad=False)}
    read = weights.read(save(views))
    for name, view in views.items():
        assert read[name].dtype == np.float32
        np.testing.assert_array_equal(read[name], view.dequantize().numpy(), err_msg=name)


@pytest.mark.parametrize("kind", ["qint8", "quint8", "qint32"])
@pytest.mark.parametrize("axis", [0, 1, 3])
def test_a_scale_for_each_channel(save, kind, axis):
    shape = (4, 6, 3, 5)
    tensor = torch.quantize_per_channel(
        torch.randn(shape), torch.rand(shape[axis], dtype=torch.float64) / 50 + 1e-3,
        torch.randint(0, 9, (shape[axis],)), axis, getattr(torch, kind))
    read = weights.read(save({"a": tensor, "last": tensor.contiguous(
        memory_format=torch.channels_last)}))
    # Of 32 bits PyTorch itself rounds once more.
    tolerance = 2e-7 if kind == "qint32" else 0
    for array in read.values():
        np.testing.assert_allclose(array, tensor.dequantize().numpy(), rtol=tolerance, atol=0)


@pytest.mark.parametrize("kind", ["quint8", "quint4x2", "quint2x4"])
@pytest.mark.parametrize("shape", [(3, 5), (4, 8), (1, 1), (5, 3, 3)])
def test_zero_points_that_are_no_integers(save, kind, shape):
    tensor = torch.quantize_per_channel(
        torch.randn(shape), torch.rand(shape[0]) / 5 + 0.01, torch.rand(shape[0]) * 3, 0,
        getattr(torch, kind))
    assert tensor.qscheme() == torch.per_channel_affine_float_qparams
    np.testing.assert_array_equal(weights.read(save({"a": tensor}))["a"],
                                  tensor.dequantize().numpy())


@pytest.mark.parametrize("kind, most", [("quint4x2", 15), ("quint2x4", 3)])
def test_packed_numbers_with_one_scale(save, kind, most):
    values = torch.arange(33).reshape(3, 11) % (most + 1) - 1.0
    tensor = torch.quantize_per_tensor(values * 0.25, 0.25, 1, getattr(torch, kind))
    np.testing.assert_array_equal(tensor.dequantize().numpy(), values.numpy() * 0.25)
    np.testing.assert_array_equal(weights.read(save({"a": tensor}))["a"], values.numpy() * 0.25)


def test_large_quantized_tensors_are_read_in_parts(save):
    shape = (3, STEP + 7)
    tensor = torch.quantize_per_channel(torch.randn(shape), torch.tensor([.01, .02, .03]),
                                        torch.tensor([1, 2, 3]), 0, torch.qint8)
    packed = torch.quantize_per_channel(torch.randn(shape), torch.tensor([.1, .2, .3]),
                                        torch.tensor([1., 2, 3]), 0, torch.quint2x4)
    read = weights.read(save({"a": tensor, "packed": packed}))
    np.testing.assert_array_equal(read["a"], tensor.dequantize().numpy())
    np.testing.assert_array_equal(read["packed"], packed.dequantize().numpy())


def test_the_state_of_a_quantized_net(save):
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Linear(4, 2))
    net = torch.ao.quantization.quantize_dynamic(net, {torch.nn.Linear}, dtype=torch.qint8)
    state = net.state_dict()
    read = weights.read(save(state))
    weight, bias = state["1._packed_params._packed_params"]
    np.testing.assert_array_equal(read["1._packed_params._packed_params.0"],
                                  weight.dequantize().numpy())
    np.testing.assert_array_equal(read["1._packed_params._packed_params.1"],
                                  bias.detach().numpy())
    assert "1._packed_params.dtype" in state and "1._packed_params.dtype" not in read


def test_what_is_no_weight_is_refused(save, refuse):
    plain = torch.ones(2, 2)
    for kind in "complex32", "complex64", "complex128":
        refuse(save({"a": plain.to(getattr(torch, kind))}), f"a is of type {kind}, which is not")
    for kind in "bits8", "bits4x2", "float4_e2m1fn_x2":
        refuse(save({"a": torch.zeros(2, dtype=torch.uint8).view(getattr(torch, kind))}),
               f"a is of type {kind}, which is not read")
    refuse(save({"a": torch._neg_view(plain)}), "a is of type float32 that is still to be negated")
    for layout in "to_sparse", "to_sparse_csr":
        refuse(save({"a": getattr(plain, layout)()}), "its pickle names torch._utils._rebuild_spa")
