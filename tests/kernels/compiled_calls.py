"""Compile kernels in a process of their own and say how that went.

A program for test_compilation.py: `python compiled_calls.py JOB...` does the jobs below and prints
a JSON object: the SIMD `bits` in force, cache `hits` and `misses`, what was logged at which level,
whether Numba's optimization level was `level_kept`, and what the jobs return, by their names.
"""
import concurrent.futures
import importlib
import json
import logging
import pkgutil
import sys

import numba
import numpy as np

RECORDS = []


class Recorder(logging.Handler):
    def emit(self, record):
        RECORDS.append((record.levelname, record.getMessage()))


def pool(x):
    from tinyfcn.kernels import cpu
    return cpu.max_pooling_forward(x, (2, 2), (2, 2), keep_argmax=False)[0]


def pooling():
    """The cheapest kernel that calls into another file: the maximum of a window of 1, 2, 3, 4."""
    x = np.array([1, 2, 3, 4], np.float32).reshape(1, 2, 2, 1)
    (number,) = set(pool(np.repeat(x, 64, axis=3)).ravel().tolist())
    return number


def agreement():
    """Names of the kernels whose results are not those of the naive ones or of NumPy."""
    from tinyfcn.kernels import cpu, naive
    from tinyfcn.kernels.cpu import simd
    rng = np.random.default_rng(1)
    wrong = []

    def check(what, actual, expected, terms):
        eps = np.finfo(actual.dtype).eps
        if actual.shape != expected.shape or not np.allclose(
                actual, expected, rtol=8 * eps, atol=8 * eps * terms):
            wrong.append(f"{what} {actual.dtype}")

    for dtype in (np.float32, np.float64):
        lanes = simd.lanes_of(np.dtype(dtype))

        def normal(*shape, dtype=dtype):
            return rng.standard_normal(shape, dtype)

        for n in (1, lanes - 1, lanes, lanes + 1, 2 * lanes - 1, 2 * lanes, 2 * lanes + 1):
            for m in (1, 5, 6, 7, 13, 14, 15, 29):
                for k in (1, lanes, 3 * lanes + 1):
                    a, b = normal(m, k), normal(k, n)
                    expected = a.astype(float) @ b.astype(float)
                    for turn_a in (False, True):
                        for turn_b in (False, True):
                            check(f"matrix_product {m} {k} {n} {turn_a} {turn_b}",
                                  cpu.matrix_product(a.T if turn_a else a, b.T if turn_b else b,
                                                     turn_a, turn_b), expected, k)
        options = {"stride": (2, 1), "padding": (1, 1)}
        x, w, b = normal(2, 5, 6, lanes + 1), normal(3, 3, lanes + 1, lanes + 3), normal(lanes + 3)
        gy = normal(2, 3, 6, lanes + 3)
        terms = 9 * (lanes + 3)
        for name, arguments, more in (
            ("convolution_forward", (x, w, b), {**options, "relu": True}),
            ("convolution_backward_input", (gy, w, (5, 6)), options),
            ("convolution_backward_weights", (x, gy, (3, 3)), options),
            ("transposed_convolution_forward", (gy, w.swapaxes(2, 3)), options),
        ):
            check(name, getattr(cpu, name)(*arguments, **more),
                  getattr(naive, name)(*arguments, **more), terms)
        if dtype == np.float32:
            options, pinned = {"padding": (1, 1)}, {"padding": (1, 1), "algorithm": "winograd-4"}
            gy = normal(2, 5, 6, lanes + 3)
            for name, arguments in (("convolution_forward", (x, w, b)),
                                    ("convolution_backward_weights", (x, gy, (3, 3)))):
                # Winograd's numbers are larger, and so is their rounding.
                check(f"{name} winograd", getattr(cpu, name)(*arguments, **pinned),
                      getattr(naive, name)(*arguments, **options), 16 * terms)
        for c in (1, lanes, 2 * lanes + 1):
            x = normal(1, 5, 6, c)
            check(f"max_pooling {c}", pool(x),
                  naive.max_pooling_forward(x, (2, 2), (2, 2))[0], 1)
    return wrong


def threads():
    """The threading layer in use, if four Python threads get the results that one gets."""
    from tinyfcn.kernels import cpu
    rng = np.random.default_rng(1)
    operands = [(rng.standard_normal((200, 3 * i + 50), np.float32),
                 rng.standard_normal((3 * i + 50, 70), np.float32)) for i in range(20)]
    images = [rng.standard_normal((1, 40, 30 + i, 20), np.float32) for i in range(20)]

    def work(order):
        return {i: (cpu.matrix_product(*operands[i]).tobytes(), pool(images[i]).tobytes())
                for i in order}

    expected = work(range(20))
    orders = [rng.permutation(20) for _ in range(4)]
    with concurrent.futures.ThreadPoolExecutor(4) as executor:
        for found in executor.map(work, orders):
            assert found == expected
    return numba.threading_layer()


def failing():
    """The name of the error with which a kernel does not compile."""
    from tinyfcn.kernels.cpu import elementwise
    try:
        elementwise._add(None, None, None)
    except Exception as error:
        return type(error).__name__


def edit(path, old, new):
    with open(path, encoding="utf-8") as file:
        text = file.read()
    assert text.count(old) == 1, f"{text.count(old)} times in {path}: {old}"
    with open(path, "w", encoding="utf-8") as file:
        file.write(text.replace(old, new))


def edit_then_pooling():
    """What `pooling` gives in a process that imported the kernels before a file was edited."""
    from tinyfcn.kernels.cpu import simd
    edit(simd.__file__, 'fcmp_ordered(">"', 'fcmp_ordered("<"')
    return pooling()


def launchers():
    package = importlib.import_module("tinyfcn.kernels.cpu")
    for module in pkgutil.iter_modules(package.__path__):
        for value in vars(importlib.import_module(f"{package.__name__}.{module.name}")).values():
            if hasattr(value, "compiled"):
                yield value


def main(jobs):
    logger = logging.getLogger("tinyfcn")
    logger.addHandler(Recorder())
    logger.setLevel(logging.INFO)
    level = numba.config.OPT
    from tinyfcn.kernels.cpu import gathered_blocks, simd

    gathered_blocks.PARALLEL_WORK = 0  # all threads take part
    results = {job: globals()[job]() for job in jobs}
    dispatchers = {id(launch.compiled): launch.compiled for launch in launchers()}.values()
    print(json.dumps({
        "bits": simd.BITS,
        "hits": sum(sum(each._cache_hits.values()) for each in dispatchers),
        "misses": sum(sum(each._cache_misses.values()) for each in dispatchers),
        "log": RECORDS,
        "level_kept": numba.config.OPT is level,
        **results,
    }))


if __name__ == "__main__":
    main(sys.argv[1:])
