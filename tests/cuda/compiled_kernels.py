"""Compile every CUDA kernel without a GPU, by Numba's own road, and say what came out.

`python compiled_kernels.py` prints a table, a row for each kernel and a column for each target: the
registers of a thread, and what is wrong if something is. `python compiled_kernels.py --json I N`,
which test_compilation.py calls, prints a JSON list of the I-th of N shares of the kernels: name,
threads and blocks that its bounds promise, which instructions that cost a GPU dear are in its PTX
and which fast ones, and for each target the registers, the bytes of stack, spills and shared
memory. With --here I N a share is compiled for the GPU that there is, and kept on disk.
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

TARGETS = ((7, 5), (8, 0), (8, 6), (9, 0))
DEAR = {"64-bit division": r"\b(?:div|rem)\.[us]64", "float64": r"\.f64",
        "atomics": r"\b(?:atom|red)\."}
FAST = {
    "128-bit loads": r"\bld\.global\.(?:nc\.)?v4\.f32",
    "128-bit stores": r"\bst\.global\.v4\.f32",
    "128-bit loads of shared memory": r"\bld\.shared\.v4\.f32",
    "asynchronous copies": r"\bcp\.async\.cg\.shared\.global",
    "tf32": r"\bmma\.sync\.\S*\.tf32\.",
    "bf16": r"\bmma\.sync\.\S*\.bf16\.",
}


def kernels():
    """(name, kernel) of every kernel, those in tables too."""
    from tinyfcn.kernels import cuda as package
    from tinyfcn.kernels.cuda import (
        algorithms,
        float32_product,
        tensor_product,
        winograd_transforms,
    )
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

    for info in pkgutil.iter_modules(package.__path__):
        if info.name == "simulator":
            continue
        for name, value in vars(importlib.import_module(f"{package.__name__}.{info.name}")).items():
            if not isinstance(value, Kernel) or value.__module__.endswith(f".{info.name}"):
                yield from within(f"{info.name}.{name}", value)
    for r, tiles in algorithms.WINOGRAD_TILES.items():
        for m in tiles:
            found = winograd_transforms.transforms(m, r)._asdict()
            yield from within(f"winograd F({m}, {r})", found)
    for module, algorithm in (
        (float32_product, algorithms.IM2COL), (tensor_product, algorithms.TF32),
        (tensor_product, algorithms.BF16),
    ):
        name = f"{module.__name__.rpartition('.')[2]} {algorithm}"
        yield from within(f"{name} product", module.products(algorithm))
        yield from within(f"{name} gradient", module.gradients(algorithm))


def link(code, capability, *flags):
    """Link intermediate code for a target; return (machine code, or PTX if asked for, a report)."""
    flags = [f"-arch=sm_{capability[0]}{capability[1]}", "-lto", "-verbose", *flags]
    handle = nvjitlink.create(len(flags), flags)

    def get(what):
        text = bytearray(getattr(nvjitlink, f"get_{what}_size")(handle))
        getattr(nvjitlink, f"get_{what}")(handle, text)
        return bytes(text)

    try:
        nvjitlink.add_data(handle, nvjitlink.InputType.LTOIR, code, len(code), "kernel")
        nvjitlink.complete(handle)
        return get("linked_ptx" if "-ptx" in flags else "linked_cubin"), get("info_log").decode()
    finally:
        nvjitlink.destroy(handle)


def compiled(kernel):
    """A kernel's intermediate code and its PTX, for the lowest target."""
    # Functions that kernels call ask for the GPU at hand.
    dispatcher.get_current_device = lambda: types.SimpleNamespace(compute_capability=kernel.lowest)
    code, _ = cuda.compile(
        kernel.function, kernel.argument_types, cc=kernel.lowest, output="ltoir", device=False,
        abi="numba", launch_bounds=kernel.bounds)
    ptx, _ = link(code, kernel.lowest, "-ptx")
    assert b".entry" in ptx
    return code, ptx.decode()


def report(name, kernel):
    code, ptx = compiled(kernel)
    found = {}
    for capability in TARGETS:
        if capability < kernel.lowest:
            continue
        _, log = link(code, capability)

        def number(pattern, needed=False, log=log):
            match = re.search(pattern, log)
            assert match or not needed, log
            return int(match[1]) if match else 0

        found[".".join(map(str, capability))] = {
            "registers": number(r"Used (\d+) registers", needed=True),
            "stack": number(r"(\d+) bytes stack frame", needed=True),
            "spills": number(r"(\d+) bytes spill stores", needed=True),
            "shared": number(r"(\d+) bytes smem"),
        }
    return {
        "kernel": name, "threads": kernel.bounds[0], "blocks": kernel.bounds[1],
        "dear": [what for what, pattern in DEAR.items() if re.search(pattern, ptx)],
        "fast": [what for what, pattern in FAST.items() if re.search(pattern, ptx)],
        "targets": found,
    }


def print_table():
    heads = [f"sm_{major}{minor}" for major, minor in TARGETS]
    print("| kernel | threads | shared memory |", " | ".join(heads), "|")
    print("|---|---|---|" + "---|" * len(heads))
    for name, kernel in kernels():
        row = report(name, kernel)
        cells = []
        for target in TARGETS:
            found = row["targets"].get(".".join(map(str, target)))
            wrong = found and (found["stack"] or found["spills"])
            cells.append("" if not found else f"{found['registers']}{' SPILLS' if wrong else ''}")
        shared = max(found["shared"] for found in row["targets"].values())
        print(f"| {name} | {row['threads']} | {shared} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--json"]:
        first, step = map(int, sys.argv[2:])
        print(json.dumps([report(*pair) for pair in list(kernels())[first::step]]))
    elif sys.argv[1:2] == ["--here"]:
        from tinyfcn.kernels.cuda import launch

        first, step = map(int, sys.argv[2:])
        for _, each in list(kernels())[first::step]:
            if each.lowest <= launch.capability():
                each.compile()
    else:
        print_table()
