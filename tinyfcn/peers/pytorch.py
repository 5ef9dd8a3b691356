"""Nets in PyTorch, in inference and in training.

A net is not rewritten as modules: its nodes are run one after the other with PyTorch's functions,
so any net of ours converts, and what is compared is the net itself. Arrays of ours are
channels-last; tensors here are (n, c, h, w) as PyTorch has them, in memory by one of `LAYOUTS`. A
device is named as ours are, "cpu" or "cuda:N".

PyTorch is imported by the functions that need it. Everything else works without it.
"""

import collections
import contextlib
import functools

import numpy as np

from ..arrays import CPU, to_host
from ..graph import DATA
from ..layers import (
    Add,
    BatchNorm,
    Convolution,
    Crop,
    Dropout,
    Linear,
    LocalResponseNormalization,
    MaxPooling,
    ReLU,
    Scale,
    TransposedConvolution,
)
from ..models import fold_batch_norm
from .session import Session
from .steps import diagonal

LAYOUTS = ("nchw", "channels-last")
VARIANTS = {f"PyTorch {layout}": {"layout": layout} for layout in LAYOUTS}

# From the axes of our weights to those of PyTorch's.
WEIGHT_AXES = {
    Convolution: (3, 2, 0, 1),            # (kh, kw, in / groups, out) -> (out, in / groups, kh, kw)
    TransposedConvolution: (2, 3, 0, 1),  # (kh, kw, in, out) -> (in, out, kh, kw)
    Linear: (1, 0),                       # (in, out) -> (out, in)
}


def load(net, x, threads, layout, device=CPU):
    """A `Session` of PyTorch, whose runs wait for the GPU; the threads are the process's."""
    import torch

    torch.set_num_threads(threads)
    net = fold_batch_norm(net)
    params, data = parameters(net, layout, device=device), image(x, layout, device)

    def run():
        with torch.inference_mode():
            y = forward(net, params, data)
        synchronize(device)
        return y

    return Session(run, scores)


def lacks_gpu(device):
    """Why PyTorch cannot use this GPU, or None."""
    import torch

    if not torch.cuda.is_available():
        return "PyTorch sees no GPU" + ("" if torch.version.cuda else ": it was built without CUDA")
    if int(device.partition(":")[2]) >= torch.cuda.device_count():
        return f"PyTorch sees {torch.cuda.device_count()} GPUs"
    return None


@contextlib.contextmanager
def on_gpu(precision):
    """Let PyTorch be as fast as it can with this precision: float32, or else TF32 factors."""
    import torch

    settings = [(torch.backends.cuda.matmul, "allow_tf32", precision != "float32"),
                (torch.backends.cudnn, "allow_tf32", precision != "float32"),
                (torch.backends.cudnn, "benchmark", True)]
    before = [getattr(place, name) for place, name, _ in settings]
    for setting in settings:
        setattr(*setting)
    try:
        yield
    finally:
        for (place, name, _), value in zip(settings, before):
            setattr(place, name, value)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def synchronize(device):
    """Wait until a GPU has done what PyTorch asked of it."""
    if device != CPU:
        import torch

        torch.cuda.synchronize(device)


def parameters(net, layout="nchw", training=False, device=CPU):
    """Copy a net's parameters to PyTorch.

    Parameters
    ----------
    net : Graph
    layout : "nchw" or "channels-last"
        How weights with four axes lie in memory.
    training : bool
        Let PyTorch find the gradients of those that training may change.
    device : str

    Returns
    -------
    dict of torch.Tensor
        By the names of ``net.params``, with PyTorch's axes; of a fixed upsampling that keeps the
        channels apart, as bilinear ones do, the filters (c, 1, kh, kw) alone.
    """
    import torch

    tensors = {}
    for name, array in net.params.items():
        array = to_host(array)
        if name in net.fixed and array.ndim == 4:
            filters = diagonal(array)
            array = array if filters is None else filters[:, :, :, None]
        tensor = torch.from_numpy(np.transpose(array, _axes(net, name, array))).clone(
            memory_format=torch.contiguous_format
        )
        tensor = _lay_out(tensor, layout).to(device)
        tensors[name] = tensor.requires_grad_(training and name not in net.fixed)
    return tensors


def image(x, layout="nchw", device=CPU):
    """Copy an array (n, h, w, c) to a tensor (n, c, h, w) of this layout."""
    import torch

    return _lay_out(torch.from_numpy(x).permute(0, 3, 1, 2).clone(), layout).to(device)


def labels(array, device=CPU):
    """Copy an array (n, h, w) of whole numbers to a tensor that `loss` takes."""
    import torch

    return torch.from_numpy(array.astype(np.int64)).to(device)


def scores(y):
    """A tensor (n, c, ...) as an array of ours, (n, ..., c)."""
    return np.ascontiguousarray(np.moveaxis(y.detach().cpu().numpy(), 1, -1))


def gradients(net, params):
    """The gradients that `params` hold after a backward, as ``net.grads`` has them."""
    found = {}
    for name, array in net.params.items():
        if params[name].grad is not None:
            inverse = np.argsort(_axes(net, name, array))
            found[name] = params[name].grad.cpu().numpy().transpose(inverse)
    return found


def forward(net, params, x, training=False, after=None):
    """Run a net on x with PyTorch's kernels.

    Parameters
    ----------
    net : Graph
    params : dict of torch.Tensor
        As `parameters` makes them; in training the running averages of batch norm are modified.
    x : torch.Tensor (n, c, h, w)
    training : bool
        Dropout and batch statistics are on.
    after : callable, optional
        Called with the name of each node when it is done.

    Returns
    -------
    torch.Tensor
        The last node's output.
    """
    readers = collections.Counter(name for node in net.nodes for name in node.inputs)
    unread = dict(readers)
    values, sizes = {DATA: x}, {DATA: x.shape[2:]}
    for node in net.nodes:
        inputs = [values[name] for name in node.inputs]
        for name in node.inputs:
            unread[name] -= 1
            if not unread[name]:
                del values[name]
        options = {
            "params": {key: params[f"{node.name}/{key}"] for key in node.layer.params},
            "size": sizes[node.size_like] if node.size_like else None,
            "training": training,
            # A value that nothing else reads may be overwritten.
            "in_place": all(name != DATA and readers[name] == 1 for name in node.inputs),
        }
        y = values[node.name] = _RUN[type(node.layer)](node.layer, *inputs, **options)
        sizes[node.name] = y.shape[2:]
        if after is not None:
            after(node.name)
    return y


def loss(scores, labels, ignore_label):
    """Soft-max cross-entropy averaged over the labelled pixels; `labels` made them (n, ...)."""
    import torch

    return torch.nn.functional.cross_entropy(scores, labels, ignore_index=ignore_label)


def product(a, b, device):
    """A function that multiplies copies of two arrays on a device."""
    import torch

    a, b = (torch.from_numpy(each).to(device) for each in (a, b))

    def run():
        c = a @ b
        synchronize(device)
        return c

    return run


def optimizer(params, rate, momentum, decay):
    """PyTorch's fastest SGD for parameters that take part in training."""
    import torch

    trained = [tensor for tensor in params.values() if tensor.requires_grad]
    return torch.optim.SGD(trained, rate, momentum, weight_decay=decay, fused=True)


def _axes(net, name, array):
    node, _, key = name.rpartition("/")
    axes = WEIGHT_AXES.get(type(net.layers[node])) if key == "weights" else None
    return axes or tuple(range(array.ndim))


def _lay_out(tensor, layout):
    import torch

    if layout not in LAYOUTS:
        raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
    channels_last = layout == "channels-last" and tensor.ndim == 4
    return tensor.contiguous(
        memory_format=torch.channels_last if channels_last else torch.contiguous_format
    )


# ---- one function for each layer: (layer, *inputs, params, size, training, in_place) -> y


def _convolution(layer, x, params, **_):
    import torch

    return torch.nn.functional.conv2d(
        x, params["weights"], params.get("bias"), **layer.geometry
    )


def _transposed_convolution(layer, x, params, size, **_):
    import torch

    weights = params["weights"]
    stride, padding = layer.geometry["stride"], layer.geometry["padding"]
    up = functools.partial(
        torch.nn.functional.conv_transpose2d, stride=stride,
        groups=layer.params["weights"].shape[3] // weights.shape[1])
    whole = [
        (n - 1) * s + k - 2 * p
        for n, s, k, p in zip(x.shape[2:], stride, layer.kernel_size, padding)
    ]
    if size is None or (size[0] <= whole[0] and size[1] <= whole[1]):
        height, width = size or whole
        return up(x, weights, padding=padding)[:, :, :height, :width]
    # Larger: the padding at the bottom and right is not cut off, and zeros follow it.
    (top, left), (height, width) = padding, size
    y = up(x, weights)[:, :, top : top + height, left : left + width]
    return torch.nn.functional.pad(y, (0, width - y.shape[3], 0, height - y.shape[2]))


def _linear(layer, x, params, **_):
    import torch

    if x.ndim == 4:
        x = x.permute(0, 2, 3, 1)
    return torch.nn.functional.linear(x.flatten(1), params["weights"], params["bias"])


def _batch_norm(layer, x, params, training, **_):
    import torch

    return torch.nn.functional.batch_norm(
        x,
        params["running_mean"],
        params["running_var"],
        params["gamma"],
        params["beta"],
        training,
        layer.momentum,
        layer.eps,
    )


def _max_pooling(layer, x, **_):
    import torch

    return torch.nn.functional.max_pool2d(x, **layer.geometry, ceil_mode=layer.ceil)


def _local_response_normalization(layer, x, **_):
    import torch

    return torch.nn.functional.local_response_norm(x, **layer.settings)


def _relu(layer, x, in_place, **_):
    import torch

    return torch.nn.functional.relu(x, inplace=in_place)


def _dropout(layer, x, training, **_):
    import torch

    return torch.nn.functional.dropout(x, layer.rate, training)


def _crop(layer, x, size, **_):
    (y, x_), (height, width) = layer.offset, size
    return x[:, :, y : y + height, x_ : x_ + width]


def _scale(layer, x, **_):
    return x * layer.factor


def _add(layer, a, b, **_):
    return a + b


_RUN = {
    Add: _add,
    BatchNorm: _batch_norm,
    Convolution: _convolution,
    Crop: _crop,
    Dropout: _dropout,
    Linear: _linear,
    LocalResponseNormalization: _local_response_normalization,
    MaxPooling: _max_pooling,
    ReLU: _relu,
    Scale: _scale,
    TransposedConvolution: _transposed_convolution,
}
