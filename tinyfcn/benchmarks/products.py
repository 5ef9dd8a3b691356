"""The matrix product against NumPy's, on the sizes that the layers of a net amount to.

On a GPU it is a large square one, against cuBLAS.
"""

import logging

import numpy as np

from ..arrays import synchronize, to_device, to_host
from ..kernels import backend, cpu
from ..peers import pytorch
from .timing import FORWARD_TOLERANCE, TOLERANCES, compare, duel, in_turns, summary

# Bytes of the left operand of a matrix product; where a layer has more pixels, not all take part.
PRODUCT_BYTES = 64 << 20
SIDE = 4096

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
    return _totals("NumPy", products)


def square_product(repeat, rng, with_torch, device, precision):
    """The figures of one large product on a GPU, in turns with PyTorch's, which is cuBLAS's."""
    _log.info("matrix product")
    a, b = (rng.standard_normal((SIDE, SIDE), np.float32) for _ in range(2))
    there_a, there_b = to_device(a, device), to_device(b, device)
    multiply = backend(there_a).matrix_product

    def ours():
        c = multiply(there_a, there_b)
        synchronize()
        return c

    # Some rows: the host has all other things to do than so large a product.
    compare("matrix product", to_host(ours())[:64], a[:64].astype(float) @ b,
            TOLERANCES[precision][0])
    figures = {"against": None, "other": None, "ratio": None}
    if with_torch:
        theirs = pytorch.product(a, b, device)
        theirs()
        figures = duel("cuBLAS", in_turns([ours, theirs], repeat, device))
    else:
        figures["ours"] = summary(in_turns([ours], repeat, device)[0])
    return {"layers": [], "size": [SIDE] * 3, "gflop": 2e-9 * SIDE**3, **figures}


def _totals(other, products):
    """The figures of all products together."""
    totals = [sum(each[who]["median"] for each in products) for who in ("ours", "other")]
    return {
        "other": other,
        "sizes": products,
        "seconds": {"ours": totals[0], "other": totals[1]},
        "gflop": sum(each["gflop"] for each in products),
        "ratio": totals[1] / totals[0],
        "lowest_ratio": min(each["ratio"] for each in products),
    }
