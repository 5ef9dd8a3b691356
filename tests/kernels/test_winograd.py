"""Winograd's algorithm: its matrices exactly, and convolution by it, forwards and backwards."""
import itertools
import pathlib
import runpy
from fractions import Fraction

import numpy as np
import pytest

from tinyfcn.kernels import cpu, winograd_matrices
from tinyfcn.kernels.cpu import (
    algorithms,
    winograd,
    winograd_gradient,
    winograd_weights,
)

HERE = pathlib.Path(__file__).parent
SHARED = runpy.run_path(str(HERE / "convolution_cases.py"))
case, arrays, compare = (SHARED[name] for name in ("case", "arrays", "compare"))

CHOSEN = [(m, r) for r, tiles in algorithms.TILES.items() for m in tiles]
# Tiles that nothing but a pinned algorithm takes: odd, of one pixel, even kernels, the smallest.
OTHERS = [(1, 3), (3, 3), (4, 2), (2, 1)]
# How many times the rounding errors of a plain sum Winograd's may be: its numbers are larger.
MORE_ERROR = 64
# The same against the largest number of the result, in units of the last place.
MOST_ERROR = 400


# ---- the matrices


@pytest.mark.parametrize("m, r", [
    (m, r) for m, r in itertools.product(range(1, 9), range(1, 9)) if m + r - 2 <= 11])
def test_matrices_compute_the_correlation_exactly(m, r):
    a, g, b = winograd_matrices.matrices(m, r)
    n = m + r - 1
    assert [(len(x), len(x[0])) for x in (a, g, b)] == [(n, m), (n, r), (n, n)]
    rng = np.random.default_rng(m * 10 + r)
    d = [Fraction(int(number), 7) for number in rng.integers(-99, 99, n)]
    filter_ = [Fraction(int(number), 3) for number in rng.integers(-99, 99, r)]
    products = [sum(map(Fraction.__mul__, g_row, filter_)) * sum(map(Fraction.__mul__, b_row, d))
                for g_row, b_row in zip(g, b)]
    y = [sum(a[t][i] * products[t] for t in range(n)) for i in range(m)]
    assert y == [sum(d[i + k] * filter_[k] for k in range(r)) for i in range(m)]


def test_the_matrices_of_f_2_3():
    """By hand, from the points 0, 1, -1 and infinity; Lavin and Gray write rows 1 and 2 doubled."""
    a, g, b = winograd_matrices.matrices(2, 3)
    assert a == ((1, 0), (1, 1), (1, -1), (0, 1))
    for g_row, b_row, direction in zip(g, b, [(-1, 0, 1, 0), (0, 1, 1, 0), (0, -1, 1, 0),
                                              (0, -1, 0, 1)]):
        scale = next(x / y for x, y in zip(b_row, direction) if y)
        assert b_row == tuple(scale * y for y in direction)
    assert [[x * b_row[2] for x in g_row] for g_row, b_row in zip(g[1:3], b[1:3])] == [
        [Fraction(1, 2)] * 3, [Fraction(1, 2), Fraction(-1, 2), Fraction(1, 2)]]


def test_points_are_distinct_and_all_used_before_there_are_no_more():
    for count in range(12):
        found = winograd_matrices.points(count)
        assert len(set(found)) == len(found) == min(count, len(found))


@pytest.mark.parametrize("m, r", [(11, 3), (7, 7), (30, 1)])
def test_too_large_tiles_are_an_error(m, r):
    with pytest.raises(ValueError, match=f"no {m + r - 2} points"):
        winograd_matrices.matrices(m, r)
    with pytest.raises(ValueError, match=f"no {m + r - 2} points"):
        cpu.convolution_forward(np.ones((1, 9, 9, 1)), np.ones((r, r, 1, 1)),
                                algorithm=f"winograd-{m}")


# ---- against naive


def small_cases(m, r):
    """Edge sizes for tiles of m and kernels of r, few channels, as the naive loops are slow."""
    return {
        "one pixel": case((1, 1, 1, 3), (r, r, 3, 2), padding=(r // 2, r // 2)),
        "smaller than a tile": case((1, r, r + 1, 2), (r, r, 2, 3)),
        "odd, several images": case((2, m + 1, 5, 1), (r, r, 1, 3), padding=(r // 2, r // 2)),
        "empty batch": case((0, r, r, 2), (r, r, 2, 3)),
        "padding larger than the kernel": case((1, 2, 1, 2), (r, r, 2, 1), padding=(r, r + 1)),
    }


@pytest.mark.parametrize("m, r", CHOSEN + OTHERS)
def test_cpu_gives_what_naive_gives(m, r, rng, dtype, agree):
    for shapes in small_cases(m, r).values():
        compare(shapes, rng, dtype, agree, f"winograd-{m}", MORE_ERROR)


def by_taps(x, w, padding):
    """The convolution in float64, a matrix product for each tap."""
    (py, px), r = padding, w.shape[0]
    padded = np.pad(x.astype(np.float64), ((0, 0), (py, py), (px, px), (0, 0)))
    height, width = (padded.shape[axis] - r + 1 for axis in (1, 2))
    return sum(padded[:, i : i + height, j : j + width] @ w[i, j].astype(np.float64)
               for i in range(r) for j in range(r))


def gradients_by_taps(x, w, gy, padding):
    """The gradients of x and w in float64."""
    (py, px), r = padding, w.shape[0]
    padded = np.pad(x.astype(np.float64), ((0, 0), (py, py), (px, px), (0, 0)))
    gx, gw = np.zeros_like(padded), np.zeros(w.shape)
    gy = gy.astype(np.float64)
    for i in range(r):
        for j in range(r):
            window = np.s_[:, i : i + gy.shape[1], j : j + gy.shape[2]]
            gx[window] += gy @ w[i, j].T.astype(np.float64)
            gw[i, j] = np.einsum("nyxc,nyxk->ck", padded[window], gy)
    return gx[:, py : py + x.shape[1], px : px + x.shape[2]], gw


def pooled(y):
    """Maxima of 2 x 2 pixels, of those there are at the bottom and right."""
    height, width = y.shape[1:3]
    y = np.pad(y, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), constant_values=-np.inf)
    return np.maximum.reduce([y[:, i::2, j::2] for i in (0, 1) for j in (0, 1)])


def relative_error(found, exact):
    """The largest error by the largest number."""
    return np.abs(found - exact).max() / np.abs(exact).max()


def assert_close(found, exact, dtype):
    assert found.dtype == dtype and found.shape == exact.shape
    assert relative_error(found, exact) <= MOST_ERROR * np.finfo(dtype).eps


def check_all(shapes, rng, dtype, algorithm):
    """Hold all results for a case against float64; weights as they are and prepared."""
    x, w, b, gy = arrays(shapes, rng, dtype)
    padding, options = shapes.options["padding"], {**shapes.options, "algorithm": algorithm}
    prepared = cpu.prepare_weights(w, x.shape, **options)
    expected = by_taps(x, w, padding)
    for weights in (w, prepared):
        assert_close(cpu.convolution_forward(x, weights, **options), expected, dtype)
        for pool in (False, True):
            y = cpu.convolution_forward(x, weights, b, relu=True, pool=pool, **options)
            wanted = np.maximum(expected + b, 0)
            assert_close(y, pooled(wanted) if pool else wanted, dtype)
    gx, gw = gradients_by_taps(x, w, gy, padding)
    assert_close(cpu.convolution_backward_input(gy, w, x.shape[1:3], **options), gx, dtype)
    assert_close(cpu.convolution_backward_weights(x, gy, w.shape[:2], **options), gw, dtype)


SIZES = {
    "few tiles, many outputs": case((2, 7, 9, 40), (3, 3, 40, 131), padding=(1, 1)),
    "many tiles, few outputs": case((3, 19, 22, 19), (3, 3, 19, 5), padding=(1, 2)),
    "whole vectors": case((1, 13, 12, 64), (3, 3, 64, 96), padding=(1, 1)),
    "one channel": case((1, 14, 5, 1), (3, 3, 1, 1), padding=(0, 1)),
}


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("m", [4, 6])
def test_many_channels_and_tiles(name, m, rng, dtype):
    check_all(SIZES[name], rng, dtype, f"winograd-{m}")


@pytest.mark.parametrize("m, r", [tile for tile in CHOSEN if tile[1] > 3])
def test_large_kernels(m, r, rng, dtype):
    shapes = case((2, 9, 11, 21), (r, r, 21, 37), padding=(r // 2, 0))
    check_all(shapes, rng, dtype, f"winograd-{m}")


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("u_bytes", [1, 1 << 20])
def test_blocks_do_not_matter(split, u_bytes, monkeypatch, rng, dtype):
    """Both roads, with jobs of one tile and, of the weights, a vector's width of rows at a time."""
    choose = winograd.choose_blocks
    roads = []

    def choose_blocks(*arguments):
        roads.append(choose(*arguments)._replace(split=split))
        return roads[-1]

    monkeypatch.setattr(winograd, "choose_blocks", choose_blocks)
    for name, value in {"V_BYTES": 1, "PRODUCT_BYTES": 1 << 14, "LEAST_TILES": 1}.items():
        monkeypatch.setattr(winograd, name, value)
    for name, value in {"U_BYTES": u_bytes, "PATCH_ROWS": 16}.items():
        monkeypatch.setattr(winograd_weights, name, value)
    for name in ("few tiles, many outputs", "many tiles, few outputs"):
        check_all(SIZES[name], rng, dtype, "winograd-4")
    assert {blocks.split for blocks in roads} == {split}


@pytest.mark.parametrize("batch, panels_bytes", [(5, 0), (10**9, 0), (10**9, 10**9)])
def test_blocks_of_the_gradient_do_not_matter(batch, panels_bytes, monkeypatch, rng, dtype):
    for name, value in {"PART_BYTES": 0, "BATCH_BYTES": 1, "LEAST_BATCH": batch,
                        "PANELS_BYTES": panels_bytes}.items():
        monkeypatch.setattr(winograd_gradient, name, value)
    for shapes in SIZES.values():
        x, w, _, gy = arrays(shapes, rng, dtype)
        _, gw = gradients_by_taps(x, w, gy, shapes.options["padding"])
        found = cpu.convolution_backward_weights(
            x, gy, w.shape[:2], **shapes.options, algorithm="winograd-4")
        assert_close(found, gw, dtype)


# ---- properties


@pytest.mark.parametrize("m, r", CHOSEN)
def test_backward_is_the_adjoint_of_forward(m, r, rng):
    for shapes in (*small_cases(m, r).values(),
                   case((2, 9, 11, 21), (r, r, 21, 37), padding=(r // 2, 1))):
        x, w, _, gy = arrays(shapes, rng, np.float64)
        options = {**shapes.options, "algorithm": f"winograd-{m}"}
        forward = np.vdot(gy, cpu.convolution_forward(x, w, **options))
        gx = cpu.convolution_backward_input(gy, w, x.shape[1:3], **options)
        gw = cpu.convolution_backward_weights(x, gy, w.shape[:2], **options)
        assert np.vdot(gx, x) == pytest.approx(forward, rel=1e-10, abs=1e-9)
        assert np.vdot(gw, w) == pytest.approx(forward, rel=1e-10, abs=1e-9)


@pytest.mark.parametrize("split", [False, True])
def test_a_nan_reaches_no_other_tile(split, rng, dtype):
    """Within a tile it may reach all outputs, which are computed from each other's sums."""
    m = 4
    x, w = rng.standard_normal((2, 16, 16, 5), dtype), rng.standard_normal(
        (3, 3, 5, 200 if split else 3), dtype)
    clean = cpu.convolution_forward(x, w, padding=(1, 1), algorithm=f"winograd-{m}")
    x[1, 9, 10, 2] = np.nan
    for relu in (False, True):
        y = cpu.convolution_forward(x, w, padding=(1, 1), relu=relu, algorithm=f"winograd-{m}")
        nan = np.isnan(y)
        assert nan[1, 8:11, 9:12].all()
        allowed = np.zeros_like(nan)
        allowed[1, 8:12, 8:12] = True
        assert not nan[~allowed].any()
        wanted = np.maximum(clean, 0) if relu else clean
        np.testing.assert_array_equal(y[~allowed], wanted[~allowed])
    # Nor does it stay behind in memory that is used again.
    x[1, 9, 10, 2] = 0
    assert np.isfinite(cpu.convolution_forward(
        x[:, :15, :13, :3], w[:, :, :3], padding=(1, 1), algorithm=f"winograd-{m}")).all()


@pytest.mark.parametrize("outputs", [3, 200])
def test_weights_changed_in_place_are_seen(outputs, rng):
    x, w = rng.standard_normal((1, 12, 12, 16)), rng.standard_normal((3, 3, 16, outputs))
    options = {"padding": (1, 1), "algorithm": "winograd-6"}
    gy = rng.standard_normal((1, 12, 12, outputs))
    cpu.convolution_forward(x, w, **options)
    cpu.convolution_backward_input(gy, w, (12, 12), **options)
    w *= rng.standard_normal(w.shape)
    np.testing.assert_allclose(cpu.convolution_forward(x, w, **options), by_taps(x, w, (1, 1)),
                               rtol=0, atol=1e-10)
    np.testing.assert_allclose(cpu.convolution_backward_input(gy, w, (12, 12), **options),
                               gradients_by_taps(x, w, gy, (1, 1))[0], rtol=0, atol=1e-10)


@pytest.mark.parametrize("w, options", [
    ((3, 5, 4, 4), {}),
    ((3, 3, 4, 4), {"stride": (1, 2)}),
    ((3, 3, 4, 4), {"dilation": (2, 1)}),
    ((3, 3, 2, 4), {"groups": 2}),
])
def test_a_pinned_algorithm_that_does_not_fit_is_an_error(w, options):
    x, w = np.zeros((1, 9, 9, 4)), np.zeros(w)
    y = cpu.convolution_forward(x, w, **options)
    more = {**options, "algorithm": "winograd-4"}
    for run in (lambda: cpu.convolution_forward(x, w, **more),
                lambda: cpu.prepare_weights(w, x.shape, **more),
                lambda: cpu.convolution_backward_input(y, w, (9, 9), **more),
                lambda: cpu.convolution_backward_weights(x, y, w.shape[:2], **more)):
        with pytest.raises(ValueError, match="^convolution: winograd-4 needs a square kernel, "
                                             "stride and dilation 1 and one group, got kernel"):
            run()


# ---- how far off one layer is, in float32


@pytest.mark.parametrize("r, channels, outputs, size", [
    (3, 64, 64, 40), (3, 128, 256, 30), (3, 512, 512, 14), (5, 96, 128, 18), (7, 512, 128, 12)])
def test_one_layers_error_is_at_most_2e_5(r, channels, outputs, size):
    """Of the numbers together; of an output, even its largest error by its largest number."""
    rng = np.random.default_rng(r * channels)
    x = np.maximum(rng.standard_normal((1, size, size, channels), np.float32), 0)
    w = rng.standard_normal((r, r, channels, outputs), np.float32)
    w *= np.float32(np.sqrt(2 / (r * r * channels)))
    gy = rng.standard_normal((1, size, size, outputs), np.float32)
    padding = r // 2, r // 2
    exact = by_taps(x, w, padding)
    exact_gx, exact_gw = gradients_by_taps(x, w, gy, padding)
    for algorithm in ("im2col", *(f"winograd-{m}" for m in algorithms.TILES[r])):
        options = {"padding": padding, "algorithm": algorithm}
        y = cpu.convolution_forward(x, w, **options)
        gx = cpu.convolution_backward_input(gy, w, (size, size), **options)
        gw = cpu.convolution_backward_weights(x, gy, (r, r), **options)
        errors = [np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
                  for found, wanted in ((y, exact), (gx, exact_gx), (gw, exact_gw))]
        assert max(errors) <= 2e-5, (algorithm, errors)
        assert relative_error(y, exact) <= 2e-5, algorithm
