"""Random views: labels follow the pixels exactly, and the generator alone decides."""
import numpy as np
import pytest

from tinyfcn.data.augmentation import random_view

H, W = 120, 200


def coordinates():
    """A photo whose red is the column and whose green is the row of each pixel."""
    photo = np.zeros((H, W, 3), np.uint8)
    photo[..., 0] = np.arange(W)
    photo[..., 1] = np.arange(H)[:, None]
    photo[..., 2] = 99
    return photo


def view(photo, labels, size=(64, 80), seed=0, **options):
    return random_view(photo, labels, size, np.random.default_rng(seed), 255, **options)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("channel", [0, 1])
def test_labels_follow_the_pixels(seed, channel):
    photo = coordinates()
    pixels, labels = view(photo, photo[..., channel], seed=seed, colour=0)
    assert pixels.shape == (64, 80, 3) and labels.shape == (64, 80)
    assert pixels.dtype == labels.dtype == np.uint8
    assert pixels.flags.c_contiguous and labels.flags.c_contiguous
    # The pixel is interpolated and rounded down, the label that of the nearest place.
    difference = labels.astype(int) - pixels[..., channel]
    assert set(np.unique(difference)) <= {0, 1}
    assert (pixels[..., 2] == 99).all()


def steps(seed, scales):
    """How many of the photo's pixels one pixel of the view goes on, right and down."""
    photo = coordinates()
    _, columns = view(photo, photo[..., 0], seed=seed, scales=scales)
    _, rows = view(photo, photo[..., 1], seed=seed, scales=scales)
    across = (int(columns[0, -1]) - int(columns[0, 0])) / (columns.shape[1] - 1)
    down = (int(rows[-1, 0]) - int(rows[0, 0])) / (rows.shape[0] - 1)
    return across, down


def test_scales_keep_the_proportions_and_lie_within_their_bounds():
    found = np.array([steps(seed, (0.8, 1.6)) for seed in range(40)])
    np.testing.assert_allclose(abs(found[:, 0]), found[:, 1], atol=0.03)
    assert (found[:, 1] > 1 / 1.6 - 0.03).all() and (found[:, 1] < 1 / 0.8 + 0.03).all()
    assert found[:, 1].min() < 0.7 and found[:, 1].max() > 1.1
    flipped = (found[:, 0] < 0).mean()
    assert 0.2 < flipped < 0.8


def test_views_come_from_everywhere():
    photo = coordinates()
    corners = [view(photo, photo[..., c], (30, 40), seed, scales=(1, 1.0001))[1].min()
               for seed in range(30) for c in (0, 1)]
    columns, rows = corners[::2], corners[1::2]
    assert min(columns) < 25 and max(columns) > W - 40 - 25
    assert min(rows) < 15 and max(rows) > H - 30 - 15


def test_the_generator_alone_decides():
    photo = coordinates()
    first, second = (view(photo, photo[..., 0], seed=5) for _ in range(2))
    other = view(photo, photo[..., 0], seed=6)
    assert all(np.array_equal(a, b) for a, b in zip(first, second))
    assert not np.array_equal(first[0], other[0])
    assert np.array_equal(photo, coordinates())


@pytest.mark.parametrize("seed", range(5))
def test_what_lies_outside_is_ignored(seed):
    photo, labels = np.full((20, 30, 3), 200, np.uint8), np.full((20, 30), 3, np.uint8)
    pixels, marks = view(photo, labels, (90, 100), seed, scales=(0.8, 1.6), colour=0)
    assert set(np.unique(marks)) == {3, 255}
    inside = marks == 3
    assert (pixels[inside] == 200).all() and (pixels[~inside] == 0).all()
    # The whole photo is in it, as one rectangle.
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    assert inside[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1].all()
    assert 20 * 0.8 - 1 <= rows.size <= 20 * 1.6 + 1
    assert columns.size == pytest.approx(1.5 * rows.size, abs=2)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (119, 3), (120, 200), (300, 7)])
def test_any_size(size):
    photo = coordinates()
    pixels, labels = view(photo, photo[..., 0], size)
    assert pixels.shape == (*size, 3) and labels.shape == size


def test_one_pixel():
    pixels, labels = view(np.full((1, 1, 3), 50, np.uint8), np.zeros((1, 1), np.uint8), (8, 8))
    assert pixels.shape == (8, 8, 3) and set(np.unique(labels)) <= {0, 255}


def test_tint():
    photo, labels = np.full((40, 40, 3), 100, np.uint8), np.zeros((40, 40), np.uint8)
    seen = []
    for seed in range(30):
        pixels, _ = view(photo, labels, (16, 16), seed, colour=0.2)
        assert (pixels == pixels[0, 0]).all()
        seen.append(pixels[0, 0])
    seen = np.array(seen, int)
    # At most: contrast and gain by a fifth each, brightness by a fifth of 128.
    low, high = ((100 - 128) * 1.2 + 128 - 25.6) * 0.8, ((100 - 128) * 0.8 + 128 + 25.6) * 1.2
    assert seen.min() >= int(low) and seen.max() <= high
    assert seen.min() < 85 and seen.max() > 115
    assert np.ptp(seen, axis=1).max() > 10      # channels apart


def turned(colour, seed=0, **options):
    """What a flat photo of this colour becomes."""
    photo, labels = np.full((9, 9, 3), colour, np.uint8), np.zeros((9, 9), np.uint8)
    pixels, _ = view(photo, labels, (4, 4), seed, colour=0, **options)
    assert (pixels == pixels[0, 0]).all()
    return pixels[0, 0].astype(int)


def luminance(colour):
    return colour @ np.array([0.299, 0.587, 0.114])


COLOURS = ([150, 100, 80], [60, 130, 90], [90, 80, 140])


@pytest.mark.parametrize("options", [{"saturation": 0.5}, {"hue": 40},
                                     {"saturation": 0.3, "hue": 20}])
def test_saturation_and_hue_leave_grey_and_luminance(options):
    seen = set()
    for seed in range(20):
        for grey in (0, 1, 128, 254, 255):
            assert turned([grey] * 3, seed, **options).tolist() == [grey] * 3
        for colour in COLOURS:
            found = turned(colour, seed, **options)
            seen.add(tuple(found))
            assert luminance(found) == pytest.approx(luminance(np.array(colour)), abs=1)
    assert len(seen) > 20


def test_saturation_scales_the_distance_from_grey():
    factors = []
    for seed in range(30):
        found = turned([150, 100, 80], seed, saturation=0.5)
        factor = np.ptp(found) / 70
        factors.append(factor)
        grey = luminance(np.array([150, 100, 80]))
        assert found == pytest.approx(grey + factor * (np.array([150, 100, 80]) - grey), abs=1.5)
    assert 0.48 < min(factors) < 0.7 and 1.3 < max(factors) < 1.52


def test_hue_turns_both_ways_and_no_further():
    def angle(colour):
        yiq = np.array([(0.596, -0.274, -0.322), (0.211, -0.523, 0.312)]) @ colour
        return np.degrees(np.arctan2(yiq[1], yiq[0]))

    for colour in COLOURS:
        turns = [angle(turned(colour, seed, hue=30)) - angle(np.array(colour))
                 for seed in range(30)]
        turns = (np.array(turns) + 180) % 360 - 180
        assert -32 < turns.min() < -15 and 15 < turns.max() < 32


def test_saturation_and_hue_leave_the_rest_of_the_view_as_it_is():
    photo = coordinates()
    plain, other = (view(photo, photo[..., 0], seed=4, colour=0, **options)
                    for options in ({}, {"saturation": 0.4, "hue": 10}))
    assert np.array_equal(plain[1], other[1]) and not np.array_equal(plain[0], other[0])


def test_tint_as_it_is_computed_pixel_by_pixel():
    photo = np.random.default_rng(1).integers(0, 256, (30, 40, 3), np.uint8)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        rng.uniform(size=4)                 # scale, place, flip
        contrast, *gains = rng.uniform(0.5, 1.5, 4)
        shift = rng.uniform(-0.5, 0.5) * 128
        plain, _ = view(photo, photo[..., 0], (20, 20), seed, colour=0)
        found, _ = view(photo, photo[..., 0], (20, 20), seed, colour=0.5)
        expected = ((plain.astype(float) - 128) * contrast + 128 + shift) * np.float32(gains)
        assert np.array_equal(found, np.clip(expected, 0, 255).astype(np.uint8))


def test_tint_never_wraps_around():
    photo, labels = np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.uint8)
    photo[:, 32:], labels[:, 32:] = 255, 1
    both = 0
    for seed in range(20):
        pixels, marks = view(photo, labels, (48, 48), seed, colour=0.9, scales=(1, 1.001))
        dark, bright = pixels[marks == 0], pixels[marks == 1]
        if dark.size and bright.size:
            both += 1
            assert (dark.max(axis=0) <= bright.min(axis=0)).all()
    assert both > 10
