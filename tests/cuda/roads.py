"""From a naive matrix product to a fast one: what each step changes, by what the compiler says.

`python tests/cuda/roads.py` compiles the steps of `docs/gpu.md`, the last ones being tinyfcn's own
kernels, and prints for each what a multiply-add costs in its inner loop. That needs no GPU, but
nvdisasm (`pip install nvidia-cuda-nvdisasm`). With --times they are timed on the GPU that there is.

The products are c (m, n) = a (m, k) b (k, n), row by row; m and n are multiples of 128, k of 16.
"""
import re
import subprocess
import sys
import tempfile
import time

import numpy as np
from numba import cuda
from numba.cuda.types import float32, int32

from tinyfcn.kernels.cuda import algorithms, float32_product, tensor_product
from tinyfcn.kernels.cuda.compilation import FLOATS, INT, inline, kernel
from tinyfcn.kernels.cuda.target import add_outer_product, load4, store4

ARGUMENTS = FLOATS, FLOATS, FLOATS, INT, INT
SIDE = 16    # of a tile that is a result a thread
TILE, DEPTH = 128, 8  # of one that is 8 x 8 results a thread: 256 threads


@kernel(*ARGUMENTS, threads=(SIDE, SIDE))
def a_thread_for_each_result(a, b, c, n, k):
    row = cuda.blockIdx.y * SIDE + cuda.threadIdx.y
    column = cuda.blockIdx.x * SIDE + cuda.threadIdx.x
    total = float32(0)
    for i in range(k):
        total += a[row * k + i] * b[i * n + column]
    c[row * n + column] = total


@kernel(*ARGUMENTS, threads=(SIDE, SIDE))
def places_in_32_bits(a, b, c, n, k):
    row = int32(cuda.blockIdx.y * SIDE + cuda.threadIdx.y)
    column = int32(cuda.blockIdx.x * SIDE + cuda.threadIdx.x)
    total = float32(0)
    a_at, b_at, i = int32(row * k), column, int32(0)
    while i < k:
        total += a[a_at] * b[b_at]
        a_at, b_at, i = int32(a_at + 1), int32(b_at + n), int32(i + 1)
    c[int32(row * n + column)] = total


@kernel(*ARGUMENTS, threads=(SIDE, SIDE))
def tiles_in_shared_memory(a, b, c, n, k):
    a_tile = cuda.shared.array(256, float32)
    b_tile = cuda.shared.array(256, float32)
    y, x = int32(cuda.threadIdx.y), int32(cuda.threadIdx.x)
    row, column = int32(cuda.blockIdx.y * SIDE + y), int32(cuda.blockIdx.x * SIDE + x)
    here = int32(y * SIDE + x)
    total, first = float32(0), int32(0)
    while first < k:
        a_tile[here] = a[int32(row * k + first + x)]
        b_tile[here] = b[int32((first + y) * n + column)]
        cuda.syncthreads()
        for i in range(SIDE):
            total += a_tile[int32(y * SIDE + i)] * b_tile[int32(i * SIDE + x)]
        cuda.syncthreads()
        first = int32(first + SIDE)
    c[int32(row * n + column)] = total


@inline
def outer_product(sums, left, right, a_tile, b_tile, a_at, b_at):
    for i in range(8):
        left[i] = a_tile[int32(a_at + i)]
        right[i] = b_tile[int32(b_at + i)]
    add_outer_product(sums, left, right)


@kernel(*ARGUMENTS)
def results_in_registers(a, b, c, n, k):
    a_tile = cuda.shared.array(1024, float32)  # of which a row holds what is at one depth
    b_tile = cuda.shared.array(1024, float32)
    sums = cuda.local.array((8, 8), float32)
    left = cuda.local.array(8, float32)
    right = cuda.local.array(8, float32)
    thread = int32(cuda.threadIdx.x)
    row0, column0 = int32(cuda.blockIdx.y * TILE), int32(cuda.blockIdx.x * TILE)
    y, x = int32((thread >> 4) * 8), int32((thread & 15) * 8)
    for i in range(8):
        for j in range(8):
            sums[i, j] = float32(0)
    first = int32(0)
    while first < k:
        for i in range(4):
            at = int32(thread + i * 256)
            a_tile[int32((at & 7) * TILE + (at >> 3))] = a[
                int32((row0 + (at >> 3)) * k + first + (at & 7))]
            b_tile[at] = b[int32((first + (at >> 7)) * n + column0 + (at & 127))]
        cuda.syncthreads()
        outer_product(sums, left, right, a_tile, b_tile, y, x)
        outer_product(sums, left, right, a_tile, b_tile, y + 1 * TILE, x + 1 * TILE)
        outer_product(sums, left, right, a_tile, b_tile, y + 2 * TILE, x + 2 * TILE)
        outer_product(sums, left, right, a_tile, b_tile, y + 3 * TILE, x + 3 * TILE)
        outer_product(sums, left, right, a_tile, b_tile, y + 4 * TILE, x + 4 * TILE)
        outer_product(sums, left, right, a_tile, b_tile, y + 5 * TILE, x + 5 * TILE)
        outer_product(sums, left, right, a_tile, b_tile, y + 6 * TILE, x + 6 * TILE)
        outer_product(sums, left, right, a_tile, b_tile, y + 7 * TILE, x + 7 * TILE)
        cuda.syncthreads()
        first = int32(first + DEPTH)
    for i in range(8):
        for j in range(8):
            c[int32((row0 + y + i) * n + column0 + x + j)] = sums[i, j]


@inline
def outer_product_of_quads(sums, left, right, a_tile, b_tile, a_at, b_at):
    left[0], left[1], left[2], left[3] = load4(a_tile, a_at)
    left[4], left[5], left[6], left[7] = load4(a_tile, a_at + 4)
    right[0], right[1], right[2], right[3] = load4(b_tile, b_at)
    right[4], right[5], right[6], right[7] = load4(b_tile, b_at + 4)
    add_outer_product(sums, left, right)


@inline
def store_row(c, at, sums, i):
    store4(c, at, sums[i, 0], sums[i, 1], sums[i, 2], sums[i, 3])
    store4(c, at + 4, sums[i, 4], sums[i, 5], sums[i, 6], sums[i, 7])


@kernel(*ARGUMENTS)
def loads_of_128_bits(a, b, c, n, k):
    a_tile = cuda.shared.array(1024, float32, alignment=16)
    b_tile = cuda.shared.array(1024, float32, alignment=16)
    sums = cuda.local.array((8, 8), float32)
    left = cuda.local.array(8, float32)
    right = cuda.local.array(8, float32)
    thread = int32(cuda.threadIdx.x)
    row0, column0 = int32(cuda.blockIdx.y * TILE), int32(cuda.blockIdx.x * TILE)
    y, x = int32((thread >> 4) * 8), int32((thread & 15) * 8)
    a_row, a_depth = int32(thread >> 1), int32((thread & 1) * 4)
    b_depth, b_column = int32(thread >> 5), int32((thread & 31) * 4)
    for i in range(8):
        for j in range(8):
            sums[i, j] = float32(0)
    first = int32(0)
    while first < k:
        to = int32(a_depth * TILE + a_row)
        a_tile[to], a_tile[to + 128], a_tile[to + 256], a_tile[to + 384] = load4(
            a, int32((row0 + a_row) * k + first + a_depth))
        x0, x1, x2, x3 = load4(b, int32((first + b_depth) * n + column0 + b_column))
        store4(b_tile, int32(b_depth * TILE + b_column), x0, x1, x2, x3)
        cuda.syncthreads()
        outer_product_of_quads(sums, left, right, a_tile, b_tile, y, x)
        outer_product_of_quads(sums, left, right, a_tile, b_tile, y + 1 * TILE, x + 1 * TILE)
        outer_product_of_quads(sums, left, right, a_tile, b_tile, y + 2 * TILE, x + 2 * TILE)
        outer_product_of_quads(sums, left, right, a_tile, b_tile, y + 3 * TILE, x + 3 * TILE)
        outer_product_of_quads(sums, left, right, a_tile, b_tile, y + 4 * TILE, x + 4 * TILE)
        outer_product_of_quads(sums, left, right, a_tile, b_tile, y + 5 * TILE, x + 5 * TILE)
        outer_product_of_quads(sums, left, right, a_tile, b_tile, y + 6 * TILE, x + 6 * TILE)
        outer_product_of_quads(sums, left, right, a_tile, b_tile, y + 7 * TILE, x + 7 * TILE)
        cuda.syncthreads()
        first = int32(first + DEPTH)
    at = int32((row0 + y) * n + column0 + x)
    store_row(c, at, sums, 0)
    store_row(c, int32(at + n), sums, 1)
    store_row(c, int32(at + 2 * n), sums, 2)
    store_row(c, int32(at + 3 * n), sums, 3)
    store_row(c, int32(at + 4 * n), sums, 4)
    store_row(c, int32(at + 5 * n), sums, 5)
    store_row(c, int32(at + 6 * n), sums, 6)
    store_row(c, int32(at + 7 * n), sums, 7)


ROADS = {
    "a thread for each result": a_thread_for_each_result,
    "places in 32 bits": places_in_32_bits,
    "tiles of 16 x 16 in shared memory": tiles_in_shared_memory,
    "8 x 8 results in registers": results_in_registers,
    "loads and stores of 128 bits": loads_of_128_bits,
}


def product(road, a, b, c):
    """c = a b on the GPU, by one of the kernels above."""
    tile = TILE if road.threads[1] == 1 else SIDE
    m, n = c.shape
    road.launch((n // tile, m // tile), a, b, c, n, a.shape[1])


def own_kernels():
    """(name, kernel) of tinyfcn's, which do convolutions too."""
    yield "tinyfcn's, float32", float32_product.products(algorithms.IM2COL)[0, False]
    for name, algorithm in ("TF32", algorithms.TF32), ("BF16", algorithms.BF16):
        yield f"tinyfcn's, {name}", tensor_product.products(algorithm)[0, False]


# ---- what the compiler says

# Multiply-adds of a thread's share of an instruction.
WORK = {"FFMA": 1, "HMMA.1688.F32.TF32": 32, "HMMA.16816.F32.BF16": 64}


def machine_code(kernel):
    """(label, "", "") or ("", name, operands) of each label and instruction of a kernel."""
    from compiled_kernels import compiled, link
    from cuda.pathfinder import find_nvidia_binary_utility

    disassembler = find_nvidia_binary_utility("nvdisasm")
    if disassembler is None:
        sys.exit("nvdisasm is not there: pip install nvidia-cuda-nvdisasm")
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(link(compiled(kernel)[0], (9, 0))[0])
        file.flush()
        text = subprocess.run([disassembler, "-c", file.name], check=True, capture_output=True,
                              text=True).stdout
    return re.findall(r"^(\.L_\w+):|^\s+/\*\w+\*/\s+(?:@!?U?P\w+ )?(\S+)(.*);", text, re.MULTILINE)


def inner_loop(code):
    """The names of the instructions of the loop with most multiply-adds."""
    labels = {label: at for at, (label, _, _) in enumerate(code) if label}
    loops = []
    for at, (_, name, operands) in enumerate(code):
        to = re.search(r"\.L_\w+", operands)
        if name.startswith("BRA") and to and labels.get(to[0], at) < at:
            loops.append([name for _, name, _ in code[labels[to[0]]:at + 1] if name])
    return max(loops, key=multiply_adds)


def multiply_adds(names):
    """Of matrix instructions alone, where there are any: the others round their factors there."""
    matrix = [name for name in names if name.startswith("HMMA")]
    return sum(WORK.get(name, 0) for name in matrix or names)


def per_multiply_add(names):
    """Instructions, and those that load from either memory, for each multiply-add of a thread."""
    kinds = ("",), ("LDG", "LDGSTS"), ("LDS",)
    counts = [sum(name.startswith(kind) for name in names) for kind in kinds]
    return [count / multiply_adds(names) for count in counts]


def print_table():
    from compiled_kernels import report

    print("| kernel | registers | shared memory | instructions | loads, global | loads, shared |")
    print("|---|---|---|---|---|---|")
    for name, road in (*ROADS.items(), *own_kernels()):
        found = report(name, road)["targets"]["9.0"]
        assert not found["stack"] and not found["spills"], name
        costs = " | ".join(f"{cost:.3g}" for cost in per_multiply_add(
            inner_loop(machine_code(road))))
        print(f"| {name} | {found['registers']} | {found['shared']} | {costs} |", flush=True)


# ---- what a GPU says


def print_times(device, side=4096):
    """TFLOP/s of each, the best of several runs."""
    from tinyfcn import arrays
    from tinyfcn.kernels import cuda as ops

    rng = np.random.default_rng(1)
    a, b = (arrays.to_device(rng.standard_normal((side, side), np.float32), device)
            for _ in range(2))
    c = arrays.zeros_like(a)
    expected = None

    def run(name, call, allowed=1e-4):
        nonlocal expected
        seconds = []
        for _ in range(6):
            arrays.synchronize()
            began = time.perf_counter()
            result = call()
            arrays.synchronize()
            seconds.append(time.perf_counter() - began)
        corner = arrays.to_host(result)[:256, :256]
        expected = corner if expected is None else expected
        if not np.abs(corner - expected).max() <= allowed * np.abs(expected).max() > 0:
            sys.exit(f"{name}: another product than by {next(iter(ROADS))}")
        print(f"{name:<36} {2e-12 * side**3 / min(seconds):7.2f} TFLOP/s", flush=True)

    for name, road in ROADS.items():
        def by_road(road=road):
            product(road, a, b, c)
            return c

        run(name, by_road)
    for name, precision in ("float32", "float32"), ("TF32", "tf32"), ("BF16", "bf16"):
        try:
            arrays.set_precision(precision, device)
        except arrays.DeviceError as error:
            print(error)
            continue
        run(f"tinyfcn's, {name}", lambda: ops.matrix_product(a, b),
            1e-4 if name == "float32" else 1e-2)


if __name__ == "__main__":
    if sys.argv[1:] == ["--times"]:
        from tinyfcn import arrays

        print_times(arrays.find("cuda"))
    else:
        print_table()
