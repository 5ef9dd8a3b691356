"""Arrays in the GPU's memory: where they come from, and the ways to and from the host.

Asking the driver for memory stops the GPU, so blocks are kept and handed out again, by their exact
sizes: images of one shape need the same blocks in the same order, and from the second on there is
nothing left to ask for. When memory runs out, blocks that wait are given back first.
"""

import contextlib
import math
import threading

import numpy as np
from numba import cuda

from ..devices import DeviceMemoryError
from . import launch

# Arrays from the host up to this size go through pinned memory, while kernels run.
STAGED_BYTES = 64 << 20

_uploading = threading.Lock()


class _Pool:
    """What is used again and again, by its kind.

    It is held here while it is in use, too: garbage collection tells the weak references to what it
    found, by which Numba frees memory, before it calls the `__del__` that gives it back.
    """

    def __init__(self):
        self.idle, self.used = {}, {}

    def take(self, kind, make):
        """One that waits, or a new one."""
        try:
            thing = self.idle[kind].pop()
        except (KeyError, IndexError):
            thing = make(*kind)
        self.used[id(thing)] = thing
        return thing

    def give_back(self, kind, thing):
        del self.used[id(thing)]
        self.idle.setdefault(kind, []).append(thing)


_blocks = _Pool()
_landings = _Pool()


class DeviceArray:
    """A C-contiguous array on the GPU. It has a shape and a dtype, no arithmetic: kernels do it.

    Attributes
    ----------
    shape : tuple of ints
    dtype : numpy.dtype
    """

    __slots__ = ("block", "shape")

    def __init__(self, block, shape):
        self.block = block
        self.shape = shape

    @property
    def dtype(self):
        return self.block.numbers.dtype

    @property
    def ndim(self):
        return len(self.shape)

    @property
    def size(self):
        return math.prod(self.shape)

    @property
    def nbytes(self):
        return self.size * self.dtype.itemsize

    @property
    def address(self):
        """What a kernel takes."""
        return self.block.address

    def reshape(self, *shape):
        """The same numbers in another shape, of which one size may be -1."""
        shape = tuple(shape[0]) if len(shape) == 1 and not isinstance(shape[0], int) else shape
        known = math.prod(size for size in shape if size != -1)
        if -1 in shape and known:
            shape = tuple(self.size // known if size == -1 else size for size in shape)
        if math.prod(shape) != self.size:
            raise ValueError(f"cannot reshape {self.shape} into {shape}")
        return DeviceArray(self.block, shape)

    def __repr__(self):
        return f"DeviceArray(shape={self.shape}, dtype={self.dtype}, device={launch.device_name()})"


class _Block:
    """Memory for an array; it waits for the next one when the last array in it is gone."""

    def __init__(self, count, dtype):
        self.kind = count, dtype
        self.held = self.numbers, self.address = _blocks.take(self.kind, _addressed)

    def __del__(self, pool=_blocks):
        # Kernels run in the order of the calls: whoever gets it writes after all that read it.
        if hasattr(self, "held"):
            pool.give_back(self.kind, self.held)


def _addressed(count, dtype):
    numbers = _allocate(count, dtype)
    return numbers, numbers if launch.SIMULATED else numbers.device_ctypes_pointer.value or 0


def _allocate(count, dtype):
    launch.enter()
    for last_try in (False, True):
        try:
            return cuda.device_array(count, dtype)
        except Exception as error:
            if not _is_out_of_memory(error):
                raise launch.translated(error) from None
            if last_try:
                raise DeviceMemoryError(_shortage(count * dtype.itemsize)) from None
            release()


def _is_out_of_memory(error):
    return "OUT_OF_MEMORY" in str(getattr(error, "code", "")) or "OUT_OF_MEMORY" in str(error)


def _shortage(size):
    message = f"not enough memory on {launch.device_name()}: {size / 2**20:.0f} MiB more are needed"
    with contextlib.suppress(Exception):
        free, total = cuda.current_context().get_memory_info()
        message += f", {free / 2**20:.0f} of {total / 2**20:.0f} MiB are free"
    return message


def release():
    """Return the memory that waits for new arrays to the driver."""
    launch.synchronize()
    _blocks.idle.clear()
    with contextlib.suppress(AttributeError):  # the simulator has none
        cuda.current_context().memory_manager.deallocations.clear()


def empty(shape, dtype=np.float32):
    """Like `numpy.empty`, on the GPU."""
    shape = tuple(map(int, shape))
    # Numba has no arrays of nothing.
    return DeviceArray(_Block(max(1, math.prod(shape)), np.dtype(dtype)), shape)


def zeros(shape, dtype=np.float32):
    """Like `numpy.zeros`, on the GPU."""
    return upload(np.zeros(shape, dtype))


class _Stage:
    """Pinned memory and its twin on the GPU, through which arrays of one kind are copied.

    The copy to the twin runs on the stream of copies, while kernels run. Only the copy from there
    to the array, which is short, waits for them.
    """

    def __init__(self, count, dtype):
        self.pinned = cuda.pinned_array(count, dtype)
        self.twin = _allocate(count, dtype)
        self.arrived, self.emptied = _event(), _event()

    def send(self, array, target):
        compute, copies = launch.numba_streams()
        self.arrived.synchronize()  # the host may write again
        self.pinned[...] = array.reshape(-1)
        self.emptied.wait(copies)
        self.twin.copy_to_device(self.pinned, stream=copies)
        self.arrived.record(copies)
        self.arrived.wait(compute)
        target.copy_to_device(self.twin, stream=compute)
        self.emptied.record(compute)


def _event():
    return cuda.event() if launch.SIMULATED else cuda.event(timing=False)


_stages = {}


def upload(array):
    """A copy of a NumPy array on the GPU."""
    array = np.ascontiguousarray(array)
    result = empty(array.shape, array.dtype)
    if array.size == 0:
        return result
    try:
        if array.nbytes > STAGED_BYTES:
            # Not before kernels are done that may still use the block.
            launch.synchronize()
            result.block.numbers.copy_to_device(array.reshape(-1))
        else:
            with _uploading:
                key = array.size, array.dtype
                pair = _stages.setdefault(key, [])
                if len(pair) < 2:
                    pair.append(_Stage(*key))
                else:
                    pair.reverse()
                pair[-1].send(array, result.block.numbers)
                _limit_stages(key)
    except Exception as error:
        raise launch.translated(error) from None
    return result


def _limit_stages(newest):
    """Keep stages of few sizes: photos have many."""
    while sum(key[0] * key[1].itemsize for key in _stages) > 2 * STAGED_BYTES or len(_stages) > 64:
        oldest = next(key for key in _stages if key != newest)
        launch.synchronize()
        del _stages[oldest]


def download(array, target=None):
    """A copy of an array of the GPU in the host's memory, when all kernels before are done."""
    target = np.empty(array.shape, array.dtype) if target is None else target
    if array.size == 0:
        return target
    try:
        compute, _ = launch.numba_streams()
        array.block.numbers.copy_to_host(target.reshape(-1), stream=compute)
        compute.synchronize()
    except Exception as error:
        raise launch.translated(error) from None
    return target


def _landing(count, dtype):
    return cuda.pinned_array(count, dtype), _event()


class Download:
    """A small array on its way to the host, in pinned memory, while kernels go on.

    The pinned memory waits for the next array of the size when this object is gone: to allocate and
    to free it would stop the GPU.
    """

    def __init__(self, array):
        self.array = array  # until it is read
        self.found = None
        self.kind = array.size, array.dtype
        try:
            compute, _ = launch.numba_streams()
            self.held = self.pinned, self.arrived = _landings.take(self.kind, _landing)
            array.block.numbers.copy_to_host(self.pinned, stream=compute)
            self.arrived.record(compute)
        except Exception as error:
            raise launch.translated(error) from None

    def __del__(self, pool=_landings):
        # Copies run in the order of the calls: the next one arrives after this one.
        if hasattr(self, "held"):
            pool.give_back(self.kind, self.held)

    def numbers(self):
        """The array's numbers, a NumPy array (size,); waits for them."""
        if self.found is None:
            try:
                self.arrived.synchronize()
            except Exception as error:
                raise launch.translated(error) from None
            self.found = np.array(self.pinned)
            self.array = None
        return self.found
