"""The one place that chooses how a convolution is computed: with which algorithm and precision.

"im2col" multiplies float32 numbers in float32, and so does "winograd-M", for tiles of M x M
outputs, with fewer multiplications. "im2col-tf32" and "im2col-bf16" round the factors to TF32 (10
bits of mantissa) or BF16 (7 bits) for the tensor cores and add in float32: faster and less precise.

Where nothing is pinned, `set_precision` decides, and in float32 a cost model: a count of the
arithmetic and of the bytes that an algorithm moves, held against what the GPU's data sheet promises
(`launch.peaks`). `docs/gpu.md` holds it against measurements: it is right about which of two is
faster where they differ by much, so Winograd's algorithm has to promise a good deal more than
im2col to be chosen.
"""

import functools
import math
from typing import NamedTuple

from ..devices import DeviceError
from . import launch

IM2COL = "im2col"
TF32 = "im2col-tf32"
BF16 = "im2col-bf16"
# Tiles for a kernel's size: larger ones take more registers than there are, or gain nothing.
WINOGRAD_TILES = {3: (2, 4, 6), 7: (2,)}
NAMES = (IM2COL, TF32, BF16, "winograd-2", "winograd-4", "winograd-6")

PRECISIONS = {"float32": IM2COL, "tf32": TF32, "bf16": BF16}
TENSOR_CORES = (8, 0)  # the first compute capability with those of TF32 and BF16

# What the model assumes that kernels reach of a GPU's peaks, and what it takes to begin one.
OF_ARITHMETIC, OF_BANDWIDTH, LAUNCH_SECONDS = 0.75, 0.8, 1e-5
# How much less than im2col Winograd's algorithm must cost.
LEAST_GAIN = 1.25

_choice = IM2COL


class Task(NamedTuple):
    """A convolution as the choice sees it: x (images, h, w, inputs), y (images, out_h, out_w,
    outputs), and whether the transformed weights are there already."""

    images: int
    out_h: int
    out_w: int
    inputs: int
    outputs: int
    kernel_size: tuple
    stride: tuple
    dilation: tuple
    groups: int
    ready: bool = False


def set_precision(precision):
    """Compute convolutions with "float32", "tf32" or "bf16" from now on.

    Raises
    ------
    ValueError
        If it is none of these.
    DeviceError
        If the GPU is too old for it.
    """
    global _choice
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    algorithm = PRECISIONS[precision]
    if algorithm != IM2COL and launch.capability() < TENSOR_CORES:
        found, needed = (".".join(map(str, each)) for each in (launch.capability(), TENSOR_CORES))
        raise DeviceError(f"{launch.device_name()} has compute capability {found}; {precision} "
                          f"needs {needed}")
    _choice = algorithm


def of_products():
    """The algorithm of what is no forward or backward convolution: that of the precision."""
    return _choice


def choose(task, gradient=False, algorithm=None):
    """The algorithm for a `Task`: the one that is pinned, that of the precision, or the cheapest.

    Parameters
    ----------
    task : Task
    gradient : bool
        Of the weights.
    algorithm : str, optional
        One of `NAMES`, if it is pinned.

    Raises
    ------
    ValueError
        If there is no such algorithm, or it cannot compute this.
    """
    if algorithm is None:
        return _choice if _choice != IM2COL else _cheapest(task, gradient)
    if algorithm not in NAMES:
        raise ValueError(
            f"algorithm must be one of {', '.join(map(repr, NAMES))} on a GPU, got {algorithm!r}")
    if tile_of(algorithm) and algorithm not in _winograds(task):
        raise ValueError(
            f"{algorithm} is for kernels of 3 x 3, or with tiles of 2 of 7 x 7, without stride, "
            "dilation and groups")
    return algorithm


def tile_of(algorithm):
    """M of "winograd-M"; None of others."""
    name, _, tile = algorithm.partition("-")
    return int(tile) if name == "winograd" else None


def _winograds(task):
    """The algorithms of Winograd's that can compute a task."""
    fits = (task.kernel_size[0] == task.kernel_size[1] and task.groups == 1
            and tuple(task.stride) == tuple(task.dilation) == (1, 1) and task.inputs > 0)
    return [f"winograd-{m}" for m in WINOGRAD_TILES.get(task.kernel_size[0], ()) if fits]


@functools.lru_cache(maxsize=512)
def _cheapest(task, gradient):
    best = min(_winograds(task), default=IM2COL, key=lambda each: cost(each, task, gradient))
    gain = cost(IM2COL, task, gradient) / cost(best, task, gradient)
    return best if gain > LEAST_GAIN else IM2COL


@functools.lru_cache(maxsize=512)
def cost(algorithm, task, gradient=False):
    """Seconds for a `Task` in float32, estimated.

    A product takes as long as its arithmetic or its bytes, whichever is longer; transforms take as
    long as their bytes. Every array counts as read or written once by each kernel, and a pixel as
    often as there are tiles over it.
    """
    peaks = launch.peaks()

    def product(rows, depth, columns, count):
        """The arithmetic of `count` matrix products; whole tiles are computed."""
        sides = launch.TILES[launch.choose_tile(launch.TILES, rows, columns)]
        tile_rows, tile_columns = (-(-size // side) * side
                                   for size, side in zip((rows, columns), sides))
        flops = 2 * count * tile_rows * tile_columns * depth
        return flops / (peaks.flops * OF_ARITHMETIC)

    def moved(*numbers):
        return 4 * sum(numbers) / (peaks.bytes * OF_BANDWIDTH)

    m, (r, s) = tile_of(algorithm), task.kernel_size
    x, y = (task.images * task.out_h * task.out_w * channels
            for channels in (task.inputs * math.prod(task.stride), task.outputs))
    w = r * s * task.inputs // task.groups * task.outputs
    if m is None:
        sides = [task.images * task.out_h * task.out_w, r * s * task.inputs // task.groups]
        rows, depth = reversed(sides) if gradient else sides
        arithmetic = product(rows, depth, task.outputs // task.groups, task.groups)
        return max(arithmetic, moved(x, y, w)) + LAUNCH_SECONDS
    taps, tiles = (m + r - 1) ** 2, task.images * -(-task.out_h // m) * -(-task.out_w // m)
    v, p, u = (taps * numbers for numbers in (
        tiles * task.inputs, tiles * task.outputs, task.inputs * task.outputs))
    rows, depth = (task.inputs, tiles) if gradient else (tiles, task.inputs)
    seconds = max(product(rows, depth, task.outputs, taps), moved(v, u, p))
    seconds += moved(v, v) + moved(p, p if gradient else y) + 3 * LAUNCH_SECONDS
    if gradient or not task.ready:
        seconds += moved(w, u) + LAUNCH_SECONDS
    return seconds
