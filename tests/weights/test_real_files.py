"""Weights that others trained and published: every tensor that the manifests list."""
import re

import numpy as np
import pytest

from tinyfcn import weights

FORMATS = {
    "denograd_mnist.safetensors": "safetensors",
    "keras_mnist_weights.h5": "Keras weights (HDF5)",
    "mtcnn_12net.h5": "Keras weights (HDF5)",
    "mtcnn_det1.caffemodel": "Caffe model",
    "mtcnn_det1.npy": "NumPy dict (.npy)",
    "mtcnn_pnet.pt": "PyTorch checkpoint (old container)",
    "niknal_weights_good.npz": "NumPy archive (.npz)",
    "torch_lpips_v0.1_vgg.pth": "PyTorch checkpoint (old container)",
    "torch_mnist_electrobusy.pt": "PyTorch checkpoint (old container)",
    "torch_mnist_messiah.pt": "PyTorch checkpoint (zip)",
}


def listed(manifest, name):
    """{tensor: (shape, type)} as the manifest lists them for a file."""
    section = manifest.split(f"## {name}\n")[1].split("\n## ")[0]
    found = {}
    for line in section.splitlines():
        if match := re.fullmatch(r"    (\S+) (\([\d, ]*\)) (\w+)", line):
            found[match[1]] = (eval(match[2], {}), match[3])
        elif name.endswith(".caffemodel") and (
                match := re.fullmatch(r"    (\S+) \w+ (\([\d, ]+\))(?: (\([\d, ]+\)))?", line)):
            for i, shape in enumerate(filter(None, match.groups()[1:])):
                found[f"{match[1]}/{i}"] = (eval(shape, {}), "float32")
    return found


@pytest.mark.parametrize("name", FORMATS)
def test_the_tensors_are_those_of_the_manifest(test_data, name):
    expected = listed(test_data("weights", "MANIFEST.txt").read_text(), name)
    assert expected
    path = test_data("weights", name)
    read = weights.read(path)
    assert read.format == FORMATS[name]
    assert {tensor: (array.shape, str(array.dtype)) for tensor, array in read.items()} == expected
    for array in read.values():
        assert np.isfinite(array).all()
    assert weights.shapes(path) == {tensor: shape for tensor, (shape, _) in expected.items()}
    assert weights.describe(path) == {}


def test_matconvnet(test_data):
    pytest.importorskip("scipy")
    read = weights.read(test_data("weights", "matconvnet_net-epoch-50.mat"))
    assert read.format == "MatConvNet simplenn (MATLAB 5)"
    assert {name: (array.shape, str(array.dtype)) for name, array in read.items()} == {
        "layer1/0": ((3, 3, 1, 20), "float32"), "layer1/1": ((1, 20), "float32"),
        "layer4/0": ((3, 3, 20, 100), "float32"), "layer4/1": ((1, 100), "float32"),
        "layer7/0": ((3, 3, 100, 65), "float32"), "layer7/1": ((1, 65), "float32")}


def test_one_net_in_four_formats_bit_for_bit(test_data):
    """MTCNN's P-Net, and how each project turned it."""
    caffe = weights.read(test_data("weights", "mtcnn_det1.caffemodel"))
    numpy = weights.read(test_data("weights", "mtcnn_det1.npy"))
    keras = weights.read(test_data("weights", "mtcnn_12net.h5"))
    torch = weights.read(test_data("weights", "mtcnn_pnet.pt"))

    def equal(a, b):
        assert a.dtype == b.dtype == np.float32
        np.testing.assert_array_equal(np.asarray(a).view(np.uint32),
                                      np.ascontiguousarray(b).view(np.uint32))

    compared = 0
    for layer in ("conv1", "conv2", "conv3", "conv4-1", "conv4-2"):
        weight, bias = np.ascontiguousarray(caffe[f"{layer}/0"]), caffe[f"{layer}/1"]
        equal(numpy[f"{layer}/weights"], weight.transpose(2, 3, 1, 0))
        equal(keras[f"{layer}/{layer}/kernel:0"], weight.transpose(3, 2, 1, 0))
        equal(torch[f"{layer.replace('-', '_')}.weight"], weight.transpose(0, 1, 3, 2))
        for other in (numpy[f"{layer}/biases"], keras[f"{layer}/{layer}/bias:0"],
                      torch[f"{layer.replace('-', '_')}.bias"]):
            equal(other, bias)
        compared += 2
    for layer in ("PReLU1", "PReLU2", "PReLU3"):
        slopes = caffe[f"{layer}/0"]
        equal(numpy[f"{layer}/alpha"], slopes)
        equal(keras[f"{layer}/{layer}/alpha:0"], slopes.reshape(1, 1, -1))
        equal(torch[f"{layer.lower()}.weight"], slopes)
        compared += 1
    assert compared == len(caffe) == len(numpy) == len(keras) == len(torch) == 13


@pytest.mark.parametrize("folder, v1", [("everpeace_v1", True), ("nandahkrishna", False)])
def test_lenets(test_data, folder, v1):
    read = weights.read(test_data("lenet", folder, "lenet_iter_10000.caffemodel"))
    assert read.format == "Caffe model" + ", V1 layers" * v1
    shapes = {"conv1": ((20, 1, 5, 5), 20), "conv2": ((50, 20, 5, 5), 50), "ip1": ((500, 800), 500),
              "ip2": ((10, 500), 10)}
    for layer, (shape, outputs) in shapes.items():
        lead = (1,) * (4 - len(shape)) if v1 else ()
        assert read[f"{layer}/0"].shape == lead + shape
        assert read[f"{layer}/1"].shape == ((1, 1, 1) if v1 else ()) + (outputs,)
    assert len(read) == 8
    assert all(array.dtype == np.float32 for array in read.values())


@pytest.mark.parametrize("name", ["MANIFEST.txt", "mtcnn_det1.prototxt"])
def test_texts_beside_them_are_no_weights(test_data, refuse, name):
    refuse(test_data("weights", name), "not a weight file of a known format")
