"""The one place that chooses how a convolution is computed: im2col, or Winograd with which tile.

An algorithm has a name, "im2col" or "winograd-M" for tiles of M x M outputs. The choice is made by
a cost model, a count of what the processor has to do (`cost`); `python -m tinyfcn.benchmark
--layers` holds it against measurements.
"""

import functools
import math
from typing import NamedTuple

from .caches import l2_bytes
from .micro_kernel import TILE_VECTORS, best_rows
from .simd import lanes_of
from .winograd_transforms import matrix_of, operations

IM2COL = "im2col"
# Tiles worth trying for a kernel's size: larger ones lose too many digits, or gain nothing.
TILES = {3: (2, 4, 6), 5: (2, 4), 7: (2, 3)}

# Up to about so many tiles the weights' gradient is transformed back at once.
MOST_TILES_AT_ONCE = 192

# So large a transformed gradient of the weights still fits a core's cache, beside some tiles.
PART_BYTES = l2_bytes() * 11 // 20

# What the model assumes of a core, a clock cycle; only ratios matter. Measured on VGG's layers.
FMAS = 1.0  # vectors of the micro-kernel
TILE_CYCLES = 100  # more for each tile of the micro-kernel, to begin and to write it
TRANSFORM_OPERATIONS = 1.2  # vectors of arithmetic, loads and stores in the transforms
PIECE_CYCLES = 8  # for each run of channels that im2col copies
BYTES = 4  # to and from memory, all cores together busy


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


def name_of(tile):
    """The algorithm with tiles of so many outputs a side, or without any."""
    return IM2COL if tile is None else f"winograd-{tile}"


@functools.lru_cache(maxsize=512)
def choose(task, gradient, dtype):
    """The cheapest algorithm for a `Task`; `gradient` is for that of the weights."""
    candidates = [IM2COL]
    if winograd_fits(task):
        kernel_size = task.kernel_size[0]
        candidates += [name_of(tile) for tile in TILES.get(kernel_size, ())]
    return min(candidates, key=lambda algorithm: cost(algorithm, task, gradient, dtype))


def winograd_fits(task):
    """Whether Winograd can compute it at all."""
    square = task.kernel_size[0] == task.kernel_size[1]
    return square and task.stride == task.dilation == (1, 1) and task.groups == 1


def reads_in_place(task, dtype):
    """Whether im2col's gradient of the weights is that of `in_place_gradient`: rows of few
    channels are not worth a copy."""
    return (task.inputs < lanes_of(dtype) and task.groups == 1 and task.dilation == (1, 1)
            and task.outputs % lanes_of(dtype) == 0)


@functools.lru_cache(maxsize=512)
def cost(algorithm, task, gradient, dtype):
    """Clock cycles of one core for a `Task`, estimated.

    im2col multiplies everything and gathers the rows. Winograd multiplies less, transforms input,
    output and weights, and moves what is larger than the caches through memory.
    """
    lanes, tile = lanes_of(dtype), tile_of(algorithm)
    taps, vectors = math.prod(task.kernel_size), -(-task.outputs // lanes)
    pixels = task.images * task.out_h * task.out_w
    weights_size = taps * task.inputs // task.groups * task.outputs * dtype.itemsize

    def product(rows, depth, columns):
        """A matrix product, of whole panels or half of one if that suffices."""
        panel = min(columns, TILE_VECTORS)
        tile_rows = best_rows(rows)
        tiles = -(-rows // tile_rows) * -(-columns // panel)
        return tiles * (depth * tile_rows * panel / FMAS + TILE_CYCLES)

    if tile is None and gradient and reads_in_place(task, dtype):
        return product(taps * task.inputs, pixels, vectors)
    if tile is None:
        depth = taps * task.inputs / task.groups
        product_cost = (product(depth, pixels, vectors) if gradient
                        else product(pixels, depth, vectors))
        # Taps that are neighbours in a row of the image are one run.
        together = task.groups == 1 and task.dilation[1] == 1
        pieces = pixels * task.groups * (task.kernel_size[0] if together else taps)
        gathered = pixels * depth * 2 / lanes / TRANSFORM_OPERATIONS + pieces * PIECE_CYCLES
        return max(product_cost + gathered, weights_size / BYTES)
    r = task.kernel_size[0]
    n = tile + r - 1
    inputs = -(-task.inputs // lanes)
    tiles = task.images * -(-task.out_h // tile) * -(-task.out_w // tile)

    per_tile = (inputs * _transform_cost("input", tile, r)
                + vectors * _transform_cost("output", tile, r))
    if task.inputs % lanes:  # pixels are copied to make whole vectors
        per_tile += n * n * (2 * inputs + 4 * lanes)
    # The weights' transform, or their gradient's back, of pairs of channels.
    per_pair = 0 if task.ready else _transform_cost("weights", tile, r)
    transforms = tiles * per_tile + task.inputs * vectors * per_pair
    transformed_size = n * n * task.inputs * vectors * lanes * dtype.itemsize
    work = transforms / TRANSFORM_OPERATIONS
    if gradient and transformed_size > PART_BYTES and tiles > MOST_TILES_AT_ONCE:
        # V, the transformed gradient and gU go through memory between parallel steps.
        moved = 2 * n * n * tiles * (inputs + vectors) * lanes * dtype.itemsize
        moved += 2 * transformed_size
        return n * n * product(task.inputs, tiles, vectors) + work + moved / BYTES
    # What comes from memory is fetched ahead of the work.
    moved = transformed_size if task.ready else weights_size
    work += n * n * (product(task.inputs, tiles, vectors) if gradient
                     else product(tiles, task.inputs, vectors))
    return max(work, moved / BYTES)


@functools.cache
def _transform_cost(kind, tile, r):
    """Operations of a two-dimensional transform of one tile and one vector of channels."""
    matrix = matrix_of(kind, tile, r)
    rows, columns = len(matrix), len(matrix[0])
    return (columns + rows) * (operations(matrix) + rows + columns)
