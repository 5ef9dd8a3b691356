"""The matrix product against NumPy's, on the sizes that the layers of a net amount to."""

import logging

import numpy as np

from ..kernels import cpu
from .timing import FORWARD_TOLERANCE, compare, duel, in_turns

# Bytes of the left operand of a matrix product; where a layer has more pixels, not all take part.
PRODUCT_BYTES = 64 << 20

_log = logging.getLogger(__name__)


def matrix_products(net, works, repeat, rng):
    """Every matrix product of the net's `work_of`, once for each size."""
    _log.info("matrix products")
    sizes = {}
    for name, (_, work) in works.items():
        if work.product is not None:
            m, k, n = work.product
            most = max(1, PRODUCT_BYTES // (4 * k))
            sizes.setdefault((min(m, most), k, n), []).append(name)
    products = []
    for (m, k, n), names in sizes.items():
        a = rng.standard_normal((m, k), np.float32)
        b = net.layers[names[0]].params["weights"].reshape(k, n)

        def ours(a=a, b=b):
            return cpu.matrix_product(a, b)

        def numpys(a=a, b=b):
            return a @ b

        compare(f"matrix product {m} x {k} x {n}", ours(), numpys(), FORWARD_TOLERANCE)
        products.append({"layers": names, "size": [m, k, n], "gflop": 2e-9 * m * k * n,
                         **duel("NumPy", in_turns([ours, numpys], repeat))})
    totals = [sum(each[who]["median"] for each in products) for who in ("ours", "other")]
    return {
        "other": "NumPy",
        "sizes": products,
        "seconds": {"ours": totals[0], "other": totals[1]},
        "gflop": sum(each["gflop"] for each in products),
        "ratio": totals[1] / totals[0],
        "lowest_ratio": min(each["ratio"] for each in products),
    }
