"""Every kernel as plain loops over indices: the specification of all backends.

Arrays are channels-last, (n, h, w, c), float32 or float64; a kernel computes in float64 and rounds
its results to the type of its arguments at the end. Nothing is fast here and shapes are taken on
trust. `stride`, `padding`, `dilation`, `kernel_size`, `offset` and all sizes are (y, x) pairs.
"""
import functools
import math

import numpy as np

from tinyfcn.kernels import geometry


def in_float64(kernel):
    """Make kernel see its arrays of floats in float64, and round what it returns to their type."""
    def is_float(value):
        return isinstance(value, np.ndarray) and value.dtype.kind == "f"

    @functools.wraps(kernel)
    def rounded(*args, **kwargs):
        def widened(value):
            return value.astype(np.float64) if is_float(value) else value

        def narrowed(value):
            return value.astype(dtype) if is_float(value) and value.dtype == "f8" else value

        dtype = np.result_type(*filter(is_float, [*args, *kwargs.values()]))
        result = kernel(*map(widened, args), **{k: widened(v) for k, v in kwargs.items()})
        return tuple(map(narrowed, result)) if isinstance(result, tuple) else narrowed(result)
    return rounded


def taps(out_size, kernel_size, in_size, stride, padding, dilation=(1, 1)):
    """Yield (oy, ox, ky, kx, iy, ix) wherever kernel tap k of output pixel o meets input pixel i.

        i = o * stride - padding + k * dilation,  inside the image
    """
    for oy, ox, ky, kx in np.ndindex(*out_size, *kernel_size):
        iy = oy * stride[0] - padding[0] + ky * dilation[0]
        ix = ox * stride[1] - padding[1] + kx * dilation[1]
        if 0 <= iy < in_size[0] and 0 <= ix < in_size[1]:
            yield oy, ox, ky, kx, iy, ix


# ---- Matrix product

@in_float64
def matrix_product(a, b, transpose_a=False, transpose_b=False):
    """Return the product of two matrices, c[i, j] = sum_p a[i, p] b[p, j].

    `a` is (m, k), or (k, m) if transpose_a; `b` is (k, n), or (n, k) if transpose_b; `c` is (m, n).
    """
    a = a.T if transpose_a else a
    b = b.T if transpose_b else b
    c = np.zeros((a.shape[0], b.shape[1]))
    for i, j, p in np.ndindex(*c.shape, a.shape[1]):
        c[i, j] += a[i, p] * b[p, j]
    return c


# ---- Convolution

@in_float64
def convolution_forward(x, w, b=None, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1,
                        relu=False, pool=False, algorithm=None):
    """Return the cross-correlation of x with w, plus b, rectified if `relu`.

        y[o, j] = b[j] + sum_{k, c} x[o * stride - padding + k * dilation, c] w[k, c, j]

    where x is zero outside the image and c runs over the channels of j's group: output channels
    0 .. out/groups - 1 see input channels 0 .. in/groups - 1, and so on.
    `x` is (n, h, w, in), `w` (kh, kw, in/groups, out), `b` (out,), `y` (n, out_h, out_w, out).
    There is one algorithm here, whichever is asked for.
    """
    n, *in_size, _ = x.shape
    *kernel_size, group_in, out = w.shape
    out_size = [geometry.convolution_size(*axis)
                for axis in zip(in_size, kernel_size, stride, padding, dilation)]
    y = np.zeros((n, *out_size, out))
    for oy, ox, ky, kx, iy, ix in taps(out_size, kernel_size, in_size, stride, padding, dilation):
        for i, c, j in np.ndindex(n, group_in, out):
            first = j // (out // groups) * group_in
            y[i, oy, ox, j] += x[i, iy, ix, first + c] * w[ky, kx, c, j]
    for index in np.ndindex(y.shape):
        y[index] += 0 if b is None else b[index[-1]]
        y[index] = rectified(y[index]) if relu else y[index]
    if pool:
        y, _ = max_pooling_forward(y, (2, 2), (2, 2), (0, 0), ceil=True, keep_argmax=False)
    return y


def prepare_weights(w, input_shape, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1,
                    algorithm=None):
    """Return what `convolution_forward` may be given in place of w, again and again: w itself."""
    return w


@in_float64
def convolution_backward_input(gy, w, input_size, stride=(1, 1), padding=(0, 0), dilation=(1, 1),
                               groups=1, algorithm=None):
    """Return the gradient of the convolution's input, of size `input_size`.

        gx[o * stride - padding + k * dilation, c] += sum_j gy[o, j] w[k, c, j]
    """
    n, *out_size, out = gy.shape
    *kernel_size, group_in, _ = w.shape
    gx = np.zeros((n, *input_size, group_in * groups))
    for oy, ox, ky, kx, iy, ix in taps(out_size, kernel_size, input_size, stride, padding,
                                       dilation):
        for i, c, j in np.ndindex(n, group_in, out):
            first = j // (out // groups) * group_in
            gx[i, iy, ix, first + c] += gy[i, oy, ox, j] * w[ky, kx, c, j]
    return gx


@in_float64
def convolution_backward_weights(x, gy, kernel_size, stride=(1, 1), padding=(0, 0),
                                 dilation=(1, 1), groups=1, algorithm=None):
    """Return the gradient of the convolution's weights, (kh, kw, in/groups, out).

        gw[k, c, j] = sum_{n, o} x[o * stride - padding + k * dilation, c] gy[o, j]
    """
    n, *in_size, channels = x.shape
    _, *out_size, out = gy.shape
    group_in = channels // groups
    gw = np.zeros((*kernel_size, group_in, out))
    for oy, ox, ky, kx, iy, ix in taps(out_size, kernel_size, in_size, stride, padding, dilation):
        for i, c, j in np.ndindex(n, group_in, out):
            first = j // (out // groups) * group_in
            gw[ky, kx, c, j] += x[i, iy, ix, first + c] * gy[i, oy, ox, j]
    return gw


@in_float64
def convolution_backward_bias(gy):
    """Return the gradient of the convolution's bias, gb[j] = sum_{n, o} gy[o, j]."""
    gb = np.zeros(gy.shape[-1])
    for index in np.ndindex(gy.shape):
        gb[index[-1]] += gy[index]
    return gb


# ---- Transposed convolution

@in_float64
def transposed_convolution_forward(x, w, stride=(1, 1), padding=(0, 0), output_size=None):
    """Return x spread out by w: every input pixel adds its kernel, scaled, to the output.

        y[i * stride - padding + k, j] += sum_c x[i, c] w[k, c, j]

    What falls outside the output is dropped. `output_size` may be anything: smaller than the
    natural size, stride (size - 1) + kernel - 2 padding, it cuts off at the bottom and the right,
    larger leaves zeros there.
    `x` is (n, h, w, in), `w` (kh, kw, in, out), `y` (n, out_h, out_w, out).
    """
    n, *in_size, channels = x.shape
    *kernel_size, _, out = w.shape
    out_size = output_size or [geometry.transposed_convolution_size(*axis)
                               for axis in zip(in_size, kernel_size, stride, padding)]
    y = np.zeros((n, *out_size, out))
    for iy, ix, ky, kx, oy, ox in taps(in_size, kernel_size, out_size, stride, padding):
        for i, c, j in np.ndindex(n, channels, out):
            y[i, oy, ox, j] += x[i, iy, ix, c] * w[ky, kx, c, j]
    return y


@in_float64
def interpolate(x, rows, columns, stride, padding, output_size=None):
    """Return x spread out channel by channel: the transposed convolution by outer(rows, columns).

        y[i * stride - padding + k, c] += rows[k_y] columns[k_x] x[i, c]
    """
    if output_size is None:
        output_size = [geometry.transposed_convolution_size(*axis) for axis in zip(
            x.shape[1:3], (len(rows), len(columns)), stride, padding)]
    y = np.zeros((len(x), *output_size, x.shape[3]))
    for iy, ix, ky, kx, oy, ox in taps(x.shape[1:3], (len(rows), len(columns)), output_size, stride,
                                       padding):
        for i, c in np.ndindex(len(x), x.shape[3]):
            y[i, oy, ox, c] += rows[ky] * columns[kx] * x[i, iy, ix, c]
    return y


def interpolate_classify(x, rows, columns, stride, padding, output_size=None):
    """Return what `classify` says of the interpolated scores."""
    return classify(interpolate(x, rows, columns, stride, padding, output_size))


@in_float64
def interpolate_backward(gy, rows, columns, stride, padding, input_size):
    """Return the gradient of the interpolation's input.

        gx[i, c] = sum_k rows[k_y] columns[k_x] gy[i * stride - padding + k, c]
    """
    gx = np.zeros((len(gy), *input_size, gy.shape[3]))
    for iy, ix, ky, kx, oy, ox in taps(input_size, (len(rows), len(columns)), gy.shape[1:3], stride,
                                       padding):
        for i, c in np.ndindex(len(gy), gy.shape[3]):
            gx[i, iy, ix, c] += rows[ky] * columns[kx] * gy[i, oy, ox, c]
    return gx


@in_float64
def transposed_convolution_backward_input(gy, w, input_size, stride=(1, 1), padding=(0, 0)):
    """Return the gradient of the transposed convolution's input, of size `input_size`.

        gx[i, c] = sum_{k, j} gy[i * stride - padding + k, j] w[k, c, j]
    """
    n, *out_size, out = gy.shape
    *kernel_size, channels, _ = w.shape
    gx = np.zeros((n, *input_size, channels))
    for iy, ix, ky, kx, oy, ox in taps(input_size, kernel_size, out_size, stride, padding):
        for i, c, j in np.ndindex(n, channels, out):
            gx[i, iy, ix, c] += gy[i, oy, ox, j] * w[ky, kx, c, j]
    return gx


@in_float64
def transposed_convolution_backward_weights(x, gy, kernel_size, stride=(1, 1), padding=(0, 0)):
    """Return the gradient of the transposed convolution's weights, (kh, kw, in, out).

        gw[k, c, j] = sum_{n, i} x[i, c] gy[i * stride - padding + k, j]
    """
    n, *in_size, channels = x.shape
    _, *out_size, out = gy.shape
    gw = np.zeros((*kernel_size, channels, out))
    for iy, ix, ky, kx, oy, ox in taps(in_size, kernel_size, out_size, stride, padding):
        for i, c, j in np.ndindex(n, channels, out):
            gw[ky, kx, c, j] += x[i, iy, ix, c] * gy[i, oy, ox, j]
    return gw


# ---- Max pooling

@in_float64
def max_pooling_forward(x, kernel_size, stride, padding=(0, 0), ceil=False, keep_argmax=True):
    """Return the maximum of every window, and where in the window it lies.

        y[o, c] = max_k x[o * stride - padding + k, c],  argmax[o, c] = ky * kw + kx

    over the part of the window inside the image. The first maximum in row order counts, and a NaN
    is greater than any number. `argmax` has y's shape and the smallest unsigned type that holds
    kh * kw - 1, or is None without keep_argmax.
    """
    n, *in_size, channels = x.shape
    out_size = [geometry.pooling_size(*axis, ceil)
                for axis in zip(in_size, kernel_size, stride, padding)]
    y = np.full((n, *out_size, channels), -np.inf)
    argmax = np.full(y.shape, -1)
    for oy, ox, ky, kx, iy, ix in taps(out_size, kernel_size, in_size, stride, padding):
        for i, c in np.ndindex(n, channels):
            value, best = x[i, iy, ix, c], y[i, oy, ox, c]
            first = argmax[i, oy, ox, c] == -1
            if first or value > best or math.isnan(value) and not math.isnan(best):
                y[i, oy, ox, c] = value
                argmax[i, oy, ox, c] = ky * kernel_size[1] + kx
    return y, argmax.astype(np.min_scalar_type(math.prod(kernel_size) - 1)) if keep_argmax else None


@in_float64
def max_pooling_backward(gy, argmax, input_size, kernel_size, stride, padding=(0, 0)):
    """Return the gradient of the pooling's input, of size `input_size`.

        gx[o * stride - padding + k, c] += gy[o, c]  where k is the tap argmax[o, c]
    """
    n, *out_size, channels = gy.shape
    gx = np.zeros((n, *input_size, channels))
    for oy, ox, ky, kx, iy, ix in taps(out_size, kernel_size, input_size, stride, padding):
        for i, c in np.ndindex(n, channels):
            if argmax[i, oy, ox, c] == ky * kernel_size[1] + kx:
                gx[i, iy, ix, c] += gy[i, oy, ox, c]
    return gx


# ---- Element by element

def rectified(value):
    """Return max(value, 0), or NaN for a NaN."""
    return 0.0 if value <= 0 else value


@in_float64
def relu_forward(x):
    """Return y = max(x, 0); a NaN stays one."""
    y = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        y[index] = rectified(x[index])
    return y


@in_float64
def relu_backward(gy, y):
    """Return gx = gy where the output y of the ReLU is positive, else 0."""
    gx = np.zeros(y.shape)
    for index in np.ndindex(y.shape):
        gx[index] = gy[index] if y[index] > 0 else 0
    return gx


@in_float64
def bias_relu(x, b):
    """Return y = max(x + b, 0), with one b for each channel; a NaN stays one."""
    y = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        y[index] = rectified(x[index] + b[index[-1]])
    return y


@in_float64
def add(a, b):
    """Return a + b for arrays of one shape."""
    y = np.zeros(a.shape)
    for index in np.ndindex(a.shape):
        y[index] = a[index] + b[index]
    return y


def crop_forward(x, offset, size):
    """Return the part of x that begins at offset: y[o] = x[offset + o].

    Raises ValueError if it reaches outside the image.
    """
    for axis in zip(x.shape[1:3], offset, size):
        geometry.crop_stop(*axis)
    y = np.zeros((x.shape[0], *size, x.shape[3]), x.dtype)
    for i, oy, ox, c in np.ndindex(y.shape):
        y[i, oy, ox, c] = x[i, offset[0] + oy, offset[1] + ox, c]
    return y


def crop_backward(gy, offset, input_size):
    """Return the gradient of the crop's input: gx[offset + o] = gy[o], zero elsewhere.

    Raises ValueError if gy reaches outside the image.
    """
    for axis in zip(input_size, offset, gy.shape[1:3]):
        geometry.crop_stop(*axis)
    gx = np.zeros((gy.shape[0], *input_size, gy.shape[3]), gy.dtype)
    for i, oy, ox, c in np.ndindex(gy.shape):
        gx[i, offset[0] + oy, offset[1] + ox, c] = gy[i, oy, ox, c]
    return gx


@in_float64
def scale(x, factor):
    """Return y = factor * x."""
    y = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        y[index] = factor * x[index]
    return y


def splitmix64(state):
    """Return 64 well-mixed bits for an integer state, as an int.

    Source: Steele, Lea, Flood, Fast splittable pseudorandom number generators, OOPSLA 2014.
    """
    z = (state + 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    return z ^ z >> 31


def dropout(x, rate, seed):
    """Return y = x / (1 - rate) where an element is kept, else 0.

    Element i, counted in row order, is kept if u_i >= rate, where u_i in [0, 1) is made of the
    53 upper bits of splitmix64(seed * 0x9E3779B97F4A7C15 + i). The same seed gives the same mask,
    so that this function is its own backward. x is multiplied by 1 / (1 - rate), rounded to x's
    type. Raises ValueError if rate is not in [0, 1).
    """
    if not 0 <= rate < 1:
        raise ValueError(f"rate must be in [0, 1), got {rate}")
    y = np.zeros_like(x)
    for i, index in enumerate(np.ndindex(x.shape)):
        u = (splitmix64(seed * 0x9E3779B97F4A7C15 + i) >> 11) * 2.0**-53
        y[index] = x[index] * x.dtype.type(1 / (1 - rate)) if u >= rate else 0
    return y


# ---- Batch normalization

@in_float64
def batch_norm_statistics(x):
    """Return the mean and the biased variance of every channel over n, h and w.

        mean[c] = sum x[c] / m,  var[c] = sum (x[c] - mean[c])^2 / m,  m = n h w
    """
    channels = x.shape[-1]
    m = x.size // channels
    mean, var = np.zeros(channels), np.zeros(channels)
    for index in np.ndindex(x.shape):
        mean[index[-1]] += x[index] / m
    for index in np.ndindex(x.shape):
        var[index[-1]] += (x[index] - mean[index[-1]])**2 / m
    return mean, var


@in_float64
def batch_norm_forward(x, mean, var, gamma, beta, eps, relu=False):
    """Return y[c] = gamma[c] (x[c] - mean[c]) / sqrt(var[c] + eps) + beta[c], or its ReLU."""
    y = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        c = index[-1]
        y[index] = gamma[c] * (x[index] - mean[c]) / math.sqrt(var[c] + eps) + beta[c]
        if relu and y[index] < 0:
            y[index] = 0
    return y


@in_float64
def batch_norm_backward(gy, x, mean, var, gamma, eps, relu_beta=None):
    """Return the gradients of x, gamma and beta, where mean and var are the statistics of x.

        z[c] = (x[c] - mean[c]) / sqrt(var[c] + eps)
        gbeta[c] = sum gy[c],  ggamma[c] = sum gy[c] z[c]
        gx[c] = gamma[c] / sqrt(var[c] + eps) (gy[c] - (gbeta[c] + z[c] ggamma[c]) / m)

    With `relu_beta`, which is beta, gy counts only where gamma z + beta is positive.

    Source: Ioffe, Szegedy, Batch normalization, 2015, section 3.
    """
    channels = x.shape[-1]
    m = x.size // channels
    z, gx, gy = np.zeros(x.shape), np.zeros(x.shape), gy.copy()
    ggamma, gbeta = np.zeros(channels), np.zeros(channels)
    for index in np.ndindex(x.shape):
        c = index[-1]
        z[index] = (x[index] - mean[c]) / math.sqrt(var[c] + eps)
        if relu_beta is not None and not gamma[c] * z[index] + relu_beta[c] > 0:
            gy[index] = 0
        ggamma[c] += gy[index] * z[index]
        gbeta[c] += gy[index]
    for index in np.ndindex(x.shape):
        c = index[-1]
        slope = gamma[c] / math.sqrt(var[c] + eps)
        gx[index] = slope * (gy[index] - (gbeta[c] + z[index] * ggamma[c]) / m)
    return gx, ggamma, gbeta


# ---- Local response normalization

@in_float64
def local_response_normalization_forward(x, size, alpha, beta, k):
    """Return every number divided by a power of the squares of its neighbours among the channels.

        s[c] = k + alpha / size sum_j x[j]^2,  y[c] = x[c] s[c]^-beta

    with j the channels at most (size - 1) / 2 away from c; size is odd.
    Source: Krizhevsky, Sutskever, Hinton, ImageNet classification, 2012, section 3.3, which doesn't
    divide alpha; BVLC/caffe, src/caffe/layers/lrn_layer.cpp, which does.
    """
    y = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        s = response_scale(x[index[:-1]], index[-1], size, alpha, k)
        y[index] = x[index] * s**-beta
    return y


@in_float64
def local_response_normalization_backward(gy, x, size, alpha, beta, k):
    """Return the gradient of x.

        dy[j] / dx[c] = [j = c] s[j]^-beta - 2 alpha / size beta x[j] x[c] s[j]^(-beta - 1)

    where channel c is in the window of channel j, else 0.
    """
    gx = np.zeros(x.shape)
    channels = x.shape[-1]
    for index in np.ndindex(x.shape):
        c, row = index[-1], x[index[:-1]]
        for j in range(max(0, c - size // 2), min(channels, c + size // 2 + 1)):
            s = response_scale(row, j, size, alpha, k)
            slope = -2 * alpha / size * beta * row[j] * row[c] * s**(-beta - 1)
            gx[index] += gy[index[:-1]][j] * (slope + (s**-beta if j == c else 0))
    return gx


def response_scale(row, c, size, alpha, k):
    """Return k plus alpha times the mean square of the window around channel c."""
    window = row[max(0, c - size // 2):c + size // 2 + 1]
    return k + alpha / size * sum(float(value)**2 for value in window)


# ---- Soft-max and loss

@in_float64
def softmax(scores):
    """Return the probabilities p[k] = exp(s[k]) / sum_j exp(s[j]) over the last axis.

    The maximum is subtracted from the scores beforehand: the same value, and no overflow.
    """
    p = np.zeros(scores.shape)
    for index in np.ndindex(scores.shape[:-1]):
        largest = max(scores[index])
        total = sum(math.exp(s - largest) for s in scores[index])
        for k, s in enumerate(scores[index]):
            p[index][k] = math.exp(s - largest) / total
    return p


@in_float64
def softmax_cross_entropy(scores, labels, ignore_label, class_weights=None):
    """Return the loss summed over the labelled pixels, their weight, and the scores' gradient.

        loss = sum -v[label] log p[label],  gscores[k] = v[label] (p[k] - [k = label])

    with p = softmax(scores) and the classes' weights v, by default 1; the pixels' weight is the sum
    of v[label]. `scores` is (n, h, w, classes), `labels` (n, h, w) integer. Pixels whose label is
    negative or ignore_label count nowhere and have gradient 0. The loss is a Python float.
    Raises ValueError if another label is not below the number of classes.
    """
    classes = scores.shape[-1]
    v = [1] * classes if class_weights is None else [float(weight) for weight in class_weights]
    loss, weight, gscores = 0.0, 0, np.zeros(scores.shape)
    for index in np.ndindex(labels.shape):
        label = int(labels[index])
        if label < 0 or label == ignore_label:
            continue
        if label >= classes:
            raise ValueError(f"label {label} at {index}, but there are {classes} classes")
        largest = max(scores[index])
        total = sum(math.exp(s - largest) for s in scores[index])
        loss += v[label] * (math.log(total) - float(scores[index][label] - largest))
        weight += v[label]
        for k, s in enumerate(scores[index]):
            gscores[index][k] = v[label] * (math.exp(s - largest) / total - (k == label))
    return loss, weight, gscores


@in_float64
def classify(scores):
    """Return the class with the largest score, the first on ties, and its soft-max probability.

    `scores` is (n, h, w, classes). The labels are uint8 for up to 256 classes, then uint16; the
    probability is float32.
    """
    *size, classes = scores.shape
    labels = np.zeros(size, np.min_scalar_type(classes - 1))
    confidence = np.zeros(size, np.float32)
    for index in np.ndindex(*size):
        largest = max(scores[index])
        labels[index] = list(scores[index]).index(largest)
        confidence[index] = 1 / sum(math.exp(s - largest) for s in scores[index])
    return labels, confidence


# ---- Update

def sgd_momentum(w, g, v, rate, momentum, decay, nesterov=False):
    """Move the weights w against their gradient g; w and v, their momentum, change in place.

        d = rate (g + decay w),  v = momentum v + d,
        w = w - v,  or with `nesterov`  w = w - (momentum v + d)

    Source: BVLC/caffe, src/caffe/solvers/sgd_solver.cpp and nesterov_solver.cpp.
    """
    for index in np.ndindex(w.shape):
        descent = rate * (float(g[index]) + decay * float(w[index]))
        step = momentum * float(v[index]) + descent
        v[index] = step
        w[index] = float(w[index]) - (momentum * step + descent if nesterov else step)


def adam(w, g, m, v, rate, beta1, beta2, eps, decay, step):
    """Move the weights w by Adam with decoupled decay; w, m and v change in place.

        m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2,
        w = w - rate (m' / (sqrt(v') + eps) + decay w),
        m' = m / (1 - beta1^step),  v' = v / (1 - beta2^step)

    `step` counts from 1. Source: Loshchilov and Hutter 2019, algorithm 2.
    """
    for index in np.ndindex(w.shape):
        number, old = float(g[index]), float(w[index])
        m[index] = beta1 * float(m[index]) + (1 - beta1) * number
        v[index] = beta2 * float(v[index]) + (1 - beta2) * number * number
        mean = float(m[index]) / (1 - beta1**step)
        square = float(v[index]) / (1 - beta2**step)
        w[index] = old - rate * (mean / (square**0.5 + eps) + decay * old)


def move_towards(w, target, share):
    """Move w by a share of the way to the target: w = w + share (target - w), in place."""
    for index in np.ndindex(w.shape):
        w[index] = float(w[index]) + share * (float(target[index]) - float(w[index]))
