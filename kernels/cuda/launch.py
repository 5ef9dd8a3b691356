"""Where and how large kernels are launched: the GPU in use, its streams, blocks and tiles.

A process uses one GPU, `select` says which. All kernels run on one stream, in the order of the
calls; copies from the host have another, so that they go on while kernels run.
"""

import atexit
import contextlib
import functools
import threading
from typing import NamedTuple

from numba import config, cuda

from ..devices import DeviceError, DeviceMemoryError

SIMULATED = bool(config.ENABLE_CUDASIM)

THREADS = 256  # of the kernels that treat every number for itself

# Matrix products in float32: warps of a block, down and across, of which a warp's tile is 64 x 32;
# and how many blocks shall fit on a multiprocessor, which leaves 128, 168 and 255 registers to a
# thread.
BLOCKS = ((2, 4, 2), (2, 2, 3), (1, 1, 8))
TILES = tuple((64 * down, 32 * across) for down, across, _ in BLOCKS)
# The same on tensor cores.
TENSOR_BLOCKS = ((2, 2, 3), (1, 1, 8))
TENSOR_TILES = tuple((64 * down, 32 * across) for down, across, _ in TENSOR_BLOCKS)
# Of all their shapes: steps of the depth below which a product is not worth sharing, and the most
# shares. All shares' results go through memory once more.
LEAST_STEPS = 32
MOST_SHARES = 128
SHARED_BYTES = 256 << 20

# Of Winograd's algorithm: of transformed pixels and products that are there at a time.
WORKSPACE_BYTES = 256 << 20

# Of a multiprocessor, numbers that it multiplies in a clock cycle; 128 on other GPUs.
LANES = {(7, 5): 64, (8, 0): 64}

_selected = None
_entered = threading.local()
_abandoned = []


def select(number):
    """Use GPU `number` from now on, in all threads.

    Raises
    ------
    DeviceError
        If this process has used another one already.
    """
    global _selected
    if _selected is not None and _selected != number:
        raise DeviceError(f"this process uses cuda:{_selected} already, "
                          f"it cannot use cuda:{number}")
    _selected = number
    enter()


def device_name():
    """The GPU in use, "cuda:N"."""
    return f"cuda:{_selected or 0}"


def enter():
    """Make the calling thread use the selected GPU."""
    if not hasattr(_entered, "context"):
        try:
            cuda.select_device(_selected or 0)
            _entered.context = cuda.current_context()
            atexit.register(_abandon)
        except Exception as error:
            raise translated(error) from None


@functools.cache
def _streams():
    return cuda.stream(), cuda.stream()


def numba_streams():
    """The streams of kernels and of copies, as Numba's copying functions take them."""
    enter()
    return _streams()


@functools.cache
def _core_stream():
    from numba.cuda.cudadrv import driver

    return driver._to_core_stream(numba_streams()[0])


def compute_stream():
    """The stream of kernels, as launching takes it."""
    enter()
    return None if SIMULATED else _core_stream()


def synchronize():
    """Wait until the GPU has done all that was asked of it."""
    if not _streams.cache_info().currsize:  # nothing was
        return
    try:
        for stream in numba_streams():
            stream.synchronize()
    except Exception as error:
        raise translated(error) from None


def translated(error):
    """What to raise for an error: those of driver and GPU become a `DeviceError`."""
    if isinstance(error, DeviceError | DeviceMemoryError):
        return error
    if type(error).__module__.startswith(("cuda.", "numba.cuda.cudadrv")):
        _abandon()
        reason = " ".join(str(error).split())
        return DeviceError(f"{device_name()} failed: {reason}")
    return error


def _abandon():
    """Give nothing back from now on, neither to a GPU that failed, which would refuse each piece
    with a traceback, nor at the end of the process, when the driver takes all at once."""
    with contextlib.suppress(AttributeError):  # no context yet, or the simulator's
        cleanup = _entered.context.defer_cleanup()
        cleanup.__enter__()
        _abandoned.append(cleanup)  # or it would end here


@functools.cache
def multiprocessors():
    """How many multiprocessors the GPU has."""
    enter()
    return 2 if SIMULATED else cuda.get_current_device().MULTIPROCESSOR_COUNT


@functools.cache
def capability():
    """The GPU's compute capability, (major, minor)."""
    enter()
    return (8, 0) if SIMULATED else tuple(cuda.get_current_device().compute_capability)


class Peaks(NamedTuple):
    """What a GPU does in a second by its data sheet: in float32, and to and from its memory."""

    flops: float
    bytes: float


@functools.cache
def peaks():
    """The GPU's `Peaks`, at its highest clocks."""
    enter()
    if SIMULATED:
        return Peaks(1e13, 1e12)
    gpu = cuda.get_current_device()
    flops = 2e3 * gpu.MULTIPROCESSOR_COUNT * LANES.get(capability(), 128) * gpu.CLOCK_RATE
    # Memory transfers twice a cycle. Some drivers do not tell its clock.
    bandwidth = 2e3 * gpu.MEMORY_CLOCK_RATE * gpu.GLOBAL_MEMORY_BUS_WIDTH / 8
    return Peaks(flops, bandwidth or flops / 20)


def blocks_for(count):
    """Blocks of `THREADS` threads, one for each of `count` numbers."""
    return -(-count // THREADS)


def choose_tile(tiles, rows, columns):
    """The tile for a matrix of results: the largest that wastes little of itself.

    Parameters
    ----------
    tiles : sequence of (rows, columns)
        The largest first, the smallest last.

    Returns
    -------
    int
        Its index.
    """
    for index, (tile_rows, tile_columns) in enumerate(tiles[:-1]):
        if rows > tile_rows // 2 and columns > tile_columns // 2:
            return index
    return len(tiles) - 1


def shares(blocks, resident, steps, result_bytes):
    """How many blocks share the depth of each tile, so that all multiprocessors have work.

    No more than have room at once, `resident` on a multiprocessor: one more would begin a second
    round.
    """
    places = resident * multiprocessors()
    most = min(MOST_SHARES, steps // LEAST_STEPS, SHARED_BYTES // max(1, result_bytes))
    return max(1, min(places // blocks, most))
