"""Size arithmetic of convolution, pooling, transposed convolution and cropping.

Every function but `pair` deals with one axis: ints in, an int out. Along an axis, output position o
and kernel tap k meet the input at

    o * stride - padding + k * dilation

and `padding` pixels are added at either end.
"""
import operator


def pair(value):
    """Return value as a (y, x) pair of ints: an int stands for both axes.

    Raises
    ------
    TypeError
        If value holds something other than ints.
    ValueError
        If value is a sequence whose length is not 2.
    """
    try:
        values = tuple(value)
    except TypeError:
        values = (value, value)
    if len(values) != 2:
        raise ValueError(f"expected an int or a (y, x) pair of ints, got {value!r}")
    try:
        return operator.index(values[0]), operator.index(values[1])
    except TypeError:
        raise TypeError(f"expected an int or a (y, x) pair of ints, got {value!r}") from None


def convolution_size(size, kernel, stride=1, padding=0, dilation=1):
    """Return the output size of a convolution along one axis.

        out = floor((size + 2 padding - extent) / stride) + 1,  extent = dilation (kernel - 1) + 1

    Parameters
    ----------
    size, kernel, stride, dilation : int, at least 1
    padding : int, at least 0

    Returns
    -------
    int, at least 1

    Raises
    ------
    ValueError
        If an argument is out of range, or the dilated kernel is larger than the padded input.
    """
    _check(size=size, kernel=kernel, stride=stride, padding=padding, dilation=dilation)
    extent = dilation * (kernel - 1) + 1
    if extent > size + 2 * padding:
        raise ValueError(
            f"kernel larger than padded input: kernel {kernel} with dilation {dilation} spans "
            f"{extent}, input {size} with padding {padding} has {size + 2 * padding}")
    return (size + 2 * padding - extent) // stride + 1


def pooling_size(size, kernel, stride, padding, ceil):
    """Return the output size of a pooling along one axis.

        out = round((size + 2 padding - kernel) / stride) + 1

    rounded down, or up if `ceil`; rounded up, a last window that would start beyond the image
    (in its right padding or further) is dropped, so that every window holds a pixel. This is
    Caffe's rule (BVLC/caffe, src/caffe/layers/pooling_layer.cpp), which drops such a window only
    where there is padding; here it is always dropped.

    Parameters
    ----------
    size, kernel, stride : int, at least 1
    padding : int, from 0 to kernel - 1
    ceil : bool
        Whether windows that reach beyond the padded input count.

    Returns
    -------
    int, at least 1

    Raises
    ------
    ValueError
        If an argument is out of range, or there is no window at all.
    """
    _check(size=size, kernel=kernel, stride=stride, padding=padding)
    if padding >= kernel:
        raise ValueError(
            f"padding {padding} must be smaller than the kernel {kernel}: "
            "a window would hold no pixel")
    span = size + 2 * padding - kernel
    out = (-(-span // stride) if ceil else span // stride) + 1
    if ceil and (out - 1) * stride >= size + padding:
        out -= 1
    if out < 1:
        raise ValueError(
            f"kernel larger than padded input: kernel {kernel}, input {size} with padding "
            f"{padding} has {size + 2 * padding}")
    return out


def transposed_convolution_size(size, kernel, stride, padding):
    """Return the natural output size of a transposed convolution along one axis.

        out = stride (size - 1) + kernel - 2 padding

    Parameters
    ----------
    size, kernel, stride : int, at least 1
    padding : int, at least 0
        How much is cut off at either end.

    Returns
    -------
    int, at least 1

    Raises
    ------
    ValueError
        If an argument is out of range, or the padding cuts everything off.
    """
    _check(size=size, kernel=kernel, stride=stride, padding=padding)
    full = stride * (size - 1) + kernel
    if full <= 2 * padding:
        raise ValueError(
            f"nothing left of the output: input {size}, kernel {kernel} and stride {stride} give "
            f"{full}, and padding {padding} cuts off {2 * padding}")
    return full - 2 * padding


def crop_stop(size, offset, length):
    """Return where a crop along one axis ends: offset + length.

    Raises
    ------
    ValueError
        If the crop is empty or reaches outside the `size` pixels there are.
    """
    if length < 1 or offset < 0 or offset + length > size:
        raise ValueError(
            f"crop of {length} at offset {offset} does not lie inside an image of {size}")
    return offset + length


def _check(padding, **at_least_one):
    for name, value in at_least_one.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if padding < 0:
        raise ValueError(f"padding must be at least 0, got {padding}")
