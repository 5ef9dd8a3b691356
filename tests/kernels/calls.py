"""One call of every kernel, for tests of what all kernels have in common.

CALLS maps a kernel's name to a function (rng, dtype) -> (positional arguments, keyword arguments).
Where another way through a kernel is called too, its key is the kernel's name and what differs, as
"convolution_forward winograd": see `kernel_of`. The sizes are large enough for several threads to
get work and odd enough to leave remainders everywhere.
"""


def normal(rng, dtype, *shape):
    return rng.standard_normal(shape, dtype)


def matrix_product(rng, dtype):
    return (normal(rng, dtype, 131, 67), normal(rng, dtype, 91, 67)), {"transpose_b": True}


CONVOLUTION = {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2), "groups": 2}


def convolution_forward(rng, dtype):
    x, w = normal(rng, dtype, 2, 33, 29, 10), normal(rng, dtype, 3, 3, 5, 34)
    return (x, w, normal(rng, dtype, 34)), {**CONVOLUTION, "relu": True}


def convolution_forward_winograd(rng, dtype):
    x, w = normal(rng, dtype, 2, 33, 29, 10), normal(rng, dtype, 3, 3, 10, 37)
    return (x, w, normal(rng, dtype, 37)), {
        "padding": (1, 1), "relu": True, "pool": True, "algorithm": "winograd-4"}


def convolution_forward_winograd_few_tiles(rng, dtype):
    x, w = normal(rng, dtype, 1, 8, 11, 19), normal(rng, dtype, 3, 3, 19, 261)
    return (x, w, normal(rng, dtype, 261)), {"padding": (1, 1), "algorithm": "winograd-6"}


def prepare_weights(rng, dtype):
    return (normal(rng, dtype, 3, 3, 7, 37), (1, 9, 9, 7)), {"algorithm": "im2col"}


def convolution_backward_input(rng, dtype):
    gy, w = normal(rng, dtype, 2, 17, 29, 34), normal(rng, dtype, 3, 3, 5, 34)
    return (gy, w, (33, 29)), CONVOLUTION


def convolution_backward_weights(rng, dtype):
    x, gy = normal(rng, dtype, 2, 33, 29, 10), normal(rng, dtype, 2, 17, 29, 34)
    return (x, gy, (3, 3)), CONVOLUTION


def convolution_backward_input_winograd(rng, dtype):
    gy, w = normal(rng, dtype, 2, 31, 27, 34), normal(rng, dtype, 3, 3, 11, 34)
    return (gy, w, (33, 29)), {"algorithm": "winograd-4"}


def convolution_backward_weights_winograd(rng, dtype):
    x, gy = normal(rng, dtype, 2, 33, 29, 11), normal(rng, dtype, 2, 33, 29, 34)
    return (x, gy, (3, 3)), {"padding": (1, 1), "algorithm": "winograd-4"}


def convolution_backward_weights_winograd_many_tiles(rng, dtype):
    x, gy = normal(rng, dtype, 3, 71, 49, 5), normal(rng, dtype, 3, 71, 49, 34)
    return (x, gy, (3, 3)), {"padding": (1, 1), "algorithm": "winograd-2"}


def convolution_backward_bias(rng, dtype):
    return (normal(rng, dtype, 3, 41, 37, 21),), {}


def transposed_convolution_forward(rng, dtype):
    x, w = normal(rng, dtype, 2, 9, 11, 7), normal(rng, dtype, 4, 5, 7, 19)
    return (x, w), {"stride": (2, 3), "padding": (1, 1), "output_size": (17, 35)}


def interpolate_backward(rng, dtype):
    rows, columns = rng.uniform(0.5, 1, (2, 8)).tolist()
    return (normal(rng, dtype, 2, 60, 84, 21), rows, columns, (4, 4), (2, 2), (15, 21)), {}


def interpolate_classify(rng, dtype):
    rows, columns = rng.uniform(0.5, 1, (2, 8)).tolist()
    return (normal(rng, dtype, 2, 15, 21, 21), rows, columns, (4, 4), (2, 2), (60, 84)), {}


def interpolate(rng, dtype):
    filters = [0.25, 0.75, 0.75, 0.25], [0.2, 0.5, 1.0, 0.5, 0.2]
    return (normal(rng, dtype, 2, 9, 11, 19), *filters, (2, 3), (1, 1), (17, 35)), {}


def transposed_convolution_backward_input(rng, dtype):
    gy, w = normal(rng, dtype, 2, 17, 35, 19), normal(rng, dtype, 4, 5, 7, 19)
    return (gy, w, (9, 11)), {"stride": (2, 3), "padding": (1, 1)}


def transposed_convolution_backward_weights(rng, dtype):
    x, gy = normal(rng, dtype, 2, 9, 11, 7), normal(rng, dtype, 2, 17, 35, 19)
    return (x, gy, (4, 5)), {"stride": (2, 3), "padding": (1, 1)}


def max_pooling_forward(rng, dtype):
    x = normal(rng, dtype, 2, 31, 37, 19)
    return (x, (3, 2), (2, 2)), {"padding": (1, 0), "ceil": True}


def max_pooling_backward(rng, dtype):
    gy = normal(rng, dtype, 2, 16, 19, 19)
    # Tap 2, on the middle row, lies in the image for every window: 3 rows, 2 columns, padding 1.
    argmax = (2 * (gy > -9)).astype("uint8")
    return (gy, argmax, (31, 37), (3, 2), (2, 2)), {"padding": (1, 0)}


def relu_forward(rng, dtype):
    return (normal(rng, dtype, 2, 31, 37, 19),), {}


def relu_backward(rng, dtype):
    return (normal(rng, dtype, 2, 31, 37, 19), normal(rng, dtype, 2, 31, 37, 19)), {}


def bias_relu(rng, dtype):
    return (normal(rng, dtype, 2, 31, 37, 19), normal(rng, dtype, 19)), {}


def add(rng, dtype):
    return (normal(rng, dtype, 2, 31, 37, 19), normal(rng, dtype, 2, 31, 37, 19)), {}


def crop_forward(rng, dtype):
    return (normal(rng, dtype, 2, 31, 37, 19), (3, 5), (28, 30)), {}


def crop_backward(rng, dtype):
    return (normal(rng, dtype, 2, 28, 30, 19), (3, 5), (31, 37)), {}


def scale(rng, dtype):
    return (normal(rng, dtype, 2, 31, 37, 19), 0.01), {}


def dropout(rng, dtype):
    return (normal(rng, dtype, 2, 31, 37, 19), 0.5, 12345), {}


def batch_norm_statistics(rng, dtype):
    return (normal(rng, dtype, 3, 41, 37, 19),), {}


def batch_norm_forward(rng, dtype):
    x, mean, beta = (normal(rng, dtype, *shape) for shape in [(2, 31, 37, 19), (19,), (19,)])
    return (x, mean, normal(rng, dtype, 19)**2, normal(rng, dtype, 19), beta, 1e-5), {}


def batch_norm_backward(rng, dtype):
    x = normal(rng, dtype, 2, 31, 37, 19)
    statistics = x.mean((0, 1, 2)), x.var((0, 1, 2))
    return (normal(rng, dtype, *x.shape), x, *statistics, normal(rng, dtype, 19), 1e-5), {}


def local_response_normalization_forward(rng, dtype):
    return (normal(rng, dtype, 2, 31, 37, 19), 5, 2.0, 0.75, 1.5), {}


def local_response_normalization_backward(rng, dtype):
    gy, x = normal(rng, dtype, 2, 31, 37, 19), normal(rng, dtype, 2, 31, 37, 19)
    return (gy, x, 5, 2.0, 0.75, 1.5), {}


def softmax(rng, dtype):
    return (normal(rng, dtype, 2, 31, 37, 21),), {}


def softmax_cross_entropy(rng, dtype):
    labels = rng.integers(-1, 21, (2, 31, 37)).astype("int32")
    return (normal(rng, dtype, 2, 31, 37, 21), labels, 5), {}


def classify(rng, dtype):
    return (normal(rng, dtype, 2, 31, 37, 21),), {}


def sgd_momentum(rng, dtype):
    w, g, v = (normal(rng, dtype, 3, 3, 67, 21) for _ in range(3))
    return (w, g, v, 0.01, 0.9, 0.0005), {}


def adam(rng, dtype):
    w, g, m, v = (normal(rng, dtype, 3, 3, 67, 21) for _ in range(4))
    return (w, g, m, abs(v), 0.01, 0.9, 0.999, 1e-8, 0.01, 3), {}


def move_towards(rng, dtype):
    return (normal(rng, dtype, 3, 3, 67, 21), normal(rng, dtype, 3, 3, 67, 21), 0.1), {}


KERNELS = [
    matrix_product,
    convolution_forward, prepare_weights, convolution_backward_input, convolution_backward_weights,
    convolution_backward_bias, interpolate, interpolate_backward, interpolate_classify,
    transposed_convolution_forward, transposed_convolution_backward_input,
    transposed_convolution_backward_weights,
    max_pooling_forward, max_pooling_backward,
    relu_forward, relu_backward, bias_relu, add, crop_forward, crop_backward, scale, dropout,
    batch_norm_statistics, batch_norm_forward, batch_norm_backward,
    local_response_normalization_forward, local_response_normalization_backward,
    softmax, softmax_cross_entropy, classify,
    sgd_momentum, adam, move_towards,
]
CALLS = {
    **{call.__name__: call for call in KERNELS},
    "convolution_forward winograd": convolution_forward_winograd,
    "convolution_forward winograd, few tiles": convolution_forward_winograd_few_tiles,
    "convolution_backward_input winograd": convolution_backward_input_winograd,
    "convolution_backward_weights winograd": convolution_backward_weights_winograd,
    "convolution_backward_weights winograd, many tiles":
        convolution_backward_weights_winograd_many_tiles,
}


def kernel_of(name, backend):
    """The function of a backend that an entry of CALLS is for."""
    return getattr(backend, name.partition(" ")[0])
