"""What the tests of readers share."""
import re

import numpy as np
import pytest

from tinyfcn import weights


@pytest.fixture
def refuse():
    """Give a function that checks that a file is refused in one line that names it."""
    def check(path, pattern, function=weights.read):
        with pytest.raises(weights.WeightsError) as caught:
            function(path)
        message = str(caught.value)
        assert message.startswith(f"{path}: ")
        assert message.isprintable()
        assert len(message) < len(str(path)) + 600
        assert re.search(pattern, message), message
        return message

    return check


@pytest.fixture
def vgg16():
    """The tensors of a VGG-16 with an eighth of the channels, (out, in, kh, kw) and (out, in).

    {"conv1_1": (weights, bias), ...}, in the order of the net; no two numbers are equal.
    """
    rng = np.random.default_rng(16)
    blocks = (8, 16, 32, 64, 64)
    tensors, inputs = {}, 3
    for block, (channels, count) in enumerate(zip(blocks, (2, 2, 3, 3, 3)), 1):
        for i in range(1, count + 1):
            tensors[f"conv{block}_{i}"] = (channels, inputs, 3, 3)
            inputs = channels
    tensors |= {"fc6": (48, 49 * inputs), "fc7": (48, 48), "fc8": (20, 48)}
    return {name: (rng.standard_normal(shape, np.float32),
                   rng.standard_normal(shape[0], np.float32)) for name, shape in tensors.items()}


def same(tensors, expected):
    """Assert that tensors are those expected: names, order, types, shapes and every bit."""
    assert list(tensors) == list(expected)
    for name, array in expected.items():
        assert tensors[name].dtype == array.dtype, name
        assert tensors[name].shape == array.shape, name
        assert tensors[name].tobytes() == array.tobytes(), name


@pytest.fixture(name="same")
def _same():
    return same


@pytest.fixture(params=["old container", "zip"])
def save(request, tmp_path):
    """Give a function that saves with PyTorch, in each of the two containers."""
    torch = pytest.importorskip("torch")

    def _save(content, name="model.pth"):
        torch.save(content, tmp_path / name,
                   _use_new_zipfile_serialization=request.param == "zip")
        return tmp_path / name

    _save.container = request.param
    return _save
