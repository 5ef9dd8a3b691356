"""The steps from a naive kernel to a fast one compute the product too.

Not collected by itself: `test_simulator.py` runs it in Numba's simulator, `gpu.sh` on a GPU.
"""
import numpy as np
import pytest
import roads

from tinyfcn import arrays
from tinyfcn.kernels.cuda import memory


@pytest.mark.parametrize("name", roads.ROADS)
def test_every_road_leads_to_the_product(name, device, rng):
    a, b = rng.standard_normal((128, 16), np.float32), rng.standard_normal((16, 128), np.float32)
    c = memory.empty((128, 128))
    roads.product(roads.ROADS[name], *(arrays.to_device(x, device) for x in (a, b)), c)
    np.testing.assert_allclose(arrays.to_host(c), a @ b, atol=1e-5)
