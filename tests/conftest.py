"""What all tests share."""
import os
import pathlib
import signal

import pytest

# Side by side, as `-n 2` runs them, threads that wait for each other must not hold the cores.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# In the background of a shell Ctrl-C is ignored, and so it would be by what tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    parser.addoption("--mutations", type=int, default=1, metavar="N",
                     help="change weight files N times as often (tests/weights)")


@pytest.fixture
def test_data():
    """Give a function from parts of a path below the folder of real data to that path.

    The folder is named by TINYFCN_TEST_DATA. Where that is unset, the test is skipped and the
    reason names what it needs; a file that is missing although the folder is named is a failure.
    """
    def find(*parts):
        name = "/".join(parts)
        folder = os.environ.get("TINYFCN_TEST_DATA")
        if not folder:
            pytest.skip(f"TINYFCN_TEST_DATA is not set; needs {name}")
        path = pathlib.Path(folder, *parts)
        if not path.exists():
            pytest.fail(f"TINYFCN_TEST_DATA is set, but {path} does not exist")
        return path

    return find


@pytest.fixture
def data_set(tmp_path):
    """Give a function that makes a data set of small random photos with two classes.

    The label of a pixel is 1 where it is bright and 0 where it is dark; the topmost row is void.
    """
    import json

    import numpy as np
    from PIL import Image

    def make(name="data", train=5, val=2, size=(40, 52), colours=((0, 0, 255), (255, 255, 0))):
        root, rng = tmp_path / name, np.random.default_rng(3)
        root.mkdir()
        (root / "classes.json").write_text(json.dumps(
            {"names": ["dark", "bright"], "colours": colours, "ignore": 9}))
        for split, count in (("train", train), ("val", val)):
            for kind in ("images", "labels"):
                (root / kind / split).mkdir(parents=True)
            for index in range(count):
                labels = np.kron(rng.integers(0, 2, (5, 4)), np.ones((8, 13))).astype(np.uint8)
                labels = labels[:size[0], :size[1]]
                photo = (60 + 120 * labels[..., None] + rng.integers(0, 40, (*labels.shape, 3)))
                labels[0] = 9
                Image.fromarray(photo.astype(np.uint8)).save(root / f"images/{split}/{index}.png")
                Image.fromarray(labels).save(root / f"labels/{split}/{index}.png")
        return root

    return make
