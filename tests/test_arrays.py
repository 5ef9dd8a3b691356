"""Devices: which there are, how they are named, and what is said where one is missing."""
import ctypes
import types

import numpy as np
import pytest

from tinyfcn import arrays, benchmark, classify, evaluate, gradcheck, photos, segment, train
from tinyfcn.kernels import devices


class Driver:
    """Answers like the NVIDIA driver of a machine with these GPUs: (name, (major, minor))."""

    def __init__(self, *gpus, version=13000, status=0):
        self.gpus, self.version, self.status = gpus, version, status

    def cuInit(self, flags):
        return self.status

    def cuDriverGetVersion(self, result):
        return self._set(result, self.version)

    def cuDeviceGetCount(self, result):
        return self._set(result, len(self.gpus))

    def cuDeviceGet(self, result, index):
        return self._set(result, 100 + index)

    def cuDeviceGetName(self, text, length, device):
        text.value = self.gpus[device - 100][0].encode()
        return 0

    def cuDeviceGetAttribute(self, result, attribute, device):
        return self._set(result, self.gpus[device - 100][1][{75: 0, 76: 1}[attribute]])

    @staticmethod
    def _set(result, value):
        result._obj.value = value
        return 0


TESLA, NEW, OLD = ("A 75", (7, 5)), ("A 90", (9, 0)), ("A 61", (6, 1))


@pytest.fixture
def machine(monkeypatch):
    """Give a function that makes this a machine with this driver, or without any."""
    for name in "NUMBA_ENABLE_CUDASIM", "NUMBA_DISABLE_CUDA":
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(devices.importlib.util, "find_spec", lambda name: types.SimpleNamespace())
    monkeypatch.setattr(np, "row_stack", np.vstack, raising=False)
    devices.usable_gpus.cache_clear()

    def make(driver):
        def load(name):
            if driver is None:
                raise OSError(name)
            return driver

        monkeypatch.setattr(ctypes, "CDLL", load)

    yield make
    devices.usable_gpus.cache_clear()


@pytest.mark.parametrize("gpus, wanted, found", [
    ((TESLA,), "auto", "cuda:0"),
    ((OLD, NEW), "auto", "cuda:1"),
    ((OLD, NEW), "cuda", "cuda:1"),
    ((TESLA, NEW), "cuda:1", "cuda:1"),
    ((TESLA,), "cpu", "cpu"),
    ((OLD,), "auto", "cpu"),
    ((), "auto", "cpu"),
])
def test_the_device_that_a_user_means(gpus, wanted, found, machine):
    machine(Driver(*gpus))
    assert arrays.find(wanted) == found


def test_a_numpy_that_is_too_new_is_named(machine, monkeypatch):
    machine(Driver(NEW))
    monkeypatch.delattr(np, "row_stack")
    monkeypatch.setattr(np, "__version__", "2.5.2")
    with pytest.raises(arrays.DeviceError) as caught:
        arrays.find("cuda")
    assert str(caught.value) == ("numba-cuda cannot use NumPy 2.5.2, which has no row_stack: "
                                 "pip install 'numpy<2.5'")
    assert arrays.find("auto") == "cpu"


def test_devices_are_described(machine):
    machine(Driver(TESLA, NEW))
    assert arrays.describe("cuda:1") == "cuda:1 (A 90, compute capability 9.0)"
    assert arrays.describe("cpu") == "cpu"


@pytest.mark.parametrize("driver, wanted, message", [
    (None, "cuda", r"there is no NVIDIA driver \((libcuda.so.1|nvcuda.dll) is not found\)"),
    (Driver(), "cuda", "there is no NVIDIA GPU"),
    (Driver(status=100), "cuda", "there is no NVIDIA GPU"),
    (Driver(status=999), "cuda", r"the NVIDIA driver cannot be used \(cuInit gives 999\)"),
    (Driver(NEW, version=12040), "cuda",
     "the NVIDIA driver is for CUDA 12.4, too old: 13.0 is needed"),
    (Driver(OLD), "cuda", r"cuda:0 \(A 61\) has compute capability 6.1; 7.5 is needed"),
    (Driver(NEW, OLD), "cuda:1", r"cuda:1 \(A 61\) has compute capability 6.1; 7.5 is needed"),
    (Driver(NEW), "cuda:1", "there is no cuda:1: there is one GPU, cuda:0"),
    (Driver(NEW, NEW), "cuda:7", "there is no cuda:7: there are 2 GPUs, cuda:0 to cuda:1"),
])
def test_what_is_missing_is_one_line(driver, wanted, message, machine):
    machine(driver)
    with pytest.raises(arrays.DeviceError, match=f"^{message}$"):
        arrays.find(wanted)


def test_a_missing_package_is_named(machine, monkeypatch):
    machine(Driver(NEW))
    monkeypatch.setattr(devices.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(arrays.DeviceError, match="numba-cuda is not installed: pip install"):
        arrays.find("cuda")
    assert arrays.find("auto") == "cpu"


def test_cuda_may_be_switched_off(machine, monkeypatch):
    machine(Driver(NEW))
    monkeypatch.setenv("NUMBA_DISABLE_CUDA", "1")
    with pytest.raises(arrays.DeviceError, match="NUMBA_DISABLE_CUDA is set"):
        arrays.find("cuda")


@pytest.mark.parametrize("name", ["", "gpu", "cuda:", "cuda:-1", "cuda:0x1", "CPU", "cuda:12345"])
def test_other_names_are_an_error(name):
    with pytest.raises(ValueError, match="a device is auto, cpu, cuda or cuda:N"):
        arrays.find(name)


COMMANDS = {
    segment: ["photo.png", "-o", "out"],
    train: ["--data", "data", "-o", "out"],
    evaluate: ["--data", "data"],
    gradcheck: ["--layer", "Add"],
    classify: ["photo.png", "--weights", "net.h5", "--heatmap", "cat", "-o", "out"],
    benchmark: ["--peers", "none"],
}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.PROGRAM)
def test_commands_without_a_usable_gpu(command, machine, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    machine(None)
    assert command.main([*COMMANDS[command], "--device", "cuda"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"{command.PROGRAM}: --device cuda: there is no NVIDIA driver")
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.PROGRAM)
def test_commands_with_another_device(command, capsys):
    assert command.main([*COMMANDS[command], "--device", "gpu0"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "must be auto, cpu, cuda or cuda:N, not 'gpu0'" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("command", [segment, train, evaluate, classify, benchmark],
                         ids=lambda command: command.PROGRAM)
def test_precision_needs_a_gpu(command, capsys):
    arguments = [*COMMANDS[command], "--device", "cpu", "--precision", "tf32"]
    assert command.main(arguments) == 2
    _, err = capsys.readouterr()
    assert err == f"{command.PROGRAM}: --device cpu: the precision tf32 needs a GPU\n"


@pytest.mark.parametrize("error, message", [
    (arrays.DeviceMemoryError("not enough memory on cuda:0: 9 MiB more are needed"),
     "not enough memory on cuda:0: 9 MiB more are needed"),
    (arrays.DeviceError("cuda:0 failed: gone"), "cuda:0 failed: gone"),
])
def test_what_a_gpu_says_while_it_runs_is_one_line(error, message, monkeypatch, capsys):
    def fail(*_):
        raise error

    monkeypatch.setattr(gradcheck, "_rows", fail)
    assert gradcheck.main(["--layer", "Add"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"{gradcheck.PROGRAM}: {message}\n"


def test_a_gpu_that_is_gone_is_not_asked_for_the_next_photo():
    def fail(job):
        raise arrays.DeviceError("cuda:0 failed: gone")

    with pytest.raises(arrays.DeviceError, match="^cuda:0 failed: gone$"):
        photos.do("program", photos.Job("photo.png", "photo"), fail)


def test_arrays_of_the_host_stay_where_they_are():
    x = np.arange(6.0)
    assert arrays.to_host(x) is x
    assert arrays.to_device(x, "cpu") is x
    assert arrays.device_of(x) == "cpu"
    zeros = arrays.zeros_like(x)
    assert zeros.tolist() == [0.0] * 6 and zeros.dtype == x.dtype
    arrays.synchronize()
    arrays.set_precision("float32", "cpu")
