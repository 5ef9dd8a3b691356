"""What a pickle of weights may name, and the inert records that stand for what it would make.

Nothing else is taken, and nothing that is named here is ever imported or called.
"""
import collections

# The version of NumPy decides which of its modules a pickle names.
_NUMPY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
# The storages of PyTorch's and its types of numbers, by PyTorch's own names.
STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16", "LongStorage": "int64", "IntStorage": "int32",
    "ShortStorage": "int16", "CharStorage": "int8", "ByteStorage": "uint8", "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64", "ComplexDoubleStorage": "complex128",
    "QInt8Storage": "qint8", "QUInt8Storage": "quint8", "QInt32Storage": "qint32",
    "QUInt4x2Storage": "quint4x2", "QUInt2x4Storage": "quint2x4", "UntypedStorage": "uint8",
}
# Those that came later have no storage of their own: the tensor names the type.
TYPES = {
    *STORAGES.values(), "uint16", "uint32", "uint64", "complex32", "float8_e4m3fn",
    "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu", "float4_e2m1fn_x2",
    "bits8", "bits16", "bits1x8", "bits2x4", "bits4x2",
}
# With one scale for a whole tensor, or one for each channel.
SCHEMES = {"per_tensor_affine", "per_channel_affine", "per_channel_affine_float_qparams"}
NAMES = {
    ("collections", "OrderedDict"): "dict",
    ("numpy", "dtype"): "dtype",
    ("numpy", "ndarray"): "ndarray",
    ("_codecs", "encode"): "encode",
    **{(module, "_reconstruct"): "reconstruct" for module in _NUMPY_MODULES},
    **{(module, "scalar"): "scalar" for module in _NUMPY_MODULES},
    ("numpy.core.numeric", "_frombuffer"): "frombuffer",
    ("numpy._core.numeric", "_frombuffer"): "frombuffer",
    ("torch._utils", "_rebuild_tensor"): "tensor",
    ("torch._utils", "_rebuild_tensor_v2"): "tensor",
    ("torch._utils", "_rebuild_tensor_v3"): "typed tensor",
    ("torch._utils", "_rebuild_qtensor"): "quantized tensor",
    ("torch._utils", "_rebuild_parameter"): "parameter",
    ("torch", "Size"): "tuple",
    **{("torch", name): "storage" for name in STORAGES},
    ("torch.storage", "UntypedStorage"): "storage",
    **{("torch", name): "type" for name in TYPES},
    **{("torch", name): "scheme" for name in SCHEMES},
}


class Refusal(Exception):
    """A pickle is damaged, or holds what no file of weights needs; says what."""


# What stands for what a pickle would have made. `data` is bytes, an ndarray of uint8, or a `Text`
# (a memoryview of UTF-8) to be encoded.
Name = collections.namedtuple("Name", "kind module name")
Text = collections.namedtuple("Text", "data")
Storage = collections.namedtuple("Storage", "kind key size view")
TorchTensor = collections.namedtuple(
    "TorchTensor", "storage offset shape strides kind quantizer")
# Each a number, or a list or TorchTensor of one for each index of an axis.
Quantizer = collections.namedtuple("Quantizer", "scale zero_point axis")
Buffer = collections.namedtuple("Buffer", "data dtype shape order")


class Dtype:
    """numpy.dtype(code), and the byte order that it is told afterwards."""

    def __init__(self, code):
        self.code, self.order = code, "|"


class Array:
    """A NumPy array: what it is told of itself after it was made."""

    dtype = shape = data = None
    fortran = False


class Scalar(Array):
    """A NumPy number."""


def set_item(target, key, value):
    """Put a value into a dict under a key that is harmless and new."""
    # Other keys can be made to collide, which takes for ever, or cannot be compared.
    if not (isinstance(key, (str, bytes)) or key is None
            or isinstance(key, int) and abs(key) < 1 << 31):
        raise Refusal(f"its pickle has a dict with a key of type {type(key).__name__}")
    if key in target:
        raise Refusal(f"its pickle has {key!r:.80} twice in one dict")
    target[key] = value


def _dict(pairs=()):
    result = {}
    for key, value in pairs:
        set_item(result, key, value)
    return result


def _dtype(code, align=False, copy=False):
    if not isinstance(code, str) or len(code) > 8:
        raise Refusal(f"its pickle has an array of type {code!r:.80}, which is not read")
    return Dtype(code)


def _reconstruct(kind, shape, code):
    if type(kind) is not Name or kind.kind != "ndarray":
        raise TypeError
    return Array()


def _scalar(dtype, data):
    result = Scalar()
    result.dtype, result.shape, result.data = dtype, (), data
    return result


def _encode(text, encoding):
    # Python 3 writes bytes so, where the protocol is one of Python 2.
    if encoding not in ("latin1", "latin-1"):
        raise ValueError
    if type(text) is Text:
        return text
    if not isinstance(text, str):
        raise TypeError
    return text.encode("latin-1")


def _tensor(storage, offset, shape, strides, requires_grad=False, hooks=None, metadata=None):
    if type(storage) is not Storage or type(shape) is not tuple or type(strides) is not tuple:
        raise TypeError
    return TorchTensor(storage, offset, shape, strides, _kind(storage.kind, metadata), None)


def _kind(name, metadata):
    """The type of a tensor's numbers: one that no reader knows, if they are not what is stored."""
    lazy = type(metadata) is dict and (metadata.get("neg") or metadata.get("conj"))
    return f"{name} that is still to be negated or conjugated" if lazy else name


def _typed_tensor(storage, offset, shape, strides, requires_grad, hooks, kind, metadata=None):
    tensor = _tensor(storage, offset, shape, strides)
    if type(kind) is not Name or kind.kind != "type" or storage.kind != "uint8":
        raise TypeError
    return tensor._replace(kind=_kind(kind.name, metadata))


def _quantized_tensor(storage, offset, shape, strides, quantizer, requires_grad=False, hooks=None):
    tensor = _tensor(storage, offset, shape, strides)
    if type(quantizer) is not tuple:
        raise TypeError
    scheme, scale, zero_point, *axis = quantizer
    if type(scheme) is not Name or scheme.kind != "scheme" \
            or len(axis) != (scheme.name != "per_tensor_affine"):
        raise TypeError
    return tensor._replace(quantizer=Quantizer(scale, zero_point, *axis or [None]))


def _parameter(tensor, *_):
    if type(tensor) is not TorchTensor:
        raise TypeError
    return tensor


CALLS = {
    "dict": _dict, "dtype": _dtype, "encode": _encode, "reconstruct": _reconstruct,
    "scalar": _scalar, "tensor": _tensor, "typed tensor": _typed_tensor,
    "quantized tensor": _quantized_tensor, "parameter": _parameter,
    "frombuffer": lambda data, dtype, shape, order="C": Buffer(data, dtype, shape, order),
    "tuple": lambda values=(): tuple(values),
}
