"""Convolutions of all kinds, and how the CPU's are held against the naive ones.

Not a test itself: test_convolution.py and test_winograd.py load it.
"""
from types import SimpleNamespace

from tinyfcn.kernels import cpu, geometry, naive


def case(x, w, **options):
    """The shapes and options of a convolution; x (n, h, w, in), w (kh, kw, in/groups, out)."""
    return SimpleNamespace(x=x, w=w, options=options)


CASES = {
    "one pixel, 1x1": case((1, 1, 1, 1), (1, 1, 1, 1)),
    "one pixel, 3x3 padded": case((1, 1, 1, 3), (3, 3, 3, 2), padding=(1, 1)),
    "smaller than the kernel": case((1, 2, 3, 2), (5, 7, 2, 3), padding=(2, 2)),
    "kernel as large as the image": case((2, 3, 4, 5), (3, 4, 5, 16)),
    "odd sizes": case((1, 7, 5, 3), (3, 3, 3, 5), padding=(1, 1)),
    "even kernel": case((1, 5, 6, 3), (2, 4, 3, 3), padding=(1, 0)),
    "empty batch": case((0, 4, 4, 3), (3, 3, 3, 2), padding=(1, 1)),
    "1 to 64": case((1, 3, 3, 1), (3, 3, 1, 64), padding=(1, 1)),
    "3 to 16": case((2, 4, 3, 3), (3, 3, 3, 16), padding=(1, 1)),
    "3 to 32, stride": case((1, 23, 21, 3), (11, 11, 3, 32), stride=(4, 3)),
    "1 to 48, uneven": case((2, 6, 9, 1), (5, 4, 1, 48), stride=(2, 1), padding=(2, 3)),
    "2 to 16, all in the padding": case((1, 1, 2, 2), (3, 3, 2, 16), padding=(6, 5)),
    "16 to 17": case((1, 3, 4, 16), (3, 3, 16, 17), padding=(1, 1)),
    "21 to 33": case((1, 3, 3, 21), (3, 1, 21, 33), padding=(1, 0)),
    "33 to 21, 1x1": case((1, 4, 5, 33), (1, 1, 33, 21)),
    "64 to 5": case((1, 3, 3, 64), (3, 3, 64, 5), padding=(1, 1)),
    "stride": case((1, 7, 8, 2), (3, 3, 2, 3), stride=(2, 3), padding=(1, 1)),
    "stride larger than the kernel": case((1, 9, 8, 2), (2, 1, 2, 3), stride=(4, 3)),
    "stride 1x1": case((1, 5, 5, 4), (1, 1, 4, 3), stride=(2, 2)),
    "stride leaves pixels unused": case((1, 6, 6, 2), (2, 2, 2, 2), stride=(3, 3), padding=(0, 1)),
    "dilation": case((1, 7, 9, 2), (3, 3, 2, 3), padding=(2, 1), dilation=(2, 3)),
    "dilation, stride": case((2, 9, 8, 3), (2, 3, 3, 2), stride=(2, 1), dilation=(3, 2)),
    "large padding": case((1, 2, 2, 2), (3, 3, 2, 2), padding=(6, 5)),
    "two groups": case((1, 5, 4, 6), (3, 3, 3, 4), padding=(1, 1), groups=2),
    "depthwise": case((1, 5, 5, 5), (3, 3, 1, 5), padding=(1, 1), groups=5),
    "depthwise, two each": case((1, 4, 4, 3), (3, 3, 1, 6), stride=(2, 2), groups=3),
    "one row": case((1, 1, 9, 3), (1, 3, 3, 4), padding=(0, 1)),
    "one column": case((1, 9, 1, 3), (3, 1, 3, 4), padding=(1, 0)),
}


def arrays(shapes, rng, dtype):
    """Return x, w, b and gy of a case."""
    options = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), **shapes.options}
    size = [geometry.convolution_size(shapes.x[1 + i], shapes.w[i], options["stride"][i],
                                      options["padding"][i], options["dilation"][i])
            for i in (0, 1)]
    out = shapes.w[3]
    return [rng.standard_normal(shape, dtype)
            for shape in (shapes.x, shapes.w, (out,), (shapes.x[0], *size, out))]


def compare(shapes, rng, dtype, agree, algorithm="im2col", more_error=1):
    """Hold cpu against naive; Winograd's algorithm may be off by `more_error` times as much."""
    x, w, b, gy = arrays(shapes, rng, dtype)
    options = {**shapes.options, "algorithm": algorithm}
    terms = more_error * (w[..., 0].size + 1)
    prepared = cpu.prepare_weights(w, x.shape, **options)
    for bias, relu, pool in [(None, False, False), (b, True, False), (b, True, True)]:
        expected = naive.convolution_forward(x, w, bias, relu=relu, pool=pool, **options)
        for weights in (w, prepared):
            agree(cpu.convolution_forward(x, weights, bias, relu=relu, pool=pool, **options),
                  expected, terms)
    agree(cpu.convolution_backward_input(gy, w, x.shape[1:3], **options),
          naive.convolution_backward_input(gy, w, x.shape[1:3], **options), more_error * w.size)
    agree(cpu.convolution_backward_weights(x, gy, w.shape[:2], **options),
          naive.convolution_backward_weights(x, gy, w.shape[:2], **options),
          more_error * gy[..., 0].size)
    agree(cpu.convolution_backward_bias(gy), naive.convolution_backward_bias(gy), gy[..., 0].size)
