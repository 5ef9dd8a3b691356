"""What all tests share."""
import os
import pathlib

import pytest


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
