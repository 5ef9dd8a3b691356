"""The front door of the weight files."""
import os
import subprocess
import sys

import numpy as np
import pytest

from tinyfcn import weights


def test_the_format_is_told_by_content_not_by_name(tmp_path):
    weights.write(tmp_path / "weights.pth", {"a": np.ones(2)}, {})
    assert weights.read(str(tmp_path / "weights.pth"))["a"].tolist() == [1, 1]


def test_sha256_of_known_bytes(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert weights.sha256(tmp_path / "abc") == \
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    with pytest.raises(weights.WeightsError, match="missing: cannot be read: No such file"):
        weights.sha256(tmp_path / "missing")


def test_an_error_is_a_value_error():
    assert issubclass(weights.WeightsError, ValueError)


def test_shipped_weights_are_found_by_the_whole_model_name(tmp_path, monkeypatch):
    for name in ("camvid_fcn8s.h5", "camvid_fcn8s-atonce.h5", "README.md", "camvid_fcn16s.txt"):
        (tmp_path / name).touch()
    monkeypatch.setattr(weights, "__file__", str(tmp_path / "__init__.py"))
    assert weights.shipped("fcn8s") == os.path.join(tmp_path, "camvid_fcn8s.h5")
    assert weights.shipped("fcn8s-atonce") == os.path.join(tmp_path, "camvid_fcn8s-atonce.h5")
    assert weights.shipped("fcn16s") is None
    assert weights.shipped("8s") is None


def test_no_format_library_is_imported_before_a_file_is_read():
    program = "import sys; import tinyfcn.weights; print('h5py' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout == "False\n", result.stderr
