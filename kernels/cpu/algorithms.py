"""The one place that chooses how a convolution is computed: im2col, or Winograd with which tile.

An algorithm has a name, "im2col" or "winograd-M" for tiles of M x M outputs. The choice is made by
a cost model, a count of what the processor has to do (`cost`); `python -m tinyfcn.benchmark
--layers` holds it against measurements.
"""

import functools
import math
from typing import NamedTuple

from .micro_kernel import panel_width
from .simd import lanes_of
from .winograd_transforms import matrix_of, operations

IM2COL = "im2col"
# Tiles worth trying for a kernel's size: larger ones lose too many digits, or gain nothing.
TILES = {3: (2, 4, 6), 5: (2, 4), 7: (2, 3)}

# What the model assumes of a core, a clock cycle. Only ratios matter.
FMAS = 1.7  # vectors of the micro-kernel, two at best
TRANSFORM_OPERATIONS = 1.5  # vectors of arithmetic, loads and stores in the transforms
BYTES = 3  # to and from memory, all cores together busy


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


def tile_of(algorithm):
    """M of "winograd-M"; None of "im2col"."""
    if algorithm == IM2COL:
        return None
    name, _, tile = algorithm.partition("-")
    if name != "winograd" or not tile.isdecimal() or int(tile) < 1:
        raise ValueError(f"algorithm must be 'im2col' or 'winograd-M', got {algorithm!r}")
    return int(tile)


@functools.lru_cache(maxsize=512)
def choose(task, gradient, dtype):
    """The cheapest algorithm for a `Task`; `gradient` is for that of the weights."""
    candidates = [IM2COL]
    if winograd_fits(task):
        kernel_size = task.kernel_size[0]
        candidates += [f"winograd-{tile}" for tile in TILES.get(kernel_size, ())]
    return min(candidates, key=lambda algorithm: cost(algorithm, task, gradient, dtype))


def winograd_fits(task):
    """Whether Winograd can compute it at all."""
    square = task.kernel_size[0] == task.kernel_size[1]
    return square and task.stride == task.dilation == (1, 1) and task.groups == 1


@functools.lru_cache(maxsize=512)
def cost(algorithm, task, gradient, dtype):
    """Clock cycles of one core for a `Task`, estimated.

    im2col multiplies everything and gathers the rows. Winograd multiplies less, transforms input,
    output and weights, and moves the transformed weights through memory.
    """
    lanes, tile = lanes_of(dtype), tile_of(algorithm)
    # The micro-kernel computes whole panels, but half of one if that suffices.
    vectors = -(-task.outputs // lanes)
    pixels = task.images * task.out_h * task.out_w
    if tile is None:
        depth = math.prod(task.kernel_size) * task.inputs / task.groups
        return pixels * depth * (vectors / FMAS + 2 / lanes / TRANSFORM_OPERATIONS)
    r = task.kernel_size[0]
    n = tile + r - 1
    input_vectors = -(-task.inputs // lanes)
    tiles = task.images * -(-task.out_h // tile) * -(-task.out_w // tile)
    products = n * n * tiles * task.inputs * vectors / FMAS

    def transform(kind):
        """Operations of a two-dimensional transform of one tile and one vector of channels."""
        matrix = matrix_of(kind, tile, r)
        rows, columns = len(matrix), len(matrix[0])
        return (columns + rows) * (operations(matrix) + rows + columns)

    per_tile = input_vectors * transform("input")
    if task.inputs % lanes:  # pixels are copied to make whole vectors
        per_tile += n * n * (2 * input_vectors + lanes)
    per_tile += vectors * transform("output")
    per_weight = 0 if task.ready else transform("weights")
    weights = task.inputs * -(-vectors * lanes // panel_width(dtype)) * panel_width(dtype) / lanes
    moved = n * n * weights * lanes * dtype.itemsize * (1 if task.ready else 3)
    if gradient:
        # V and the transformed gradient go through memory between the two parallel steps.
        moved += 2 * n * n * tiles * (input_vectors + vectors) * lanes * dtype.itemsize
    return products + (tiles * per_tile + weights * per_weight) / TRANSFORM_OPERATIONS + moved / BYTES
