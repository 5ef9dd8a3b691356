"""The host's side of the target: what it asks of a driver, and what it says when that refuses.

The simulator takes the place of Numba's whole road to a GPU; here that road is taken, with kernels
compiled, kept on disk, loaded and launched, to a driver that computes nothing (`fake_driver.c`).
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.cuda_driver

SOURCE = pathlib.Path(__file__).with_name("fake_driver.c")
NOTICE = "compiling kernels for this GPU (done once, then kept on disk) ..."

# `steps` training steps of a small net, of which the loss is read after the first `read`.
TRAINING = """
import sys
import numpy as np
from tinyfcn import arrays, losses, models, optimizers

steps, read = map(int, sys.argv[1:])
net = models.FCN8s(classes=3, width=1 / 32, fc_channels=8).to("cuda:0")
x, labels = np.ones((1, 9, 11, 3), np.float32), np.zeros((1, 9, 11), np.uint8)
optimizer = optimizers.SGD(net)
optimizer.to("cuda:0")
for step in range(steps):
    scores = net.forward(arrays.to_device(x, "cuda:0"), keep=True)
    loss, gscores = losses.softmax_loss(scores, labels, 255)
    net.backward(gscores, input_gradient=False)
    optimizer.step(0.1)
    if step < read:
        assert float(loss) == 0
"""


@pytest.fixture(scope="module")
def run(needs_numba_cuda, tmp_path_factory):
    """Give a function that runs Python on a machine with the fake driver, set as it is told.

    It returns the process and the counts of the calls. Kernels are kept for all tests.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs a C compiler, on Linux")
    folder = tmp_path_factory.mktemp("driver")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", folder / "libcuda.so.1", SOURCE,
                    "-ldl"], check=True)
    unset = {"NUMBA_ENABLE_CUDASIM", "NUMBA_DISABLE_CUDA"}
    common = {name: value for name, value in os.environ.items() if name not in unset} | {
        "LD_LIBRARY_PATH": f"{folder}:{os.environ.get('LD_LIBRARY_PATH', '')}",
        "NUMBA_CACHE_DIR": str(folder / "kernels"), "FAKE_LOG": str(folder / "log")}

    def call(*arguments, **settings):
        process = subprocess.run(
            [sys.executable, *map(str, arguments)], capture_output=True, text=True, timeout=240,
            env=common | {name: str(value) for name, value in settings.items()})
        lines = (folder / "log").read_text().splitlines()
        return process, {name: int(count) for name, count in map(str.split, lines)}

    return call


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A small net's file, and a folder of five photos of one size."""
    from tinyfcn import loading, models

    folder = tmp_path_factory.mktemp("photos")
    net = models.FCN8s(classes=3, width=1 / 32, fc_channels=8)
    loading.save_model(net, folder / "net.h5")
    for index in range(5):
        Image.fromarray(np.full((9, 11, 3), 40 * index, np.uint8)).save(folder / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def first(run, photos):
    """The first segmentation there is: its process and the counts of its calls."""
    return run("-m", "tinyfcn.segment", photos / "0.png", "--weights", photos / "net.h5",
               "--device", "cuda", "-o", photos / "first")


@pytest.fixture
def segment(run, photos, first, tmp_path):
    """Segment the first so many photos: (exit code, lines on stderr, counts of calls)."""
    def call(count=1, device="cuda", **settings):
        process, counts = run(
            "-m", "tinyfcn.segment", *(photos / f"{index}.png" for index in range(count)),
            "--weights", photos / "net.h5", "--device", device, "-o", tmp_path / "out", **settings)
        assert "Traceback" not in process.stderr
        return process.returncode, process.stderr.splitlines(), counts

    return call


def test_the_first_run_compiles_and_says_so_and_later_ones_load(first, segment):
    process, counts = first
    assert process.returncode == 0
    device = "tinyfcn-segment: device cuda:0 (Fake 0, compute capability 9.0)"
    assert process.stderr.splitlines() == [device, f"tinyfcn-segment: {NOTICE}"]
    code, lines, again = segment()
    assert (code, lines) == (0, [device])
    assert again["cuLaunchKernelEx"] == counts["cuLaunchKernelEx"] > 30


def test_from_the_third_photo_of_a_shape_on_nothing_is_allocated(segment):
    """With the second one weights are prepared."""
    _, _, three = segment(3)
    _, _, five = segment(5)
    for name in "cuMemAlloc_v2", "cuMemHostAlloc", "cuEventCreate", "cuLibraryLoadData":
        assert three[name] == five[name] > 0
    assert "cuMemFree_v2" not in five
    # A photo goes there by one copy through pinned memory; labels and confidence come back.
    assert five["cuMemcpyHtoDAsync_v2"] - three["cuMemcpyHtoDAsync_v2"] == 2
    assert five["cuMemcpyDtoHAsync_v2"] - three["cuMemcpyDtoHAsync_v2"] == 4
    assert "cuMemcpyHtoD_v2" not in five


def test_a_training_step_waits_for_nothing(run):
    """But for the pinned memory through which photo, labels and weights of the classes went.

    The first one looks at the fixed filters, which stops the GPU.
    """
    def count(*arguments):
        process, counts = run("-c", TRAINING, *arguments)
        assert process.returncode == 0, process.stderr
        return counts

    count(1, 1)  # compiles
    few, many, read = count(3, 0), count(6, 0), count(6, 6)
    each = {name: (many[name] - few[name]) / 3 for name in many}
    assert each["cuLaunchKernelEx"] > 100
    assert each["cuMemcpyHtoDAsync_v2"] == each["cuEventSynchronize"] == 3
    assert each["cuMemcpyDtoHAsync_v2"] == 1  # the loss, which is on its way when it is asked for
    for name in ("cuMemAlloc_v2", "cuMemHostAlloc", "cuEventCreate", "cuLibraryLoadData",
                 "cuStreamSynchronize"):
        assert each[name] == 0, name
    assert not {"cuMemFree_v2", "cuMemFreeHost"} & many.keys()
    # Asked for, each loss is waited for, and nothing else.
    assert read["cuEventSynchronize"] - many["cuEventSynchronize"] == 6
    assert read["cuStreamSynchronize"] == many["cuStreamSynchronize"]


def test_arguments_arrive_as_the_kernel_takes_them(run):
    program = """
import numpy as np
from tinyfcn import arrays
from tinyfcn.kernels import cuda

x = arrays.to_device(np.ones((1, 2, 2, 3), np.float32), "cuda:0")
y, z = cuda.dropout(x, 0.5, 2**63 + 5), cuda.scale(x, 0.25)
print(x.address, z.address)
"""
    process, _ = run("-c", program, FAKE_SHOW="dropout")
    assert process.returncode == 0, process.stderr
    x, _ = map(int, process.stdout.split())
    golden = 0x9E3779B97F4A7C15
    shown = [int(line.split()[-1], 16) for line in process.stderr.splitlines()]
    assert shown[:3] == [x, ((2**63 + 5) * golden + golden) % 2**64, 2**52]
    assert np.uint32(shown[3] & 0xFFFFFFFF).view(np.float32) == 2
    process, _ = run("-c", program, FAKE_SHOW="scale")
    x, z = map(int, process.stdout.split())
    shown = [int(line.split()[-1], 16) for line in process.stderr.splitlines()]
    assert shown[::2] == [x, z]
    assert np.uint32(shown[1] & 0xFFFFFFFF).view(np.float32) == 0.25
    assert shown[3] & 0xFFFFFFFF == 12


def test_memory_that_was_in_a_cycle_of_references_is_used_again(run):
    """Numba would free it when that is collected, while it waits for the next array."""
    process, counts = run("-c", """
import gc
import numpy as np
from tinyfcn import arrays
from tinyfcn.kernels.cuda import memory

def cycle(number):
    found = [arrays.to_device(np.full(7, number, np.float32), "cuda:0")]
    found += [memory.Download(found[0]), found]
    return found[0].address

arrays.to_device(np.ones(1), "cuda:0")
gc.disable()
first = {cycle(number) for number in range(20)}
gc.collect()
there = [arrays.to_device(np.full(7, number, np.float32), "cuda:0") for number in range(20)]
assert {array.address for array in there} == first
landed = [memory.Download(array).numbers()[0] for array in there]
assert landed == [arrays.to_host(array)[0] for array in there] == list(range(20))
""")
    assert process.returncode == 0, process.stderr
    assert not {"cuMemFree_v2", "cuMemFreeHost", "cuEventDestroy_v2"} & counts.keys()


def test_another_gpu(segment):
    code, lines, _ = segment(device="cuda:1", FAKE_GPUS=2)
    assert (code, lines) == (0, ["tinyfcn-segment: device cuda:1 (Fake 1, compute capability 9.0)"])
    code, lines, _ = segment(device="cuda:2", FAKE_GPUS=2)
    assert (code, lines) == (2, ["tinyfcn-segment: --device cuda:2: there is no cuda:2: there are "
                                 "2 GPUs, cuda:0 to cuda:1"])


def test_too_little_memory_is_one_line(run, photos, first, tmp_path):
    """What is needed and what there is, for the photo that is too large; the others are done."""
    large = tmp_path / "large.png"
    Image.fromarray(np.zeros((400, 600, 3), np.uint8)).save(large)
    process, _ = run("-m", "tinyfcn.segment", large, photos / "1.png", "--device", "cuda",
                     "--weights", photos / "net.h5", "-o", tmp_path / "out", FAKE_MEMORY=8 << 20)
    assert process.returncode == 1
    _, line = process.stderr.splitlines()
    assert re.fullmatch(rf"tinyfcn-segment: {large}: not enough memory on cuda:0: \d MiB more are "
                        r"needed, \d of 8 MiB are free", line)
    assert process.stdout.startswith(str(photos / "1.png"))
    assert not (tmp_path / "out/large_labels.png").exists()


@pytest.mark.parametrize("status", [2, 46])  # out of memory, busy
def test_a_gpu_that_gives_no_context_is_one_line(status, segment):
    code, lines, _ = segment(FAKE_BUSY=status)
    assert (code, len(lines)) == (2, 1)
    assert lines[0].startswith("tinyfcn-segment: --device cuda: cuda:0 failed: CUDA_ERROR_")
    code, lines, _ = segment(FAKE_BUSY=status, device="auto")
    assert code == 0
    assert lines[0].startswith("tinyfcn-segment: warning: cuda:0 failed: CUDA_ERROR_")
    assert lines[0].endswith("; the CPU is used")


def test_a_gpu_that_disappears_is_one_line_whenever_that_is(segment):
    _, _, counts = segment()
    total = sum(counts.values())
    for at in np.linspace(1, total - 1, 12).astype(int):
        code, lines, _ = segment(FAKE_CALLS=at)
        if code:
            assert "CUDA_ERROR_ILLEGAL_ADDRESS" in lines[-1] or "gives 700" in lines[-1], at
        # At the end there is only memory to be given back.
        assert code or at > 0.8 * total
        assert len(lines) == (1 if code == 2 or not code else 2), at
