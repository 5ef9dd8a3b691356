"""How the gathered products are cut: blocks for caches, jobs for threads, scratch memory."""

from typing import NamedTuple

from . import memory
from .compilation import inline
from .micro_kernel import TILE_ROWS, TILE_VECTORS, panel_width
from .simd import lanes
from .threads import thread_count

# So many jobs for each thread share the work evenly, though one be held up.
JOBS = 4

# Below so many multiplications, about a millisecond of them, one thread does them all: to wake
# another can take longer.
PARALLEL_WORK = 1 << 24


class Blocks(NamedTuple):
    """Block sizes of one call: the depth of a product, its columns, its rows in one go, of which a
    tile has `tile_rows`."""

    depth: int
    columns: int
    rows: int
    tile_rows: int


@inline
def split_scratch(scratch, blocks):
    """A thread's buffers: a tile, panels of B, the gathered rows."""
    panels = TILE_ROWS * TILE_VECTORS * lanes(scratch)
    rows = panels + blocks.depth * blocks.columns
    return scratch[:panels], scratch[panels:rows], scratch[rows:]


def whole_panels(columns, dtype):
    return -(-columns // panel_width(dtype)) * panel_width(dtype)


def workers_for(multiplications):
    """The threads to share this much work."""
    return thread_count() if multiplications >= PARALLEL_WORK else 1


def scratch_for(workers, blocks, dtype):
    width = panel_width(dtype)
    rows = (blocks.rows + TILE_ROWS + width) * blocks.depth
    numbers = TILE_ROWS * width + blocks.depth * blocks.columns + rows
    return memory.scratch(workers, numbers, dtype)


def cut(total, parts, unit):
    """Cut range(total) into at most `parts` even pieces whose borders are multiples of `unit`."""
    units = -(-total // unit)
    borders = [min(total, units * part // parts * unit) for part in range(parts + 1)]
    return [(a, b) for a, b in zip(borders, borders[1:]) if a < b]
