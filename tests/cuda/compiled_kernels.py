"""Compile every CUDA kernel without a GPU, the way it is done with one, and say what came out.

A program for test_compilation.py: `python compiled_kernels.py MAJOR.MINOR` prints a JSON list, a
row for each kernel: its name, the registers of a thread, the bytes of its stack, of spills and of
shared memory, and which instructions that cost a GPU dear are in its PTX.
"""
import importlib
import json
import pkgutil
import re
import sys
import types

from cuda.bindings import nvjitlink
from numba import cuda
from numba.cuda import dispatcher

DEAR = {"64-bit division": r"\b(?:div|rem)\.[us]64", "float64": r"\.f64"}


def kernels():
    """(name, kernel) of every kernel, those in tables too."""
    from tinyfcn.kernels import cuda as package
    from tinyfcn.kernels.cuda import algorithms, tensor_product
    from tinyfcn.kernels.cuda.compilation import Kernel

    def within(name, value):
        if isinstance(value, Kernel):
            yield name, value
        elif isinstance(value, dict):
            for key, each in value.items():
                yield from within(f"{name}[{key}]", each)
        elif isinstance(value, list):
            for index, each in enumerate(value):
                yield from within(f"{name}[{index}]", each)

    for module in pkgutil.iter_modules(package.__path__):
        if module.name in ("simulator",):
            continue
        for name, value in vars(importlib.import_module(f"{package.__name__}.{module.name}")).items():
            if getattr(value, "__module__", None) in (None, f"{package.__name__}.{module.name}"):
                yield from within(f"{module.name}.{name}", value)
    for algorithm in algorithms.TF32, algorithms.BF16:
        yield from within(f"{algorithm} product", tensor_product.products(algorithm))
        yield from within(f"{algorithm} gradient", tensor_product.gradients(algorithm))


def build(kernel, capability):
    """PTX, and what the linker reports of the code for a compute capability."""
    # Functions that kernels call ask for the GPU at hand.
    dispatcher.get_current_device = lambda: types.SimpleNamespace(compute_capability=capability)
    options = {"cc": capability, "device": False, "abi": "numba", "launch_bounds": kernel.bounds}
    code, _ = cuda.compile(kernel.function, kernel.argument_types, output="ltoir", **options)
    flags = [f"-arch=sm_{capability[0]}{capability[1]}", "-lto", "-verbose", "-ptx"]
    handle = nvjitlink.create(len(flags), flags)
    try:
        nvjitlink.add_data(handle, nvjitlink.InputType.LTOIR, code, len(code), kernel.__name__)
        nvjitlink.complete(handle)
        ptx = bytearray(nvjitlink.get_linked_ptx_size(handle))
        nvjitlink.get_linked_ptx(handle, ptx)
    finally:
        nvjitlink.destroy(handle)
    flags = flags[:1] + ["-verbose"]
    handle = nvjitlink.create(len(flags), flags)
    try:
        nvjitlink.add_data(handle, nvjitlink.InputType.PTX, bytes(ptx), len(ptx), kernel.__name__)
        nvjitlink.complete(handle)
        log = bytearray(nvjitlink.get_info_log_size(handle))
        nvjitlink.get_info_log(handle, log)
    finally:
        nvjitlink.destroy(handle)
    return ptx.decode(), log.decode()


def report(name, kernel, capability):
    ptx, log = build(kernel, capability)

    def number(pattern):
        return int((re.search(pattern, log) or (0, 0))[1])

    return {
        "kernel": name,
        "threads": kernel.bounds[0],
        "registers": number(r"Used (\d+) registers"),
        "stack": number(r"(\d+) bytes stack"),
        "spills": number(r"(\d+) bytes spill stores"),
        "local": number(r"(\d+) bytes lmem"),
        "shared": number(r"(\d+) bytes smem"),
        "dear": [what for what, pattern in DEAR.items() if re.search(pattern, ptx)],
    }


def main(text):
    capability = tuple(map(int, text.split(".")))
    print(json.dumps([report(name, kernel, capability) for name, kernel in kernels()
                      if kernel.lowest <= capability]))


if __name__ == "__main__":
    main(*sys.argv[1:])
