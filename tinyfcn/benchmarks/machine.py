"""The machine: its processor, the threads to use, and the versions of what runs on it."""

import contextlib
import importlib.metadata
import importlib.util
import os
import platform
import sys

from .. import console, peers

BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "OMP_NUM_THREADS",
                "VECLIB_MAXIMUM_THREADS")
NUMBA_THREADS, KERNEL_THREADS = "NUMBA_NUM_THREADS", "TINYFCN_THREADS"


@contextlib.contextmanager
def threads(count, with_torch):
    """Let Numba, NumPy's BLAS and PyTorch use `count` threads each, as far as they still can."""
    if "numba" not in sys.modules:
        os.environ.update(dict.fromkeys((NUMBA_THREADS, KERNEL_THREADS), str(count)))
    if "numpy" not in sys.modules:
        os.environ.update(dict.fromkeys(BLAS_THREADS, str(count)))
    import numba

    most = numba.config.NUMBA_NUM_THREADS
    if count > most:
        raise console.CommandError(
            f"--threads {count}: Numba was started with {most} ({NUMBA_THREADS})", console.USAGE)
    from ..kernels.cpu.threads import set_threads

    with contextlib.ExitStack() as stack:
        stack.callback(set_threads, set_threads(count))
        if with_torch:
            import torch

            stack.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(count)
        if importlib.util.find_spec("threadpoolctl"):
            import numpy  # noqa: F401 (what is limited must have been loaded)
            import threadpoolctl

            stack.enter_context(threadpoolctl.threadpool_limits(count, user_api="blas"))
        yield


def cores():
    """How many processors this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe(count):
    """The machine as it goes into the report; `count` threads are used."""
    import numba

    from ..kernels.cpu import simd
    from .peak import peak

    gflops = peak(count)  # first, since Numba has no threading layer before a kernel has run
    return {"cpu": _cpu_model(), "cores": cores(), "threads": count, "simd_bits": simd.BITS,
            "threading_layer": numba.threading_layer(), "peak_gflops": gflops}


def _cpu_model():
    with contextlib.suppress(OSError):
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def is_shortage(error):
    """Whether an error is a lack of memory, for which PyTorch has no type of its own everywhere."""
    return isinstance(error, MemoryError) or any(
        words in str(error) for words in ("not enough memory", "out of memory"))


def versions(used, device="cpu"):
    """Of tinyfcn, of what it runs on and of the peers that are used."""
    import tinyfcn

    found = {"tinyfcn": tinyfcn.__version__, "python": platform.python_version()}
    for name in ("numba", "numpy", *(() if device == "cpu" else ("numba-cuda",)), *used):
        found[name] = importlib.metadata.version(peers.MODULES[name][-1] if name in used else name)
    return found
