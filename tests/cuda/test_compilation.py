"""The kernels for GPUs, compiled without one: names and signatures, registers, no spills."""
import concurrent.futures
import inspect
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

PROGRAM = pathlib.Path(__file__).with_name("compiled_kernels.py")
PROCESSES = 2
REGISTERS = 65536  # of a multiprocessor, on every target
SHARED_BYTES = 48 << 10  # of a block
# These add up in float64, where float32 would lose digits.
IN_FLOAT64 = {"column_sums._partial_sums", "column_sums._finish", "loss._cross_entropy"}


def python(program):
    """What a program prints in a process that may use GPUs, not the simulator of one."""
    environment = {name: value for name, value in os.environ.items()
                   if name != "NUMBA_ENABLE_CUDASIM"}
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True,
                         env=environment)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_cuda_offers_the_kernels_of_the_cpu_with_their_signatures(needs_numba_cuda):
    from tinyfcn.kernels import cpu, cuda

    assert cuda.__all__ == cpu.__all__
    for name in cpu.__all__:
        ours, theirs = getattr(cuda, name), getattr(cpu, name)
        assert inspect.signature(ours) == inspect.signature(theirs), name
        assert ours.__module__.rpartition(".")[2] == theirs.__module__.rpartition(".")[2], name
        assert inspect.getdoc(ours).strip(), name


def test_importing_them_asks_no_driver(needs_numba_cuda):
    run = python("import tinyfcn.kernels.cuda as cuda; from tinyfcn.kernels.cuda import launch; "
                 "assert launch._selected is None; print(len(cuda.__all__))")
    assert int(run) > 20


def test_nothing_of_cuda_is_imported_before_a_gpu_is_used(needs_numba_cuda):
    """Not even to find out which there are."""
    found = python("import sys, tinyfcn.kernels.cpu, tinyfcn.training, tinyfcn.segment\n"
                   "from tinyfcn import arrays, inference\n"
                   "arrays.find('auto'), arrays.synchronize()\n"
                   "print([name for name in sys.modules\n"
                   "       if name.partition('.')[0] in ('cuda', 'numba_cuda')\n"
                   "       or name.startswith('numba.cuda')])")
    assert found.strip() == "[]"


def test_intrinsics_are_in_one_file():
    for path in (PROGRAM.parents[2] / "kernels/cuda").glob("*.py"):
        words = re.findall(r"llvmlite|InlineAsm|@intrinsic", path.read_text(encoding="utf-8"))
        assert bool(words) == (path.name == "intrinsics.py"), path


def test_each_kernel_has_files_of_its_own_in_every_process(needs_numba_cuda):
    """Or a process would load another kernel's code, or none that an earlier one kept."""
    program = (f"import sys; sys.path.insert(0, {str(PROGRAM.parent)!r})\n"
               "from compiled_kernels import kernels\n"
               "from tinyfcn.kernels.cuda.cache import KernelCache\n"
               "for name, kernel in kernels():\n"
               "    cache = KernelCache(kernel.function, kernel.argument_types)\n"
               "    print(name, cache._cache_file._index_name)")
    first, second = python(program), python(program)
    assert first == second
    files = [line.rpartition(" ")[2] for line in first.splitlines()]
    assert len(files) > 60
    assert len(set(files)) == len(files)


@pytest.fixture(scope="module")
def rows(needs_numba_cuda):
    """What compiled_kernels.py says of every kernel."""
    environment = {name: value for name, value in os.environ.items()
                   if name != "NUMBA_ENABLE_CUDASIM"}

    def share(index):
        run = subprocess.run([sys.executable, str(PROGRAM), "--json", str(index), str(PROCESSES)],
                             capture_output=True, text=True, env=environment, timeout=600)
        assert run.returncode == 0, run.stderr[-3000:]
        return json.loads(run.stdout)

    with concurrent.futures.ThreadPoolExecutor(PROCESSES) as pool:
        return sum(pool.map(share, range(PROCESSES)), [])


@pytest.mark.cuda_compile
def test_every_kernel_is_compiled_for_every_target(rows):
    modules = {row["kernel"].partition(".")[0].partition(" ")[0] for row in rows}
    assert modules == {
        "batch_norm", "column_sums", "elementwise", "float32_product", "gathered_product",
        "interpolation", "local_response_normalization", "loss", "padding", "pooling",
        "tensor_product", "transposition", "update", "winograd",
    }
    for row in rows:
        lowest = 8.0 if row["kernel"].startswith("tensor_product") else 7.5
        wanted = {each for each in ("7.5", "8.0", "8.6", "9.0") if float(each) >= lowest}
        assert set(row["targets"]) == wanted, row["kernel"]


@pytest.mark.cuda_compile
def test_everything_stays_in_registers(rows):
    wrong = [
        (row["kernel"], target, found) for row in rows for target, found in row["targets"].items()
        if found["stack"] or found["spills"] or found["registers"] == 0
        or found["registers"] * row["threads"] * row["blocks"] > REGISTERS
        or found["shared"] > SHARED_BYTES
    ]
    assert wrong == []


@pytest.mark.cuda_compile
def test_nothing_is_dear_by_accident(rows):
    assert {row["kernel"] for row in rows if "float64" in row["dear"]} == IN_FLOAT64
    assert [row["kernel"] for row in rows if "64-bit division" in row["dear"]] == []
    assert [row["kernel"] for row in rows if "atomics" in row["dear"]] == []


@pytest.mark.cuda_compile
def test_products_are_made_of_what_they_are_fast_by(rows):
    """Which a change of Numba or of an index could take away without a wrong number."""
    fast = {row["kernel"]: set(row["fast"]) for row in rows}
    for name, found in fast.items():
        if name.startswith("float32_product"):
            assert found == {"128-bit loads", "128-bit stores",
                             "128-bit loads of shared memory"}, name
        elif name.startswith("tensor_product"):
            assert found == {"asynchronous copies", "128-bit stores",
                             "128-bit loads of shared memory",
                             re.search("tf32|bf16", name)[0]}, name
        else:
            assert not found, name


@pytest.mark.cuda_compile
def test_each_road_costs_less_than_the_one_before(needs_numba_cuda):
    """Instructions for each multiply-add, and loads from the GPU's and from shared memory."""
    from cuda.pathfinder import find_nvidia_binary_utility

    if find_nvidia_binary_utility("nvdisasm") is None:
        pytest.skip("needs nvdisasm: pip install nvidia-cuda-nvdisasm")
    run = subprocess.run([sys.executable, PROGRAM.with_name("roads.py")], capture_output=True,
                         text=True, check=True, timeout=240)
    rows = [line.strip("|").split("|") for line in run.stdout.splitlines()[2:]]
    costs = {row[0].strip(): [float(cell) for cell in row[3:]] for row in rows}
    naive, places, tiles, registers, quads, own, tf32, bf16 = costs.values()
    assert naive[1] == places[1] == 2 and tiles[1] == 2 / 16
    assert naive[0] > 1.5 * places[0] and places[0] > 4 * registers[0]
    assert registers[1] < tiles[1] / 4 and registers[2] < tiles[2] / 4
    assert quads[0] < registers[0] and quads[1] < registers[1] / 2 and quads[2] < registers[2] / 2
    assert own[0] < 1.4 and own[2] == quads[2]
    assert bf16[0] < tf32[0] < own[0] / 2
